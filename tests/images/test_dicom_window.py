"""Stored values of DICOM files to grey levels, checked against numbers worked out by hand."""

import math

import numpy as np
import pytest
from dicom_files import (
    BIG_ENDIAN,
    DATA,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    RLE,
    Dataset,
    dataset,
    pydicom,
    with_text,
    written,
)
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from salad.errors import InputError
from salad.images.dicom import read_dicom


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
    assert levels([0, 99, 100, 101], **window(100, 1, function)) == [0, 0, 255, 255]


@pytest.mark.parametrize(("centre", "width"), [(150, 100), ([150, 1000], [100, 2000])])
def test_exact_linear_window_and_the_first_of_several(centre, width):
    # ((x - 150) / 100 + 0.5) * 255
    assert levels([0, 100, 125, 150, 199, 200], **window(centre, width, "LINEAR_EXACT")) == [0, 0, 64, 128, 252, 255]


def test_sigmoid_window():
    # 255 / (1 + exp(-4 (x - 150) / 100)); at x = 100 and 200, exp(2) and exp(-2)
    found = levels([0, 100, 150, 200, 60000], **window(150, 100, "SIGMOID"))
    assert found == [1, round(255 / (1 + math.exp(2))), 128, round(255 / (1 + math.exp(-2))), 255]
    assert levels([0, 60000], **window(30000, 0.001, "SIGMOID")) == [0, 255]


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED, RLE])
def test_values_are_signed_where_the_file_says_so(syntax):
    values = np.array([-500, 0, 500], np.int16)
    around_zero = window(0, 1000, "LINEAR_EXACT")
    assert levels(values, syntax=syntax, dtype=np.int16, **around_zero) == [0, 128, 255]
    assert levels(values.view(np.uint16), syntax=syntax, **around_zero) == [255, 128, 255]


@pytest.mark.parametrize(
    ("slope", "intercept", "expected"), [(2, -1000, [0, 0, 128, 255]), (-1, 500, [255, 191, 128, 64]), (0, None, None)]
)
def test_rescale_comes_before_the_window(slope, intercept, expected):
    rescale = {"RescaleSlope": slope, "RescaleIntercept": intercept} if expected else {"RescaleSlope": slope}
    found = levels([0, 250, 500, 750], **rescale, **window(0, 1000, "LINEAR_EXACT"))
    assert found == (expected or [128, 191, 255, 255])  # a slope of 0 would leave nothing of the image


# Look-up tables ---------------------------------------------------------------------------------------------------


ENTRIES = [0, 50, 100, 200]  # as grey levels 0, 64, 128 and 255
SYNTAXES = pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED])


def table(first, entries, *, vr=None, length=None, bits=16, data_vr="US"):
    """A sequence of one LUT, the VR of whose first mapped value may be that of the other sign."""
    item, vr = Dataset(), vr or ("US" if first >= 0 else "SS")
    as_written = np.array(first % 2**16, np.uint16).view(np.int16 if vr == "SS" else np.uint16)
    item.add_new("LUTDescriptor", vr, [len(entries) if length is None else length, int(as_written), bits])
    item.add_new("LUTData", data_vr, entries)
    return [item]


@SYNTAXES
def test_voi_table_goes_before_a_window_and_after_the_rescale(syntax):
    elements = {"VOILUTSequence": table(10, ENTRIES), **window(250, 500)}
    assert levels([0, 9, 10, 11, 12, 13, 500], syntax=syntax, **elements) == [0, 0, 0, 64, 128, 255, 255]
    rescale = {"RescaleSlope": 1, "RescaleIntercept": 10}
    assert levels([0, 1, 2, 3], syntax=syntax, **elements, **rescale) == [0, 64, 128, 255]


@SYNTAXES
def test_modality_table_goes_before_the_window(syntax):
    elements = {"ModalityLUTSequence": table(1, [0, 1000, 4000]), **window(2000, 4000, "LINEAR_EXACT")}
    assert levels([0, 1, 2, 3, 9], syntax=syntax, **elements) == [0, 0, 64, 255, 255]


@SYNTAXES
@pytest.mark.parametrize("vr", ["US", "SS"])
@pytest.mark.parametrize(
    ("name", "dtype", "intercept", "first"),
    [
        ("VOILUTSequence", np.int16, 0, -524),
        ("VOILUTSequence", np.uint16, -1024, -524),
        ("VOILUTSequence", np.uint16, 0, 40000),
        ("VOILUTSequence", np.int16, 40524, 40000),
        ("ModalityLUTSequence", np.int16, 0, -524),
        ("ModalityLUTSequence", np.uint16, 0, 40000),
    ],
)
@pytest.mark.parametrize("bits", [8, 16])
def test_sign_of_the_first_mapped_value(syntax, vr, name, dtype, intercept, first, bits):
    """The VR may be wrong and, in implicit files, is a guess: pixels tell which sign is meant."""
    is_packed, order = bits == 8, ">" if syntax == BIG_ENDIAN else "<"
    entries = np.array(ENTRIES, "u1" if is_packed else f"{order}u2").tobytes()
    elements = {name: table(first, entries, vr=vr, length=4, bits=bits, data_vr="OW"), "RescaleIntercept": intercept}
    values = np.arange(first - 1, first + 5) - intercept
    shown = window(100, 200, "LINEAR_EXACT")
    assert levels(values, syntax=syntax, dtype=dtype, **elements, **shown) == [0, 0, 64, 128, 255, 255]


