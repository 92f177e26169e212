"""Options of the score of an image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from salad.config.declare import ENROL, EXPORT, KNOWN_TO_FILES, PREDICT, SCORES_TOO, TEST, option
from salad.errors import InputError
from salad.networks.backbones import DOWNLOAD, check_name
from salad.scores import FUSED, SCORES

OF_ROWS = " and ".join(name for name, spec in SCORES.items() if spec.uses_rows)
SCORE_HELP = ", ".join(f"{name} ({spec.help})" for name, spec in SCORES.items())


@dataclass(frozen=True, kw_only=True)
class ScoringOptions:
    """Options of the score."""

    score: str = option(
        "knn",
        f"Anomaly score: {SCORE_HELP} or {FUSED} (mean of several scores, see --fuse). The model keeps it as the "
        "default of later scoring.",
        choices=(*SCORES, FUSED),
        commands=SCORES_TOO,
        of_model=True,
    )
    k: int | None = option(
        None,
        f"Number of nearest normal memory rows for the scores {OF_ROWS}  [default: 100, or all if fewer]",
        low=1,
        commands=KNOWN_TO_FILES,
        of_model=True,
    )
    backbone: str | None = option(
        None,
        "Frozen network for --score backbone: efficientnet_lite0 (needs the extra pretrained), resnet18 (of "
        "torchvision) or timm:NAME[:BLOCK], a model of timm (needs the extra timm) and the block that its features "
        "come from  [default: none]",
        commands=SCORES_TOO,
        of_model=True,
    )
    backbone_weights: str | None = option(
        None,
        "File of the weights of --backbone (safetensors or torch.save), or download to fetch them once  [default: "
        "those of an installed package, or of an earlier download]",
        commands=(*SCORES_TOO, EXPORT, ENROL),
        may_change=True,
        of_model=True,
    )
    fuse: tuple[str, ...] | None = option(
        None,
        "Part of --score fused (the mean of its parts, each standardised by normal validation images); repeatable  "
        "[default: local and, with --backbone, backbone]",
        choices=tuple(SCORES),
        commands=SCORES_TOO,
        of_model=True,
    )
    local_grid: int = option(
        3,
        "Number of grid cells along a side for the scores local and backbone.",
        low=1,
        high=32,
        commands=SCORES_TOO,
        of_model=True,
    )
    local_rows: int = option(
        10_000,
        "Largest number of normal images in each grid cell of the patch memory; of more, a coreset is kept.",
        low=1,
        commands=SCORES_TOO,
        of_model=True,
    )
    specificity: float = option(
        0.95,
        "Share of normal validation images at or below the threshold, from 0 to 1.",
        low=0,
        high=1,
        open_low=True,
        commands=(TEST, PREDICT, EXPORT, ENROL),
    )

    min_normals: int = option(
        3,
        "Smallest number of normal images, held out of the training, for percentiles and a threshold; fewer than 20 "
        "give a warning.",
        low=1,
        commands=(TEST, PREDICT, EXPORT, ENROL),
    )

    def __post_init__(self) -> None:
        if self.backbone is not None:
            check_name(self.backbone)
        if self.backbone_weights and self.backbone_weights != DOWNLOAD:  # found again from another folder
            object.__setattr__(self, "backbone_weights", str(Path(self.backbone_weights).absolute()))

    @property
    def parts(self) -> tuple[str, ...]:
        """Parts of the score: the score itself, or the scores to fuse.

        Raises:
            InputError: a part needs a --backbone.
        """
        parts: tuple[str, ...] = (self.score,)
        if self.score == FUSED:
            parts = tuple(dict.fromkeys(self.fuse or (("local", "backbone") if self.backbone else ("local",))))
        if any(SCORES[part].uses_backbone for part in parts) and self.backbone is None:
            raise InputError(
                f"--score {self.score} needs a --backbone: give, for example, --backbone efficientnet_lite0"
            )
        return parts

    @property
    def is_fused(self) -> bool:
        """True if the score has several parts, which have to be standardised."""
        return len(self.parts) > 1
