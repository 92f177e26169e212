"""State what a reader of an exported file has to know to reproduce a score without this program."""

from __future__ import annotations

from typing import Any

from salad.config import Config
from salad.scores import SCORES

INPUT = "grey"
SQUARES = {
    "squash": "stretch the whole film to {side} x {side} pixels, whatever its aspect ratio",
    "pad": "fit the longer side of the film to {side} pixels, keep the aspect ratio, and pad the shorter side with "
    "black (0) to {side} pixels, in equal parts at both ends",
    "crop": "fit the shorter side of the film to {side} pixels, keep the aspect ratio, and keep the middle {side} "
    "pixels of the longer side",
}
FILTER = (
    "resample once, from the decoded film, with a triangle filter (bilinear) whose support grows with the reduction, "
    "as PIL's Image.Resampling.BILINEAR does, and torchvision with antialias=True nearly so; bicubic, Lanczos, box and "
    "bilinear without antialiasing give other scores"
)
OUTSIDE = (
    "DICOM: rescale slope, window (VOI LUT) and inversion of MONOCHROME1",
    "16-bit, 32-bit and float files: stretching to 0..255",
    "EXIF orientation, transparency (on black), colour (ITU-R 601 luma)",
    "trimming of uniform borders, if trim is true",
)


def state(config: Config, *, has_threshold: bool) -> dict[str, Any]:
    """State input, outputs, preparation and decision of a file for scoring, as plain values of JSON.

    Args:
        config: options of the model.
        has_threshold: True if the file holds a threshold.
    """
    images, side = config.images, config.images.decoded_size
    return {
        "input": {
            "name": INPUT,
            "dtype": "uint8",
            "shape": ["batch", 1, side, side],
            "range": [0, 255],
            "meaning": "grey levels of the whole film, 0 black and 255 white, bones bright; not normalised",
        },
        "output": {
            "name": "score",
            "dtype": "float32",
            "shape": ["batch"],
            "meaning": f"anomaly score, larger is more anomalous, without bounds: {_meaning(config)}",
        },
        "preparation": [
            "JPEG: decode at the smallest of 1/1, 1/2, 1/4 and 1/8 of its size of which both sides are at least "
            "shrink_jpeg_to pixels, by the scaling of libjpeg (PIL: draft)",
            "turn the film as its EXIF orientation says, and convert it to 8-bit grey",
            *(["cut off uniform borders (salad.images.trim)"] if images.trim else []),
            SQUARES[images.resize].format(side=side),
            FILTER,
            "give the pixels as they are: registration, crop and normalisation are part of the file",
        ],
        "decision": "abnormal if score > threshold, which specificity of the num_normals normal films behind it do not "
        "exceed"
        if has_threshold
        else "none: the file holds no threshold; take one from the scores of normal films that it was not trained on",
        "outside": OUTSIDE,
    }


def _meaning(config: Config) -> str:
    """Describe the score of a model."""
    scoring = config.scoring
    parts = [f"{part} ({SCORES[part].help})" for part in scoring.parts]
    if scoring.is_fused:
        return f"mean of {', '.join(parts)}, each in standard deviations above the mean of normal films"
    return parts[0]
