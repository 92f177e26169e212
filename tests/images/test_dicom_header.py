"""Elements that describe the pixels, in whatever VR and form they are written."""

import numpy as np
import pytest
from dicom_files import BIG_ENDIAN, EXPLICIT, IMPLICIT, Dataset, dataset, pydicom, written

from salad.errors import InputError
from salad.images.dicom import read_dicom
from salad.images.dicom_header import code, number, numbers, whole_number

FILM = np.add.outer(np.arange(40) * 30, np.arange(50) * 20).astype(np.int16) - 500


def grey(ds, syntax=EXPLICIT):
    return np.asarray(read_dicom(written(ds, syntax), max_pixels=10**6))


def with_element(ds, name, vr, value):
    """A dataset with an element in a VR of one's own."""
    tag = pydicom.datadict.tag_for_keyword(name)
    if name in ds:
        del ds[tag]
    ds.add(pydicom.DataElement(tag, vr, value, validation_mode=pydicom.config.IGNORE))
    return ds


def raw(name, value):
    """Elements with one of which only the bytes are known, as in a file."""
    ds = Dataset()
    tag = pydicom.datadict.tag_for_keyword(name)
    ds._dict[pydicom.tag.Tag(tag)] = pydicom.dataelem.RawDataElement(
        pydicom.tag.Tag(tag), pydicom.datadict.dictionary_VR(tag), len(value), value, 0, False, True
    )
    ds._read_implicit, ds._read_little = False, True
    return ds


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"1.5 ", 1.5),
        (b" 1.5", 1.5),
        (b"1,5 ", 1.5),
        (b"+1.5E+02", 150),
        (b"15e-1\0", 1.5),
        (b"-3\\7 ", -3),
        (b"  ", 1),
        (b"", 1),
    ],
)
def test_numbers_as_text(value, expected):
    assert number(raw("RescaleSlope", value), "RescaleSlope", default=1) == expected


@pytest.mark.parametrize("value", [b"one ", b"1.2.3 ", b"nan ", b"1e999 ", b"\xff\xfe"])
def test_text_that_is_no_number_is_refused_by_name(value):
    with pytest.raises(InputError, match="^a DICOM file whose RescaleSlope is not a number$"):
        number(raw("RescaleSlope", value), "RescaleSlope", default=1)


def test_whole_numbers():
    assert whole_number(raw("NumberOfFrames", b"7 "), "NumberOfFrames") == 7
    assert whole_number(raw("NumberOfFrames", b""), "NumberOfFrames", default=1) == 1
    assert whole_number(raw("Rows", b"\x02\x01"), "Rows") == 258
    for value in (b"7.5 ", b"7\\8 ", b"x "):
        with pytest.raises(InputError, match="^a DICOM file whose NumberOfFrames is not one whole number$"):
            whole_number(raw("NumberOfFrames", value), "NumberOfFrames")
    with pytest.raises(InputError, match="^a DICOM file without Rows$"):
        whole_number(Dataset(), "Rows")


def test_several_values_and_codes():
    assert numbers(raw("WindowCenter", b"\\20\\x "), "WindowCenter") == [None, 20, None]
    assert code(raw("VOILUTFunction", b" sigmoid "), "VOILUTFunction") == "SIGMOID"
    assert code(raw("VOILUTFunction", b"A\\B "), "VOILUTFunction") == "" == code(Dataset(), "VOILUTFunction")


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize(
    ("vr", "value"), [("SS", -2000), ("US", 63536), ("LO", "-2000"), ("DS", "-2000"), ("IS", "63536")]
)
@pytest.mark.parametrize("is_range", [False, True])
def test_padding_in_any_vr(syntax, vr, value, is_range):
    padded = np.where(np.arange(50) < 12, np.int16(-2000), FILM)
    if is_range:
        padded[:, :6] = -1990
    ds = with_element(dataset(padded), "PixelPaddingValue", vr, value)
    if is_range:
        ds = with_element(ds, "PixelPaddingRangeLimit", "US", 63546)
    if syntax == IMPLICIT and vr not in ("SS", "US"):
        pytest.skip("text without a VR cannot be told from numbers")
    found = grey(ds, syntax)
    assert (found[:, :12] == 0).all()
    assert np.array_equal(found[:, 12:], grey(dataset(FILM[:, 12:].copy())))


@pytest.mark.parametrize("value", [63536, 2096])
def test_padding_of_twelve_bits(value):
    padded = np.where(np.arange(50) < 12, np.int16(-2000), FILM)
    found = grey(with_element(dataset(padded, bits=12), "PixelPaddingValue", "US", value))
    assert (found[:, :12] == 0).all()
    assert np.array_equal(found[:, 12:], grey(dataset(FILM[:, 12:].copy())))


@pytest.mark.parametrize("value", [-5536, 60000])
def test_padding_of_unsigned_pixels(value):
    film = (FILM + 500).astype(np.uint16)
    padded = np.where(np.arange(50) < 12, np.uint16(60000), film)
    found = grey(with_element(dataset(padded), "PixelPaddingValue", "SS" if value < 0 else "US", value))
    assert (found[:, :12] == 0).all()
    assert np.array_equal(found[:, 12:], grey(dataset(film[:, 12:].copy())))


@pytest.mark.parametrize(
    ("elements", "same"),
    [
        (
            {"RescaleSlope": ("LO", "0,5"), "RescaleIntercept": ("SH", " 1e2 ")},
            {"RescaleSlope": 0.5, "RescaleIntercept": 100},
        ),
        ({"RescaleSlope": ("FD", 0.5), "RescaleIntercept": ("SS", -7)}, {"RescaleSlope": 0.5, "RescaleIntercept": -7}),
        ({"RescaleIntercept": ("US", 40)}, {"RescaleIntercept": 40}),
        ({"RescaleSlope": ("DS", ""), "RescaleIntercept": ("DS", None)}, {}),
    ],
)
def test_rescale_in_any_vr(elements, same):
    shown = {"WindowCenter": 100, "WindowWidth": 400}
    ds = dataset(FILM, **shown)
    for name, (vr, value) in elements.items():
        with_element(ds, name, vr, value)
    assert np.array_equal(grey(ds), grey(dataset(FILM, **shown, **same)))


@pytest.mark.parametrize(
    ("centre", "width"),
    [
        ("100", "400"),
        ("1E+2 ", "4.0e2"),
        ("100,0", "400,0"),
        ("100\\7", "400\\7"),
        ("\\100", "\\400"),
        ("7\\100", "0\\400"),
        ("7\\100", "-3\\400"),
        ("x\\100", "7\\400"),
    ],
)
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_first_window_that_is_one(centre, width, syntax):
    expected = grey(dataset(FILM, WindowCenter=100, WindowWidth=400))
    ds = with_element(with_element(dataset(FILM), "WindowCenter", "LO", centre), "WindowWidth", "LO", width)
    assert np.array_equal(grey(ds, syntax), expected)


@pytest.mark.parametrize("vr", ["DS", "US", "IS", "LO"])
def test_sizes_in_any_vr(vr):
    ds = dataset(FILM)
    for name in ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel"):
        value = int(ds[name].value)
        with_element(ds, name, vr, value if vr == "US" else str(value))
    assert np.array_equal(grey(ds), grey(dataset(FILM)))


def test_codes_in_another_form():
    ds = with_element(dataset(FILM), "PhotometricInterpretation", "LO", " monochrome1 ")
    assert np.array_equal(grey(ds), 255 - grey(dataset(FILM)))
