"""Read from the header of a DICOM file what kind of film it is: view, body part, modality, kind of pixels.

Only words of this list leave this module, never the text of a file.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from salad.images.dicom_header import code

if TYPE_CHECKING:
    from pydicom import Dataset

FACT_ELEMENTS = ["ViewPosition", "BodyPartExamined", "SeriesDescription", "Modality", "PhotometricInterpretation"]
LATERAL, OBLIQUE, DECUBITUS = "lateral", "oblique", "decubitus"
VIEWS = {
    **{name: name for name in ("PA", "AP")},
    **dict.fromkeys(("LATERAL", "LAT", "LL", "RL", "L", "R", "LLAT", "RLAT"), LATERAL),
    **dict.fromkeys(("OBLIQUE", "LAO", "RAO", "LPO", "RPO", "LLO", "RLO"), OBLIQUE),
    **dict.fromkeys(("DECUBITUS", "LLD", "RLD"), DECUBITUS),
}
WORDED_VIEW = re.compile(r"(?<![A-Z])(?:(P\.?A\.?)|(A\.?P\.?)|(LAT(?:ERAL)?))(?![A-Z])")
WORDED = ("PA", "AP", LATERAL)  # views of the groups of that pattern
CHEST = "CHEST"
PARTS = {
    **dict.fromkeys((CHEST, "THORAX", "LUNG", "LUNGS"), CHEST),
    **{
        name: name
        for name in (
            *("ABDOMEN", "ANKLE", "ARM", "BREAST", "CALCANEUS", "CLAVICLE", "CSPINE", "ELBOW", "EXTREMITY", "FEMUR"),
            *("FINGER", "FOOT", "FOREARM", "HAND", "HEAD", "HIP", "HUMERUS", "JAW", "KNEE", "LEG", "LSPINE", "NECK"),
            *("PELVIS", "RIB", "SHOULDER", "SKULL", "SPINE", "STERNUM", "THIGH", "THUMB", "TOE", "TSPINE", "WRIST"),
        )
    },
}
FILM = "X-ray"
MODALITIES = {
    **dict.fromkeys(("CR", "DX", "RG", "DR"), FILM),
    **{name: name for name in ("CT", "MG", "MR", "NM", "PT", "RF", "US", "XA")},
}
PIXELS = {
    **{name: name for name in ("MONOCHROME1", "MONOCHROME2")},
    **dict.fromkeys(("PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"), "colour"),
}
Facts = dict[str, str]
"""Facts that a header tells, in words of this module: any of ``view``, ``part``, ``modality`` and ``pixels``."""


def facts_of(ds: Dataset) -> Facts:
    """Collect what a header tells plainly; what it leaves out or says in other words is missing."""
    found = {
        "view": _view(ds),
        "part": part_of_words(code(ds, "BodyPartExamined")),
        "modality": MODALITIES.get(code(ds, "Modality")),
        "pixels": PIXELS.get(code(ds, "PhotometricInterpretation")),
    }
    return {name: value for name, value in found.items() if value is not None}


def view_of_words(text: str | None) -> str | None:
    """Find the view that a data set names, as `facts_of` would call it; None if it is another word."""
    return VIEWS.get((text or "").strip().upper())


def part_of_words(text: str | None) -> str | None:
    """Find the body part that a text begins with, as in ``CHEST PA``; None if it is another word."""
    words = re.split(r"[^A-Z]+", (text or "").upper())
    return PARTS.get(words[0])


def _view(ds: Dataset) -> str | None:
    """Find the view by ViewPosition or, of a radiograph, by other elements that name a single view."""
    if (position := code(ds, "ViewPosition")) or MODALITIES.get(code(ds, "Modality")) != FILM:
        return VIEWS.get(position)
    text = f"{code(ds, 'BodyPartExamined')} {code(ds, 'SeriesDescription')}"
    views = {WORDED[match.lastindex - 1] for match in WORDED_VIEW.finditer(text) if match.lastindex}
    return views.pop() if len(views) == 1 else None