def test_the_sign_in_the_file_counts_where_no_pixel_falls_into_the_table():
    assert levels([-5, 5], dtype=np.int16, VOILUTSequence=table(-1, [0, 200])) == [0, 255]
    assert levels([39000, 41000], VOILUTSequence=table(40000, [0, 200])) == [0, 255]


@pytest.mark.parametrize(
    "entries", [bytes(ENTRIES), np.array([*ENTRIES, 9], "<u2").tobytes(), [50 * 256, 200 * 256 + 100]]
)
def test_entries_of_eight_bits(entries):
    """Side by side, in words of their own (and one too many), or two in a word."""
    sequence = table(10, entries, length=4, bits=8, data_vr="OW" if isinstance(entries, bytes) else "US")
    assert levels([9, 11, 12, 13], VOILUTSequence=sequence) == [0, 64, 128, 255]


def test_tables_of_other_lengths():
    many = [min(255, i // 2) for i in range(600)]  # of 8 bits, more than these can tell apart
    assert levels([0, 100, 300, 599, 600], VOILUTSequence=table(0, many, bits=8)) == [0, 50, 150, 255, 255]
    most = np.arange(2**16, dtype=np.uint16).tobytes()  # the number of which is written as 0
    assert levels([0, 2**15, 2**16 - 1], VOILUTSequence=table(0, most, length=0, data_vr="OW")) == [0, 128, 255]
    cut_off = table(0, np.arange(300, dtype=np.uint16).tobytes(), length=400, data_vr="OW")
    assert levels([0, 100, 299, 399], VOILUTSequence=cut_off) == [0, 85, 255, 255]
    with pytest.raises(InputError, match="damaged"):
        levels([0, 1], VOILUTSequence=table(0, b"", length=4, data_vr="OW"))


@pytest.mark.parametrize(("name", "apply"), [("vlut_04", apply_voi_lut), ("mlut_18", apply_modality_lut)])
def test_tables_of_real_files_agree_with_pydicom(name, apply):
    ds = pydicom.dcmread(DATA / f"{name}.dcm")
    expected = apply(ds.pixel_array, ds).astype(float)
    ends = [0, 100] if apply is apply_voi_lut else [0.5, 99.5]  # no window, so percentiles
    low, high = np.percentile(expected, ends, method="inverted_cdf")
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
    with_hot_pixels = levels(np.r_[values, [65535] * 40])
    assert with_hot_pixels[5000] > 120 and with_hot_pixels[-1] == 255
    assert levels([7] * 1000 + [9]) == [0] * 1000 + [255]  # nearly all alike: their range
    assert levels([7] * 10) == [0] * 10


@pytest.mark.parametrize("function", [None, "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("centre", "width"), [(100, 0), (100, -5), (100, ""), ("", ""), ([], []), (100, "1e999")])
def test_a_window_that_is_none_counts_as_absent(centre, width, function):
    values = np.arange(1000)
    assert levels(values, **window(centre, width, function)) == levels(values)
    assert levels(values, **window(100, 0.5)) == levels(values)


@pytest.mark.parametrize("name", ["WindowCenter", "WindowWidth"])
def test_a_window_that_is_no_number_counts_as_absent(name):
    values = np.arange(1000)
    ds = with_text(dataset(np.array([values, values], np.uint16), **window(100, 50)), name)
    assert np.asarray(read_dicom(written(ds, IMPLICIT), max_pixels=10**6))[0].tolist() == levels(values)


def test_padding_is_black_and_does_not_count():
    values = np.r_[np.arange(1000), [60000] * 500]
    plain = levels(values[:1000])
    assert levels(values, PixelPaddingValue=60000) == plain + [0] * 500
    several = {"PixelPaddingValue": 60000, "PixelPaddingRangeLimit": 59000}
    values[1000:1250] = 59500
    assert levels(values, **several) == plain + [0] * 500
    inverted = levels(values, **several, PhotometricInterpretation="MONOCHROME1")
    assert inverted == [255 - level for level in plain] + [0] * 500
    assert levels([5] * 10, PixelPaddingValue=5) == [0] * 10


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_negative_padding(syntax):
    values = np.r_[np.arange(-100, 900), [-2000] * 300]
    expected = levels(values[:1000], dtype=np.int16) + [0] * 300
    assert levels(values, syntax=syntax, dtype=np.int16, PixelPaddingValue=-2000) == expected


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
