"""Make the explainer of a model: its training images, and the scale of its maps by normal images of val/."""

from __future__ import annotations

import logging
from itertools import islice

import numpy as np

from salad.checkpoint import Checkpoint
from salad.errors import InputError
from salad.explaining.explain import Explainer
from salad.explaining.heatmaps import MIN_NORMALS, Levels
from salad.explaining.maps import DEVIATIONS_RANGE
from salad.explaining.patch_views import make_views
from salad.samples import Split
from salad.scores.inputs import Inputs
from salad.scoring.model import ScoringModel
from salad.scoring.training_images import enrolled_in, find_training_images, find_val, num_views_of

logger = logging.getLogger(__name__)

MOST_NORMALS = 500  # normal images of val/ that set the scale of the maps, at most


def make_explainer(model: ScoringModel, checkpoint: Checkpoint) -> Explainer:
    """Make an explainer that reads neighbours from train/ and scales its maps by the normal images of val/.

    Args:
        model: model that scores the images.
        checkpoint: checkpoint that the model was loaded from.

    Raises:
        InputError: an image of val/ cannot be read and --on_bad_image is not skip.
    """
    assert model.normal_index is not None, "it was loaded from a checkpoint"
    index = model.normal_index.tolist()
    num_views, enrolled = num_views_of(checkpoint), [name for name, _ in enrolled_in(checkpoint)]
    image_of = [row // num_views for row in index]
    num_pictured = len(index) - num_views * len(enrolled)
    first = [number for number, image in enumerate(image_of) if number == 0 or image != image_of[number - 1]]
    views = make_views(model, checkpoint, places=first, find_normals=lambda: _val_normals(model))
    train = _training_images(model, checkpoint, has_views=views is not None)
    images = train.images if train else None

    def read(wanted: list[int]) -> np.ndarray:
        assert images is not None
        pixels = np.empty((len(wanted), images.isize, images.isize), np.uint8)
        images.read([image_of[row] for row in wanted], pixels)
        return pixels

    explainer = Explainer(
        model,
        row_names=[
            *(train.samples[i].name if train else f"row {i * num_views}" for i in image_of[:num_pictured]),
            *(name for name in enrolled for _ in range(num_views)),
        ],
        train_images=read if images else None,
        views=views,
        num_pictured=num_pictured,
        reconstructs=checkpoint.reconstructs,
        embeds=checkpoint.embeds,
    )
    if explainer.reconstructs or explainer.compares_embeddings:
        measure_on_normals(explainer, _val_normals(model))
    return explainer


def _val_normals(model: ScoringModel) -> Split | None:
    """Find the normal images of val/; None if there are fewer than `MIN_NORMALS`.

    Raises:
        InputError: an image cannot be read and --on_bad_image is not skip.
    """
    val = find_val(model.config)
    if val is None or val.num_normal < MIN_NORMALS:
        return None
    return model.context.scan({"val": val.only_normal()})["val"]


def _training_images(model: ScoringModel, checkpoint: Checkpoint, *, has_views: bool) -> Split | None:
    """Find the training images; where they are not available, log the reason and return None."""
    try:
        return find_training_images(model.context, checkpoint)
    except InputError as error:
        logger.info("no %s: %s", "pictures of neighbours" if has_views else "memory maps", error)
        return None


def measure_on_normals(explainer: Explainer, val: Split | None) -> None:
    """Scale the error maps and memory maps of an explainer by normal images.

    Args:
        explainer: to scale.
        val: normal validation images, scanned; None leaves the scale as it is, which is logged.
    """
    context = explainer.model.context
    if val is None:
        what = (
            "error maps are not standardized" if explainer.reconstructs else "maps are not scaled by validation normals"
        )
        logger.info("%s: that needs %d normal images in val/", what, MIN_NORMALS)
        return
    errors, distances = Levels(), Levels()
    batches = context.loader(val, seed=0).epoch(0)  # shuffled, because only the first batches may be used
    for batch in islice(batches, -(-MOST_NORMALS // context.config.data.batch_size)):
        inputs = Inputs(explainer.network, batch.grey.to(explainer.device), explainer.preprocessing)
        seen = explainer.look_at(inputs, finds_neighbours=False)
        for levels, maps in ((errors, seen.errors), (distances, seen.distances)):
            if maps is not None:
                levels.add(maps)
    explainer.levels = errors.measured()
    if (of_distances := distances.measured()) is not None:
        low, high = DEVIATIONS_RANGE
        mean, std = float(of_distances.mean.mean()), float(of_distances.std.square().mean().sqrt())
        explainer.memory_range = mean + low * std, mean + high * std
