"""Options of preprocessing (from a radiograph to a square of grey levels) and of augmentation."""

from __future__ import annotations

from dataclasses import dataclass

from salad.config.declare import KNOWN_TO_FILES, TRAIN, option
from salad.networks import NETWORKS

DEFAULT_SIZES = ", ".join(f"{spec.default_isize} for {name}" for name, spec in NETWORKS.items())


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """Options of the images."""

    isize: int | None = option(
        None,
        f"Height and width of the images that the network sees, in pixels  [default: {DEFAULT_SIZES}]",
        low=1,
        high=8192,
        commands=KNOWN_TO_FILES,
        of_model=True,
    )
    resize: str = option(
        "squash",
        "Way to make an image square: squash (stretch), pad (add black borders) or crop (keep the middle).",
        choices=("squash", "pad", "crop"),
        commands=KNOWN_TO_FILES,
        of_model=True,
    )
    trim: bool = option(
        False,
        "Cut off black borders and uniform frames before resizing, at most 40 % of a side.",
        commands=KNOWN_TO_FILES,
        of_model=True,
    )
    normalize: str = option(
        "fixed",
        "Normalisation of grey levels: fixed (no change), standardize (mean 0, standard deviation 1, clipped at 3 "
        "standard deviations) or clahe (contrast-limited adaptive histogram equalisation).",
        choices=("fixed", "standardize", "clahe"),
        commands=KNOWN_TO_FILES,
        of_model=True,
    )
    crop: float = option(
        1.0,
        "Share of each side that the network sees, around the middle. Images are decoded at isize / crop pixels, so "
        "that isize pixels remain.",
        low=0,
        high=1,
        open_low=True,
        commands=KNOWN_TO_FILES,
        of_model=True,
    )
    align: bool = option(
        False,
        "Register each image to the mean normal training image (the template) by shift and scale.",
        commands=KNOWN_TO_FILES,
        of_model=True,
    )
    augment: str = option(
        "ssl",
        "Augmentation: ssl (crop, rotation, exposure, blur, noise, local shuffling, cutout) or flip (as released).",
        choices=("ssl", "flip"),
        commands=(TRAIN,),
    )
    n_views: int = option(
        1,
        "Number of augmented views of each image in a batch, each with its own memory row.",
        low=1,
        commands=(TRAIN,),
    )

    @property
    def size(self) -> int:
        """Height and width of the images that the network sees, in pixels: `isize` or its default."""
        assert self.isize is not None, "Config sets the default"
        return self.isize

    @property
    def margin(self) -> int:
        """Width of the border to cut off a decoded image, in pixels; about the share `crop` of a side is left."""
        return round(self.size * (1 / self.crop - 1) / 2)

    @property
    def decoded_size(self) -> int:
        """Height and width of decoded images, in pixels."""
        return self.size + 2 * self.margin
