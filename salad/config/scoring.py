"""Options of the score of an image."""

from __future__ import annotations

from dataclasses import dataclass

from salad.config.declare import EXPORT, KNOWN_TO_FILES, PREDICT, SCORES_TOO, TEST, option
from salad.errors import InputError
from salad.scores import FUSED, SCORES

IN_SHORT = ", ".join(f"{name} ({spec.help})" for name, spec in SCORES.items())


@dataclass(frozen=True, kw_only=True)
class ScoringOptions:
    """Options of the score."""

    score: str = option(
        "knn",
        f"Score of an image: {IN_SHORT} or {FUSED} (see --fuse). Validation is scored by it and, where no other is "
        "asked for, new images.",
        choices=(*SCORES, FUSED),
        commands=SCORES_TOO,
        of_model=True,
    )
    k: int | None = option(
        None,
        "Nearest normal memory rows that a score is made of  [default: 100, or all where there are fewer]",
        low=1,
        commands=KNOWN_TO_FILES,
        of_model=True,
    )
    backbone: str | None = option(
        None,
        "Frozen network with ImageNet weights for the score backbone: efficientnet_lite0 (extra pretrained) or "
        "resnet18 (weights of torchvision, fetched once)  [default: none]",
        choices=("efficientnet_lite0", "resnet18"),
        commands=SCORES_TOO,
        of_model=True,
    )
    fuse: tuple[str, ...] | None = option(
        None,
        "A score that fused is the mean of, each standardised by validation normals; repeatable  [default: local and, "
        "with --backbone, backbone]",
        choices=tuple(SCORES),
        commands=SCORES_TOO,
        of_model=True,
    )
    local_grid: int = option(
        3,
        "Grid cells along a side in which patch features are compared.",
        low=1,
        high=32,
        commands=SCORES_TOO,
        of_model=True,
    )
    local_rows: int = option(
        10_000,
        "Normal images kept in each of these cells, at most; of more, a coreset.",
        low=1,
        commands=SCORES_TOO,
        of_model=True,
    )
    specificity: float = option(
        0.95,
        "Share of normal validation images that the threshold calls normal.",
        low=0,
        high=1,
        open_low=True,
        commands=(TEST, PREDICT, EXPORT),
    )

    @property
    def parts(self) -> tuple[str, ...]:
        """Scores that `score` is made of: itself, or those to fuse.

        Raises:
            InputError: one of them needs a --backbone.
        """
        parts: tuple[str, ...] = (self.score,)
        if self.score == FUSED:
            parts = tuple(dict.fromkeys(self.fuse or (("local", "backbone") if self.backbone else ("local",))))
        if any(SCORES[part].uses_backbone for part in parts) and self.backbone is None:
            raise InputError(f"--score {self.score} needs a --backbone: give --backbone efficientnet_lite0, say")
        return parts

    @property
    def is_fused(self) -> bool:
        """True where the score is made of several, which have to be standardised."""
        return len(self.parts) > 1
