"""Python API: a detector that is loaded or fitted and scores images, with the interface of scikit-learn."""

from __future__ import annotations

import collections
import contextlib
import itertools
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.exceptions import NotFittedError

from salad.checkpoint import load_checkpoint
from salad.config import OPTIONS, Config
from salad.config.declare import without_removed
from salad.config.recipes import recipe_values
from salad.errors import InputError
from salad.explaining.make import make_explainer
from salad.images.in_memory import Source, images_of, read_source, shown_name
from salad.runs.folder import RunFolder
from salad.scoring.enrol import enrol
from salad.scoring.options import SCORED_BY, scoring_config
from salad.scoring.stream import NOT_CALIBRATED, Scorer
from salad.training.fit import fit_images

if TYPE_CHECKING:
    from sklearn.utils import Tags

    from salad.evaluation.drift import Drift
    from salad.explaining.explain import Explainer
    from salad.explaining.explanation import Explanation

logger = logging.getLogger(__name__)

# options of a training that a loaded detector does not take over
OF_A_MACHINE = {"device", "n_jobs_dataloader", "compile", "xp_path", "load_model", "overwrite", "keep"}


class Detector(OutlierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Anomaly detector for radiographs, loaded from a checkpoint or fitted on normal images.

    The argument `images` of the methods is a path of a file or a folder, a list of such paths, an array or a tensor
    (see `images_of`). A folder stands for all images below it, in the order of `files`. Arrays are preprocessed like
    files. An array (N, H, W) is N grey images; (H, W, C) with at most 4 channels is one image, and so are three or four
    planes (C, H, W) of which the first three are alike. A tensor of other three or four planes is refused: give it as
    (1, C, H, W) or as (C, 1, H, W).

    Scores are larger for more anomalous images. As in scikit-learn, `predict` returns 1 for inliers and -1 for
    outliers, and `decision_function` is positive for inliers.

    The arguments have the names of the options of main.py. None takes the value of the recipe, or else the default of
    main.py. Values are checked on use.

    Args:
        recipe: named set of defaults: ``paper``, ``released``, ``strong`` or ``quick``.
        val_share: share of the images that `fit` holds out to calibrate the scores, at least one image; 0 for none.
        xp_path: folder for checkpoints and logs; None trains in a temporary folder.
        net_name: ``unet`` or ``CXR_resnet18``.
        options: values of other options, by name.
    """

    scorer_: Scorer
    val_share: float
    specificity: float | None

    def __init__(
        self,
        *,
        recipe: str | None = None,
        val_share: float = 0.1,
        xp_path: str | Path | None = None,
        net_name: str = "unet",
        isize: int | None = None,
        resize: str | None = None,
        trim: bool | None = None,
        normalize: str | None = None,
        crop: float | None = None,
        align: bool | None = None,
        augment: str | None = None,
        n_views: int | None = None,
        batch_size: int | None = None,
        n_jobs_dataloader: int | None = None,
        rep_dim: int | None = None,
        weights: str | None = None,
        load_model: str | Path | None = None,
        w_rec: float | None = None,
        w_contrast: float | None = None,
        w_svdd: float | None = None,
        w_syn: float | None = None,
        rec_loss: str | None = None,
        objective: str | None = None,
        nu: float | None = None,
        npc_temperature: float | None = None,
        npc_momentum: float | None = None,
        ans_select_rate: float | None = None,
        ans_size: int | None = None,
        optimizer_name: str | None = None,
        lr: float | None = None,
        lr_milestone: tuple[int, ...] | None = None,
        weight_decay: float | None = None,
        n_epochs: int | None = None,
        pre_training_epochs: int | None = None,
        amp: str | None = None,
        on_collapse: str | None = None,
        score: str | None = None,
        k: int | None = None,
        backbone: str | None = None,
        backbone_weights: str | None = None,
        fuse: tuple[str, ...] | None = None,
        local_grid: int | None = None,
        local_rows: int | None = None,
        specificity: float | None = None,
        min_normals: int | None = None,
        device: str | None = None,
        compile: bool | None = None,  # noqa: A002
        seed: int | None = None,
        deterministic: bool | None = None,
        overwrite: bool | None = None,
        keep: int | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        # scikit-learn wants an attribute for each argument; `score` is a method, so its attribute has another name
        self.__dict__.update({_attribute(name): value for name, value in locals().items() if name != "self"})

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        score: str | None = None,
        k: int | None = None,
        specificity: float = 0.95,
        data_path: str | Path | None = None,
        **options: Any,
    ) -> Detector:
        """Load a detector from a checkpoint.

        Args:
            path: checkpoint of main.py, of `save`, or of the authors.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
            score: a score of test.py  [default: as in training]
            k: number of nearest normal memory rows  [default: as in training]
            specificity: share of normal validation images at or below the threshold, in (0, 1].
            data_path: data set of the training; only checkpoints of the authors need it, to find out which memory rows
                are normal.
            **options: other options of test.py, by name; isize, resize, trim, normalize and crop only for checkpoints
                of the authors, which do not hold them.

        Raises:
            InputError: the file is not a checkpoint, an option contradicts it, or an option does not exist.
        """
        checkpoint = load_checkpoint(Path(path))
        given = {"score": score, "k": k, "data_path": data_path and Path(data_path)}
        asked = {"device": device, "specificity": specificity, **options}
        config = scoring_config(
            checkpoint, {**asked, **{name: value for name, value in given.items() if value is not None}}
        )
        names = {*cls._get_param_names()} - {"val_share", "recipe"}
        trained = {
            name: OPTIONS[name].from_json(value)
            for name, value in without_removed(checkpoint.config or {}).items()
            if name in names - OF_A_MACHINE
        }
        values = config.values()
        known = {name: values[name] for name in [*checkpoint.known(), *asked, *SCORED_BY] if name in names}
        detector = cls(**{**trained, **known})
        detector.scorer_ = Scorer(config, checkpoint)
        detector.scorer_.model.log_warnings()
        if detector.scorer_.model.held_out is None:
            logger.warning("no percentiles and no threshold: %s; calibrate(normal images) sets both", NOT_CALIBRATED)
        return detector

    def fit(self, images: object, y: object = None, *, more_normals: Sequence[object] = ()) -> Detector:
        """Train on normal images like main.py, with all images in memory at S * S bytes each.

        On a CPU the process keeps freed memory from then on (see `keep_freed_memory`).

        Args:
            images: images of normal patients only.
            y: ignored.
            more_normals: further normal images, of other ages, views or hospitals, which join the training and the
                memory, while threshold and percentiles come from `images` alone. A list with a member for each kind: a
                path of a folder or of a table that lists them (see --more_normals of main.py), or a list of images or
                an array.

        Raises:
            InputError: an image cannot be read, an argument has a wrong value, or xp_path holds a run.
            DivergedError: a loss is not finite.
        """
        share = self.val_share
        if not 0 <= share < 1:
            raise InputError(f"val_share is {share}, but must be at least 0 and below 1")
        values = self._values()
        with contextlib.ExitStack() as stack:
            path = Path(values.pop("xp_path", None) or stack.enter_context(tempfile.TemporaryDirectory()))
            config = Config.of({**values, "dataset_name": "CXR_author", "data_path": Path(), "xp_path": path})
            folder = RunFolder(path)
            stack.enter_context(folder.starting())
            if not config.run.overwrite:
                folder.check_free()
            checkpoint = fit_images(images, config=config, val_share=share, folder=folder, more_normals=more_normals)
        self.scorer_ = Scorer(config, checkpoint)
        self.scorer_.model.log_warnings()
        return self

    def _values(self) -> dict[str, Any]:
        """Collect the values of the recipe and the given options, which override it."""
        given = {name: value for name, value in self.get_params().items() if value is not None}
        del given["val_share"]
        given |= given.pop("options", {})
        if "load_model" in given:
            given["load_model"] = Path(given["load_model"])
        recipe = {name: value for name, value in recipe_values(given.get("recipe")).items() if name != "val_share"}
        return {**recipe, **given}

    @staticmethod
    def files(images: object) -> list[Source]:
        """List the images that the argument of the methods stands for, in the order of their scores.

        A folder gives the images in it by name, then those of its sub-folders, one after the other by name. What else
        lies there is counted in the log.

        Returns:
            Paths of files, and arrays of single images.

        Raises:
            InputError: a folder holds no image.
        """
        return [*images_of(images)]

    def score(self, images: object) -> np.ndarray:
        """Compute the anomaly score of each image, (N,), float64; larger is more anomalous.

        Images that show next to nothing, such as black ones, are scored, with a warning in the log.

        Raises:
            InputError: an image cannot be read.
        """
        scores, notes = [], collections.defaultdict(list)
        for number, scored in enumerate(self._scorer().stream(images_of(images))):
            if scored.score is None:
                raise InputError(f"{shown_name(scored.source)} (number {number}): {scored.error}")
            scores.append(scored.score)
            if scored.note:
                notes[scored.note].append(f"{shown_name(scored.source)} (number {number})")
        for note, noted in notes.items():
            logger.warning("%s: %d of %d images, the first is %s", note, len(noted), len(scores), noted[0])
        return np.array(scores, dtype=np.float64)

    def score_samples(self, images: object) -> np.ndarray:
        """Compute the negative of `score`, (N,), as scikit-learn expects: smaller is more anomalous."""
        return -self.score(images)

    def decision_function(self, images: object) -> np.ndarray:
        """Compute the threshold minus the score, (N,), as scikit-learn expects: negative for outliers.

        Raises:
            InputError: an image cannot be read, or there is no threshold.
        """
        return self._threshold() - self.score(images)

    def predict(self, images: object) -> np.ndarray:
        """Predict -1 for images with a score above the threshold and 1 for others, (N,).

        Raises:
            InputError: an image cannot be read, or there is no threshold.
        """
        return np.where(self.decision_function(images) < 0, -1, 1)

    def explain(self, image: object) -> Explanation:
        """Explain one image by its reconstruction, heatmaps and nearest normal images.

        For the scores local, backbone and fused, the heatmap is `score_map`, and the score determines the nearest
        images. Maps that the model does not have, for example of the reconstruction where no loss has trained it, are
        missing in `maps`.

        The first call takes longer: it reads the training and validation images if they are still in place.

        Raises:
            InputError: the image cannot be read, or several images are given.
        """
        sources = [*itertools.islice(images_of(image), 2)]
        if len(sources) != 1:
            raise InputError("explain takes one image at a time")
        grey = torch.tensor(read_source(sources[0], self._scorer().model.context.decoder))[None, None]
        return self._explainer().explain(grey)[0]

    def calibrate(self, images: object) -> Detector:
        """Compute percentiles and the threshold from normal images that are not training images.

        Raises:
            InputError: fewer than `min_normals` images can be read.
        """
        scorer = self._scorer()
        scorer.calibrate(images_of(images))
        scorer.model.log_warnings()
        return self

    def enrol(self, images: object) -> Detector:
        """Add normal images of the place where the detector will be used to its memory, without training.

        Standards, threshold and percentiles then come from these images, each scored without its own rows. The log
        says how far they lie from the earlier normal images; `save` keeps it all.

        Args:
            images: normal images that are not training images, best 20 or more; those that cannot be read and copies
                are left out, which the log says.

        Raises:
            InputError: fewer than `min_normals` images are left; the detector is as it was.
        """
        self.scorer_, enrolment = enrol(self._scorer(), images_of(images))
        for line in enrolment.lines():
            logger.info("%s", line)
        self.scorer_.model.log_warnings()
        return self

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reasons to doubt scores or predictions, one line each, such as a threshold from few normal images.

        `load`, `fit`, `calibrate` and `enrol` log them once.
        """
        return self._scorer().model.warnings

    @property
    def drift(self) -> Drift | None:
        """Comparison of the films of the last call of `score` with the normal films of the calibration.

        Calls of fewer than five films are taken together, up to 200 films. `predict` and `decision_function` are calls,
        too. None before the first one, and after `fit` and `calibrate`.
        """
        return self._scorer().drift

    @property
    def threshold(self) -> float | None:
        """Score above which an image is predicted abnormal; None without scores of normal validation images."""
        calibration = self._scorer().calibration
        specificity = self.specificity or OPTIONS["specificity"].default
        return calibration.threshold(specificity) if calibration else None

    def percentile(self, scores: ArrayLike) -> np.ndarray | None:
        """Compute percentiles among normal validation images, in percent, (N,); None without such images."""
        calibration = self._scorer().calibration
        return calibration.percentile(scores) if calibration else None

    def save(self, path: str | Path) -> None:
        """Write a checkpoint with weights, memory and calibration, for `load` and test.py.

        Raises:
            StorageError: the file cannot be written.
        """
        self._scorer().save(Path(path))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Collect the arguments by name."""
        return {name: getattr(self, _attribute(name)) for name in self._get_param_names()}

    def set_params(self, **parameters: Any) -> Detector:
        """Change arguments; arguments of training take effect in the next `fit`.

        Raises:
            ValueError: an argument does not exist.
        """
        if "score" in parameters:
            self._score = parameters.pop("score")
        super().set_params(**parameters)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "scorer_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = False, True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_explaining"}

    def _scorer(self) -> Scorer:
        """Return the scorer.

        Raises:
            NotFittedError: the detector is neither loaded nor fitted.
        """
        if not self.__sklearn_is_fitted__():
            raise NotFittedError("this Detector is not fitted: call fit(normal images), or use Detector.load(path)")
        return self.scorer_

    def _explainer(self) -> Explainer:
        """Make the explainer of the scorer on first use."""
        scorer = self._scorer()
        held = getattr(self, "_explaining", None)
        if held is None or held[0] is not scorer.model:  # another one after `calibrate`
            self._explaining = held = scorer.model, make_explainer(scorer.model, scorer.checkpoint)
        explainer: Explainer = held[1]
        return explainer

    def _threshold(self) -> float:
        """Return the threshold.

        Raises:
            InputError: the scores are not calibrated.
        """
        threshold = self.threshold
        if threshold is None:
            held_out = self._scorer().model.held_out
            few = held_out and f"only {len(held_out.scores)} normal images are held out, fewer than min_normals"
            raise InputError(f"there is no threshold: {few or NOT_CALIBRATED}; calibrate(normal images) sets one")
        return threshold


def _attribute(name: str) -> str:
    """Name of the attribute that holds an argument."""
    return "_score" if name == "score" else name
