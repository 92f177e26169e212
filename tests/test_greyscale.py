"""Stored values of DICOM files to grey levels, checked against numbers worked out by hand and against pydicom."""

import math

import numpy as np
import pytest
from dicom_files import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, RLE, Dataset, dataset, pydicom, written
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from salad.datasets.dicom import read_dicom


def levels(values, *, syntax=EXPLICIT, dtype=np.uint16, **elements):
    """The grey levels of an image of these values."""
    content = written(dataset(np.array([values, values], dtype), **elements), syntax)
    found = np.asarray(read_dicom(content, max_pixels=10**6))
    assert (found[0] == found[1]).all()
    return found[0].tolist()


def window(centre, width, function=None):
    found = {"WindowCenter": centre, "WindowWidth": width}
    return {**found, **({"VOILUTFunction": function} if function else {})}


# Windows (PS3.3 C.11.2.1.2 and C.11.2.1.3) ------------------------------------------------------------------------


@pytest.mark.parametrize("function", [None, "LINEAR", "SOMETHING ELSE"])
def test_linear_window(function):
    # ((x - 149.5) / 100 + 0.5) * 255, black up to 99.5 and white above 199.5
    found = levels([0, 99, 100, 149, 150, 199, 200, 4000], **window(150, 101, function))
    assert found == [0, 0, 1, 126, 129, 254, 255, 255]


def test_exact_linear_window():
    # ((x - 150) / 100 + 0.5) * 255
    assert levels([0, 100, 125, 150, 199, 200], **window(150, 100, "LINEAR_EXACT")) == [0, 0, 64, 128, 252, 255]


def test_sigmoid_window():
    # 255 / (1 + exp(-4 (x - 150) / 100)); at x = 100 and 200, exp(2) and exp(-2)
    found = levels([0, 100, 150, 200, 60000], **window(150, 100, "SIGMOID"))
    assert found == [1, round(255 / (1 + math.exp(2))), 128, round(255 / (1 + math.exp(-2))), 255]


def test_window_of_width_one_is_a_step():
    assert levels([0, 99, 100, 101], **window(100, 1)) == [0, 0, 255, 255]


def test_first_of_several_windows():
    several = window([150, 1000], [100, 2000], "LINEAR_EXACT")
    assert levels([0, 125, 200], **several) == levels([0, 125, 200], **window(150, 100, "LINEAR_EXACT"))


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED, RLE])
def test_values_are_signed_where_the_file_says_so(syntax):
    values = np.array([-500, 0, 500], np.int16)
    around_zero = window(0, 1000, "LINEAR_EXACT")
    assert levels(values, syntax=syntax, dtype=np.int16, **around_zero) == [0, 128, 255]
    assert levels(values.view(np.uint16), syntax=syntax, **around_zero) == [255, 128, 255]


def test_rescale_comes_before_the_window():
    # 2 x - 1000
    rescale = {"RescaleSlope": 2, "RescaleIntercept": -1000}
    found = levels([0, 250, 500, 750, 999], **rescale, **window(0, 1000, "LINEAR_EXACT"))
    assert found == [0, 0, 128, 255, 255]
    falling = {"RescaleSlope": -1, "RescaleIntercept": 1000}
    assert levels([0, 500, 1000], **falling, **window(500, 1000, "LINEAR_EXACT")) == [255, 128, 0]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(-3000, 3000),
    st.integers(2, 5000),
    st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    st.sampled_from([0.5, 1, 2.5, -1]),
    st.integers(-2000, 2000),
    st.booleans(),
)
def test_windows_agree_with_pydicom(centre, width, function, slope, intercept, signed):
    values = np.arange(-2048, 2048, 7, dtype=np.int16) if signed else np.arange(0, 4096, 7, dtype=np.uint16)
    elements = {"RescaleSlope": slope, "RescaleIntercept": intercept, **window(centre, width, function)}
    ds = dataset(values[None], bits=12, **elements)
    twin = apply_voi_lut(apply_modality_lut(values, ds), ds)
    first, last = (-2048, 2047) if signed else (0, 4095)
    black, white = first * slope + intercept, last * slope + intercept
    expected = 255 * (twin - black) / (white - black)
    found = levels(values, dtype=values.dtype, bits=12, **elements)
    assert np.abs(np.array(found) - expected).max() <= 0.5 + 1e-6


# Look-up tables ---------------------------------------------------------------------------------------------------


def table(first, entries, *, bits=16):
    item = Dataset()
    item.add_new("LUTDescriptor", "US" if first >= 0 else "SS", [len(entries), first, bits])
    item.add_new("LUTData", "US", entries)
    return [item]


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED])
def test_voi_table(syntax):
    # from its smallest to its largest entry: 0, 50, 100, 200
    found = levels([0, 9, 10, 11, 12, 13, 500], syntax=syntax, VOILUTSequence=table(10, [0, 50, 100, 200]))
    assert found == [0, 0, 0, 64, 128, 255, 255]


def test_voi_table_comes_before_a_window_and_after_the_rescale():
    both = {"VOILUTSequence": table(10, [0, 50, 100, 200]), **window(250, 500)}
    assert levels([9, 11, 12, 13], **both) == [0, 64, 128, 255]
    assert levels([0, 1, 2, 3], **both, RescaleSlope=1, RescaleIntercept=10) == [0, 64, 128, 255]


