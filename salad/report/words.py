"""Sentences about what is shown of each image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from salad.report.content import heat_kind
from salad.report.details import Detail
from salad.scores import LOCAL

if TYPE_CHECKING:
    from salad.checkpoint import Checkpoint
    from salad.config import Config

WHERE = {
    "score": "where it is farther from normal images than these are from each other, by the score's own local features",
    "memory": "where its local features are unlike those of the nearest normal images",
    "error": "where the reconstruction errs",
}


def words(config: Config, checkpoint: Checkpoint, *, details: Sequence[Detail], k: int | None) -> dict[str, Any]:
    """Sentences of the detail view: ``titles`` of its pictures in their order, what is said of the neighbours."""
    parts = [part for part in config.parts if part in LOCAL]
    scales = details[0].scales if details else {}
    sees = "backbone" if parts == ["backbone"] else "network"
    return {
        "titles": {
            "input": f"Image, as the {sees} sees it",
            "recon": "Reconstruction",
            "error": f"Reconstruction error; {scales.get('error', '')}",
            "score": f"Unlike normal images, place by place ({' and '.join(parts)}); {scales.get('score', '')}",
            "memory": f"Unlike the nearest normal images, place by place; {scales.get('memory', '')}",
        },
        "far": _far(config, parts=parts, k=k),
        "no_neighbours": _no_neighbours(checkpoint, parts=parts, is_explained=bool(details)),
    }


def _far(config: Config, *, parts: Sequence[str], k: int | None) -> str:
    if parts:
        which = f", of its parts {' and '.join(parts)}" if config.is_fused else ""
        return f"The score{which}, that the image would have if that one were the only normal image."
    angle = "Angles between embeddings, as shares of π: 0 is the same direction, 0.5 unrelated."
    return angle + (f" The score is the mean angle to the {k} nearest memory rows." if config.score == "knn" else "")


def _no_neighbours(checkpoint: Checkpoint, *, parts: Sequence[str], is_explained: bool) -> str:
    if is_explained and parts:
        return "No neighbours: of more images than --local_rows, the local memory holds other ones at every place."
    if is_explained and not checkpoint.embeds:
        return "No neighbours: no loss has trained the embeddings of this network."
    return "No explanation: the model's maps and neighbours could not be made; the log says why."


def gallery_note(num_cases: int, *, num_images: int, details: Sequence[Detail]) -> str:
    """How its images were picked, and what the cards show."""
    how = (
        f"{num_cases} of {num_images:,} images: both ends of the scores, and the worst mistakes of the threshold "
        "that the slider starts at."
    )
    kind = heat_kind(details[0].pictures) if details else None
    return how if kind is None else f"{how} Right of each image: {WHERE[kind]}. A click opens its details."


def untrained_note(checkpoint: Checkpoint) -> str | None:
    """What the page leaves out because no loss has trained it."""
    absent = [] if checkpoint.reconstructs else ["reconstructions and error maps"]
    absent += [] if checkpoint.embeds else ["a map of embeddings"]
    if not absent:
        return None
    return f"Left out, for no loss has trained this network for them: {', '.join(absent)}."
