"""Options of images: how a radiograph becomes a square of grey levels, and its augmented views."""

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
        f"Height and width that images are resized to, in pixels  [default: {DEFAULT_SIZES}]",
        low=1,
        high=8192,
        commands=KNOWN_TO_FILES,
        of_model=True,
    )
    resize: str = option(
        "squash",
        "How an image becomes square: squash, pad (black borders) or crop (the middle).",
        choices=("squash", "pad", "crop"),
        commands=KNOWN_TO_FILES,
        of_model=True,
    )
    trim: bool = option(
        False,
        "Cut black borders and uniform frames off before that, at most 40 % of a side.",
        commands=KNOWN_TO_FILES,
        of_model=True,
    )
    normalize: str = option(
        "fixed",
        "Grey levels of an image: fixed (as they are), standardize (mean 0, standard deviation 1, cut at 3) or clahe "
        "(contrast-limited adaptive histogram equalisation).",
        choices=("fixed", "standardize", "clahe"),
        commands=KNOWN_TO_FILES,
        of_model=True,
    )
    crop: float = option(
        1.0,
        "Share of each side, around the middle, that the network sees; images are decoded so much larger that it has "
        "isize pixels.",
        low=0,
        high=1,
        open_low=True,
        commands=KNOWN_TO_FILES,
        of_model=True,
    )
    align: bool = option(
        False,
        "Register each image to the template, the mean normal training image, by shifts and scales.",
        commands=KNOWN_TO_FILES,
        of_model=True,
    )
    augment: str = option(
        "ssl",
        "Views: ssl (crop, rotation, exposure, blur, noise, local shuffling, cutout) or flip (as released).",
        choices=("ssl", "flip"),
        commands=(TRAIN,),
    )
    n_views: int = option(
        1,
        "Differently augmented views of an image in a batch, each with its own memory row.",
        low=1,
        commands=(TRAIN,),
    )

    @property
    def size(self) -> int:
        """Height and width that the network sees, in pixels: `isize`, resolved."""
        assert self.isize is not None, "Config has resolved it"
        return self.isize

    @property
    def margin(self) -> int:
        """Pixels that are cut off along each border of a decoded image, so that about the share `crop` is left."""
        return round(self.size * (1 / self.crop - 1) / 2)

    @property
    def decoded_size(self) -> int:
        """Height and width of decoded images, in pixels."""
        return self.size + 2 * self.margin
