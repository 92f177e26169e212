"""The kind of a film by its header: in few words of our own, and only where it is plain."""

import numpy as np
import pytest
from dicom_files import SECRET, dataset, with_text

from salad.images.film_facts import facts_of, view_of_words

PIXELS = np.zeros((6, 9), np.uint8)


@pytest.mark.parametrize(
    ("elements", "facts"),
    [
        ({"ViewPosition": "PA", "BodyPartExamined": "CHEST"}, {"view": "PA", "part": "CHEST"}),
        ({"ViewPosition": "LL", "SeriesDescription": "PA"}, {"view": "lateral"}),
        ({"ViewPosition": "odd", "SeriesDescription": "PA"}, {}),
        ({"SeriesDescription": "Thorax p.a. im Stehen"}, {"view": "PA"}),
        ({"SeriesDescription": "Chest Lateral"}, {"view": "lateral"}),
        ({"SeriesDescription": "PA and LAT"}, {}),
        ({"SeriesDescription": "Apex, Paula"}, {}),
        ({"SeriesDescription": "AP", "Modality": "CT"}, {"modality": "CT"}),
        ({"BodyPartExamined": "Chest PA"}, {"view": "PA", "part": "CHEST"}),
        (
            {"BodyPartExamined": "HAND", "PhotometricInterpretation": "MONOCHROME1"},
            {"part": "HAND", "pixels": "MONOCHROME1"},
        ),
        (
            {"BodyPartExamined": "", "Modality": None, "PhotometricInterpretation": "RGB"},
            {"modality": None, "pixels": "colour"},
        ),
    ],
)
def test_facts(elements, facts):
    expected = {"modality": "X-ray", "pixels": "MONOCHROME2", **facts}
    assert facts_of(dataset(PIXELS, **elements)) == {name: value for name, value in expected.items() if value}


def test_no_text_of_a_file_comes_out():
    ds = dataset(PIXELS)
    for name in ("ViewPosition", "BodyPartExamined", "SeriesDescription", "Modality", "PhotometricInterpretation"):
        with_text(ds, name, SECRET)
    assert facts_of(ds) == {}


def test_views_of_tables():
    views = [view_of_words(text) for text in ("pa", "LATERAL", "LL", "L", "sunrise", None)]
    assert views == ["PA", "lateral", "lateral", "lateral", None, None]
