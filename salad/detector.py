"""The Python API: a detector that is loaded or fitted, and scores images; it follows scikit-learn's conventions."""

from __future__ import annotations

import contextlib
import itertools
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from salad.checkpoint import load_checkpoint, save_for_scoring
from salad.config import Config
from salad.config.declare import value_from_json
from salad.config.detector_defaults import DEFAULTS, OF_A_MACHINE, check_names, make_signature, with_recipe
from salad.config.scoring import SCORED_BY
from salad.errors import InputError
from salad.images.in_memory import images_of, shown_name
from salad.runs.folder import RunFolder
from salad.scoring.options import scoring_config
from salad.scoring.stream import NOT_CALIBRATED, Scorer
from salad.training.fit import fit_images

if TYPE_CHECKING:
    from sklearn.utils import Tags

    from salad.explaining.explanation import Explanation

logger = logging.getLogger(__name__)


class Detector:
    """Scores how unlike normal radiographs an image is.

    A detector is loaded from a checkpoint, or fitted on normal images. `images` of its methods are a path, a list of
    paths, arrays or tensors (see `images_of`); arrays go through the same steps as files. Its scores are larger for
    more anomalous images. As in scikit-learn, `predict` says 1 for inliers and -1 for outliers, and
    `decision_function` is positive for inliers.

    Args:
        **parameters: options of main.py and test.py by their names, `DEFAULTS`, and val_share, the share of the images
            that `fit` holds out, at least one, to calibrate the scores with (0 for none). xp_path None trains in a
            temporary folder. They are checked when they are used.

    Raises:
        InputError: there is no parameter of this name.
    """

    _estimator_type = "outlier_detector"
    scorer_: Scorer

    def __init__(self, **parameters: Any) -> None:
        check_names(parameters)
        # no attributes of their own: one is called as the method score
        self._parameters = {**DEFAULTS, **with_recipe(parameters)}

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        score: str | None = None,
        k: int | None = None,
        specificity: float = 0.95,
        **parameters: Any,
    ) -> Detector:
        """A detector from a checkpoint.

        Args:
            path: of a file of main.py, of `save`, or of the authors.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
            score: as of test.py  [default: as in training]
            k: nearest normal memory rows  [default: as in training]
            specificity: share of the normal validation images that the threshold calls normal.
            **parameters: others; isize, resize, trim, normalize and crop where the checkpoint, one of the authors,
                does not know them.

        Raises:
            InputError: the file is no checkpoint, or a parameter contradicts it.
            InputError: there is no parameter of this name.
        """
        check_names(parameters)
        checkpoint = load_checkpoint(Path(path))
        given = {"score": score, "k": k}
        asked = {"device": device, "specificity": specificity, **parameters}
        config = scoring_config(
            checkpoint, {**asked, **{name: value for name, value in given.items() if value is not None}}
        )
        trained = {
            name: value_from_json(Config, name, value)
            for name, value in (checkpoint.config or {}).items()
            if name in DEFAULTS.keys() - OF_A_MACHINE
        }
        known = {name: getattr(config, name) for name in [*checkpoint.known(), *asked, *SCORED_BY]}
        detector = cls(**{**trained, **known})
        detector.scorer_ = Scorer(config, checkpoint)
        if detector.scorer_.calibration is None:
            logger.warning("no percentiles and no threshold: %s; calibrate(normal images) sets both", NOT_CALIBRATED)
        return detector

    def fit(self, images: object, y: object = None) -> Detector:
        """Train on normal images, as main.py does; all are held in memory, S * S bytes each.

        On a CPU the process keeps freed memory from then on (see `keep_freed_memory`).

        Args:
            images: of normal patients, all of them.
            y: not used.

        Raises:
            InputError: an image cannot be read, a parameter is not allowed, or xp_path holds a run.
            DivergedError: a loss was not finite.
        """
        parameters = self.get_params()
        share = parameters["val_share"]
        if not 0 <= share < 1:
            raise InputError(f"val_share is {share}, but must be at least 0 and below 1")
        with contextlib.ExitStack() as stack:
            path = Path(parameters["xp_path"] or stack.enter_context(tempfile.TemporaryDirectory()))
            options = {name: parameters[name] for name in parameters.keys() - {"val_share", "xp_path"}}
            config = Config(dataset_name="CXR_author", data_path=Path(), xp_path=path, **options)
            folder = RunFolder(path)
            if not config.overwrite:
                folder.check_free()
            checkpoint = fit_images(images, config=config, val_share=share, folder=folder)
        self.scorer_ = Scorer(config, checkpoint)
        return self

    def score(self, images: object) -> np.ndarray:
        """How unlike normal images each image is, (N,), float64; larger is more anomalous.

        Raises:
            InputError: an image cannot be read.
        """
        scores = []
        for number, one in enumerate(self._scorer().stream(images_of(images))):
            if one.score is None:
                raise InputError(f"{shown_name(one.source)} (number {number}): {one.error}")
            scores.append(one.score)
        return np.array(scores, dtype=np.float64)

    def score_samples(self, images: object) -> np.ndarray:
        """The negative of `score`, for scikit-learn: smaller is more anomalous."""
        return -self.score(images)

    def decision_function(self, images: object) -> np.ndarray:
        """The threshold minus the score, for scikit-learn: negative for outliers, (N,).

        Raises:
            InputError: an image cannot be read, or there is no threshold.
        """
        return self._threshold() - self.score(images)

    def predict(self, images: object) -> np.ndarray:
        """-1 for images that score above the threshold, 1 for others, (N,).

        Raises:
            InputError: an image cannot be read, or there is no threshold.
        """
        return np.where(self.decision_function(images) < 0, -1, 1)

    def fit_predict(self, images: object, y: object = None) -> np.ndarray:
        """`fit`, then `predict` of the same images."""
        return self.fit(images).predict(images)

    def explain(self, image: object) -> Explanation:
        """What the model sees in one image: reconstruction, heatmaps, and the normal images that it is nearest to.

        Of the scores local, backbone and fused the heatmap is `score_map`, and the nearest images are so by the score.
        What no loss has trained, the reconstruction say, is None.

        The first call takes longer: it looks at training and validation images where they lie as in training.

        Raises:
            InputError: the image cannot be read, or there are several.
        """
        sources = [*itertools.islice(images_of(image), 2)]
        if len(sources) != 1:
            raise InputError("explain takes one image at a time")
        return self._scorer().explain(sources[0])

    def calibrate(self, images: object) -> Detector:
        """Let percentiles and the threshold follow from normal images that it has not been trained on.

        Raises:
            InputError: none of them can be read.
        """
        self._scorer().calibrate(images_of(images))
        return self

    @property
    def threshold(self) -> float | None:
        """The score above which an image counts as abnormal; None without scores of normal validation images."""
        calibration = self._scorer().calibration
        return calibration.threshold(self._parameters["specificity"]) if calibration else None

    def percentile(self, scores: ArrayLike) -> np.ndarray | None:
        """Of each score, the share of normal validation images below it, in percent, (N,); None without these."""
        calibration = self._scorer().calibration
        return calibration.percentile(scores) if calibration else None

    def save(self, path: str | Path) -> None:
        """Write a checkpoint that `load` and test.py read: the weights, the memory and the calibration.

        Raises:
            StorageError: it cannot be written.
        """
        scorer = self._scorer()
        calibration, had = scorer.calibration, scorer.config.as_json()
        save_for_scoring(
            Path(path),
            scorer.checkpoint,
            config={**had, **(scorer.checkpoint.config or {}), **{name: had[name] for name in SCORED_BY}},
            parts=scorer.config.parts,
            k=scorer.k,
            standards=scorer.standards and scorer.standards.of,
            val_normal_scores=torch.from_numpy(calibration.scores) if calibration else None,
        )

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name."""
        return dict(self._parameters)

    def set_params(self, **parameters: Any) -> Detector:
        """Change parameters; those of training show in the next `fit`.

        Raises:
            InputError: there is no parameter of this name.
        """
        check_names(parameters)
        self._parameters.update(with_recipe(parameters))
        return self

    def __repr__(self) -> str:
        changed = (f"{name}={value!r}" for name, value in self.get_params().items() if value != DEFAULTS[name])
        return f"Detector({', '.join(changed)})"

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "scorer_")

    def __sklearn_tags__(self) -> Tags:
        from sklearn.utils import InputTags, Tags, TargetTags

        return Tags(
            estimator_type="outlier_detector",
            target_tags=TargetTags(required=False),
            input_tags=InputTags(two_d_array=False, three_d_array=True),
        )

    def _scorer(self) -> Scorer:
        if not self.__sklearn_is_fitted__():
            from sklearn.exceptions import NotFittedError

            raise NotFittedError("this Detector is not fitted: call fit(normal images), or use Detector.load(path)")
        return self.scorer_

    def _threshold(self) -> float:
        threshold = self.threshold
        if threshold is None:
            raise InputError(f"there is no threshold: {NOT_CALIBRATED}; calibrate(normal images) sets one")
        return threshold


Detector.__init__.__signature__ = make_signature()  # type: ignore[attr-defined]