def test_voi_table_of_more_entries_than_its_own_values():
    """Eight bits an entry, more than 256 entries."""
    entries = [min(255, i // 2) for i in range(600)]
    assert levels([0, 100, 300, 599, 600], VOILUTSequence=table(0, entries, bits=8)) == [0, 50, 150, 255, 255]


@pytest.mark.parametrize("packed", [False, True])
def test_voi_table_of_bytes(packed):
    entries = np.array([0, 50, 100, 200], np.uint8 if packed else np.uint16)
    (item,) = table(10, [0])
    item.LUTDescriptor = [4, 10, 8]
    item.add_new("LUTData", "OW", entries.tobytes())
    assert levels([9, 11, 12, 13], VOILUTSequence=[item]) == [0, 64, 128, 255]


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_modality_table(syntax):
    elements = {"ModalityLUTSequence": table(1, [0, 1000, 4000]), **window(2000, 4000, "LINEAR_EXACT")}
    assert levels([0, 1, 2, 3, 9], syntax=syntax, **elements) == [0, 0, 64, 255, 255]


def test_table_that_starts_below_zero():
    found = levels([-3, -2, -1, 0, 1], dtype=np.int16, VOILUTSequence=table(-2, [0, 100, 200]))
    assert found == [0, 0, 128, 255, 255]


@pytest.mark.parametrize(("name", "is_voi"), [("vlut_04", True), ("mlut_18", False)])
def test_tables_of_real_files_agree_with_pydicom(name, is_voi):
    from test_dicom import DATA

    ds = pydicom.dcmread(DATA / f"{name}.dcm")
    expected = (apply_voi_lut if is_voi else apply_modality_lut)(ds.pixel_array, ds).astype(float)
    if not is_voi:  # no window, so percentiles
        low, high = np.percentile(expected, [0.5, 99.5], method="inverted_cdf")
    else:
        low, high = expected.min(), expected.max()
    found = np.asarray(read_dicom((DATA / f"{name}.dcm").read_bytes(), max_pixels=10**6))
    assert np.abs(found - np.clip((expected - low) / (high - low), 0, 1) * 255).max() <= 0.51


# No window --------------------------------------------------------------------------------------------------------


def test_percentile_window():
    # ten pixels each of 0..999: half a per cent lies up to 4, as much above 994
    values = np.repeat(np.arange(1000), 10)
    found = np.array(levels(values))
    assert found[values == 4].max() == 0 and found[values == 994].min() == 255
    assert found[values == 499].tolist() == [128] * 10  # (499 - 4) / 990 * 255 = 127.5
    assert found[values == 202].tolist() == [51] * 10


@pytest.mark.parametrize(
    "useless",
    [window(100, 0), window(100, -5), window(100, 0.5), window("", ""), window(100, ""), window([], [])],
)
def test_a_window_that_is_none_counts_as_absent(useless):
    values = np.arange(1000)
    assert levels(values, **useless) == levels(values)


def test_a_few_values_far_off_do_not_darken_the_image():
    values = np.r_[np.arange(1000), [65535] * 4]
    found = levels(values)
    assert found[500] > 120 and found[-1] == 255


def test_nearly_all_pixels_the_same():
    assert levels([7] * 1000 + [9]) == [0] * 1000 + [255]
    assert levels([7] * 10) == [0] * 10


def test_padding_is_black_and_does_not_count():
    values = np.r_[np.arange(1000), [60000] * 500]
    plain = levels(values[:1000])
    assert levels(values, PixelPaddingValue=60000) == plain + [0] * 500
    several = {"PixelPaddingValue": 60000, "PixelPaddingRangeLimit": 59000}
    values[1000:1250] = 59500
    assert levels(values, **several) == plain + [0] * 500
    inverted = levels(values, **several, PhotometricInterpretation="MONOCHROME1")
    assert inverted == [255 - level for level in plain] + [0] * 500


def test_negative_padding():
    values = np.r_[np.arange(-100, 900), [-2000] * 300]
    expected = levels(values[:1000], dtype=np.int16) + [0] * 300
    for syntax in (IMPLICIT, EXPLICIT):
        assert levels(values, syntax=syntax, dtype=np.int16, PixelPaddingValue=-2000) == expected


def test_all_pixels_are_padding():
    assert levels([5] * 10, PixelPaddingValue=5) == [0] * 10


# Inversion --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("photometric", "shape", "is_inverted"),
    [
        ("MONOCHROME2", None, False),
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME1", None, True),
        ("MONOCHROME1", "INVERSE", True),  # as the standard has it: one inversion, said twice
        ("MONOCHROME1", "IDENTITY", True),
    ],
)
def test_inversion(photometric, shape, is_inverted):
    elements = {"PhotometricInterpretation": photometric, **({"PresentationLUTShape": shape} if shape else {})}
    found = levels([0, 250, 1000], **elements, **window(500, 1000, "LINEAR_EXACT"))
    assert found == ([255, 191, 0] if is_inverted else [0, 64, 255])
