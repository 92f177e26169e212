"""Compare the maps of test images with the marks of experts, and draw the maps of `--heatmaps DIR`."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from salad.checkpoint import Checkpoint
from salad.datasets.loader import Batch
from salad.errors import InputError
from salad.evaluation.localisation import Localisation, Marks
from salad.evaluation.result import Result
from salad.explaining.explain import Explainer
from salad.explaining.explanation import Explanation
from salad.explaining.make import make_explainer
from salad.explaining.overlays import draw, file_names, save
from salad.images.masks import read_mask
from salad.samples import ABNORMAL, Sample
from salad.scoring.model import ScoringModel

logger = logging.getLogger(__name__)


def locate(
    model: ScoringModel, checkpoint: Checkpoint, *, result: Result, folder: Path | None = None
) -> Localisation | None:
    """Compare the maps of the marked test images with their marks, and draw the maps of all of them into a folder.

    Args:
        model: model that scored the images; the processes of its team share the images.
        checkpoint: checkpoint that the model was loaded from.
        result: of the test split.
        folder: for the pictures; without one, only marked images are looked at, and one that cannot be read is only
            said, because nobody has asked for its map.

    Returns:
        Localisation metrics; None without marked images.

    Raises:
        InputError: with a folder, an image can no longer be read.
        StorageError: a picture cannot be written.
    """
    samples = result.split.samples
    chosen = [i for i, sample in enumerate(samples) if folder is not None or is_marked(sample)]
    if not chosen:
        return None
    loader, marks, reason = model.context.loader(result.split.at(chosen)), Marks(), None
    try:
        survey = _Survey(make_explainer(model, checkpoint), result, folder, marks)
        for batch in tqdm(loader.epoch(0), total=len(loader), desc="heatmaps", leave=False, disable=None):
            survey.look(batch, [chosen[i] for i in batch.index.tolist()])
    except InputError as error:
        if folder is not None:
            raise
        reason = str(error)
    total = Marks()
    for of_process, failed in model.context.team.joined([(marks, reason)]):
        total.merge(of_process)
        reason = reason or failed
    if reason is not None:
        logger.warning("localisation is not measured: %s", reason)
        return None
    if folder is not None:
        survey.say()
    return total.result(seed=model.config.run.seed)


class _Survey:
    """Look at the test images batch by batch, and count the marks that their maps find.

    Args:
        explainer: of the model that scored the images.
        result: of the test split.
        folder: for a picture of each image; None for no pictures.
        marks: gets the counts.
    """

    def __init__(self, explainer: Explainer, result: Result, folder: Path | None, marks: Marks) -> None:
        self.explainer = explainer
        self.result = result
        self.folder = folder
        self.names = file_names([sample.name for sample in result.split.samples])
        self.decoder = explainer.model.context.decoder
        self.marks = marks

    def look(self, batch: Batch, places: list[int]) -> None:
        """Compare a batch with its marks, and draw it; `places` are the indices of its images in the split."""
        explanations = self.explainer.explain(batch.grey, finds_neighbours=self.folder is not None)
        params = self.explainer.preprocessing.fit(batch.grey.to(self.explainer.device))
        for number, (i, explanation) in enumerate(zip(places, explanations, strict=True)):
            sample, own = self.result.split.samples[i], None if params is None else params[number : number + 1]
            mask = self._mask(sample, own) if is_marked(sample) else None
            if is_marked(sample):
                self.marks.add(sample, mask, maps_of(explanation))
            if self.folder is not None:
                save(draw(explanation, mask=mask), self.folder / self.names[i])

    def _mask(self, sample: Sample, params: Tensor | None) -> NDArray[np.bool_] | None:
        """Read the marks of an image in the frame of its maps, of registration `params`; None where they do not fit."""
        mask = read_mask(sample, self.decoder)
        views = self.explainer.views
        is_whole = views is not None and views.is_whole
        return None if mask is None else self.explainer.preprocessing.mark(mask, params, is_whole=is_whole)

    def say(self) -> None:
        """Log the folder of the pictures, and what else it holds."""
        assert self.folder is not None, "pictures were drawn"
        logger.info("heatmaps: %s images in %s", f"{len(self.names):,}", self.folder)
        if num_others := len({path.name for path in self.folder.iterdir()}.difference(self.names)):
            logger.warning("%s: holds %d other files, which are not of this test", self.folder, num_others)


def is_marked(sample: Sample) -> bool:
    """True for abnormal images with boxes or a mask; marks in normal images, of a minority of readers, do not count."""
    return sample.label == ABNORMAL and bool(sample.boxes or sample.mask)


def maps_of(explanation: Explanation) -> dict[str, NDArray[np.float32]]:
    """Collect the maps that share the frame of the scored image, by kind of map."""
    frame = explanation.scored_pixels.shape
    return {kind: found.values for kind, found in explanation.maps.items() if found.values.shape == frame}
