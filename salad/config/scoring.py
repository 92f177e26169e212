"""The parameters of how images are scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from salad.config.declare import EXPORT, PREDICT, TEST, option
from salad.config.images import KNOWN_TO_FILES, SCORES_TOO, ImageOptions
from salad.errors import InputError

if TYPE_CHECKING:
    pass

SCORES = ("knn", "weighted", "svdd", "reconstruction", "local", "backbone", "fused")


SCORED_BY = ("score", "k", "backbone", "fuse", "local_grid", "local_rows")  # options that a model is kept with


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(ImageOptions):
    """The part of a `Config` that says what an image's score is made of."""

    k: int | None = option(
        None,
        "Nearest normal memory rows that a score is made of  [default: 100, or all where there are fewer]",
        low=1,
        commands=KNOWN_TO_FILES,
    )
    score: str = option(
        "knn",
        "knn (mean angle), weighted (prototype), svdd (distance to the centre), reconstruction (error), local (maps of "
        "the encoder, place by place), backbone (those of --backbone) or fused (see --fuse). Validation is scored by "
        "it and, where no other is asked for, new images.",
        choices=SCORES,
        commands=SCORES_TOO,
    )
    backbone: str | None = option(
        None,
        "Frozen network with ImageNet weights for the score backbone: efficientnet_lite0 (extra pretrained) or "
        "resnet18 (weights of torchvision, fetched once)  [default: none]",
        choices=("efficientnet_lite0", "resnet18"),
        commands=SCORES_TOO,
    )
    fuse: tuple[str, ...] | None = option(
        None,
        "A score that fused is the mean of, each standardised by validation normals; repeatable  [default: local and, "
        "with --backbone, backbone]",
        choices=SCORES[:-1],
        commands=SCORES_TOO,
    )
    local_grid: int = option(
        3, "Places along a side at which local features are compared.", low=1, high=32, commands=SCORES_TOO
    )
    local_rows: int = option(
        10_000,
        "Normal images kept at each of these places, at most; of more, those that cover all of them best.",
        low=1,
        commands=SCORES_TOO,
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
        """The scores that `score` is made of: itself, or those to fuse.

        Raises:
            InputError: one of them needs a --backbone.
        """
        parts: tuple[str, ...] = (self.score,)
        if self.score == "fused":
            parts = tuple(dict.fromkeys(self.fuse or (("local", "backbone") if self.backbone else ("local",))))
        if "backbone" in parts and self.backbone is None:
            raise InputError(f"--score {self.score} needs a --backbone: give --backbone efficientnet_lite0, say")
        return parts

    @property
    def is_fused(self) -> bool:
        """Whether the score is made of several, which have to be standardised."""
        return len(self.parts) > 1
