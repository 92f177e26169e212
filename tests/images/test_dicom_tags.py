"""Elements of DICOM files as columns: chosen by keyword or number, and none that identifies a patient unawares."""

import importlib.util
import io

import numpy as np
import pydicom
import pytest
from dicom_files import DEFLATED, EXPLICIT, IMPLICIT, SECRET, dataset, with_text, written
from hypothesis import given
from hypothesis import strategies as some

from salad.errors import InputError
from salad.images.dicom import read_elements
from salad.images.dicom_tags import MAX_CHARACTERS, PLAIN, TEXTS, Tag, parse_tags, values_of
from salad.images.headers import read_header_and_tags

PIXELS = np.zeros((6, 9), np.uint8)
# Of the profile, each kind of element that identifies, by keyword or number.
IDENTIFYING = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientWeight", "PatientAddress"),
    *("OtherPatientIDs", "PatientComments", "AccessionNumber", "StudyID", "InstitutionName", "InstitutionAddress"),
    *("ReferringPhysicianName", "OperatorsName", "StationName", "StationAETitle", "DeviceSerialNumber", "DetectorID"),
    *("StudyDate", "SeriesTime", "AcquisitionDateTime", "StudyDescription", "SeriesDescription", "ProtocolName"),
    *("ImageComments", "DerivationDescription", "AdmissionID", "GPSLatitude", "ModifyingDeviceID", "SmokingStatus"),
    *("RequestingPhysician", "TextValue", "PersonName", "ReasonForTheAttributeModification", "00100010", "00091001"),
    *("SourceApplicationEntityTitle", "60004000"),
)


def values(content: bytes, words: str, **options: bool) -> dict[str, str | None]:
    tags = parse_tags(words, **{"allow_identifying": False, **options})
    return values_of(read_elements(io.BytesIO(content), [tag.number for tag in tags]), tags)


def refuse(words: str, **options: bool) -> str:
    with pytest.raises(InputError) as caught:
        parse_tags(words, **{"allow_identifying": False, **options})
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, DEFLATED])
def test_keywords_and_numbers_in_their_order(syntax):
    content = written(dataset(PIXELS, ViewPosition="PA", ImageType=["ORIGINAL", "PRIMARY"], KVP="81.5"), syntax)

    found = values(content, "KVP, 00185101,sopinstanceuid,ImageType,Rows,BodyPartExamined,Manufacturer")

    assert [*found.items()] == [
        *(("KVP", "81.5"), ("ViewPosition", "PA"), ("SOPInstanceUID", "1.2.3.4"), ("ImageType", "ORIGINAL\\PRIMARY")),
        *(("Rows", "6"), ("BodyPartExamined", None), ("Manufacturer", None)),
    ]


def test_elements_of_the_head_of_the_file_and_of_repeating_groups():
    ds = dataset(PIXELS)
    ds.add_new(0x60000010, "US", 5)
    ds.add_new(0x60020010, "US", 6)

    found = values(written(ds), "TransferSyntaxUID,MediaStorageSOPInstanceUID,60000010,60020010")

    assert [*found.items()] == [
        *(("TransferSyntaxUID", EXPLICIT), ("MediaStorageSOPInstanceUID", "1.2.3.4")),
        *(("60000010", "5"), ("60020010", "6")),  # both are called OverlayRows
    ]


@pytest.mark.parametrize("name", IDENTIFYING)
def test_what_identifies_a_patient_is_refused_unless_it_is_allowed(name):
    assert "may identify a patient: leave it out, or add --allow_identifying" in refuse(f"Rows,{name}")
    assert len(parse_tags(f"Rows,{name}", allow_identifying=True)) == 2


@given(some.sampled_from(sorted(pydicom.datadict.keyword_dict.values())))
def test_all_that_is_allowed_is_a_code_a_number_or_a_uid(number):
    try:
        ((name, parsed),) = parse_tags(f"{number:08x}", allow_identifying=False)
    except InputError:
        return
    kinds = set(pydicom.datadict.dictionary_VR(number).split(" or "))
    assert parsed == number and (kinds <= PLAIN.keys() or name in TEXTS) and number >> 16 != 0x0010


@pytest.mark.parametrize("allow_identifying", [False, True])
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("ViewPositon", "ViewPositon: is no keyword of the DICOM dictionary: did you mean ViewPosition?"),
        ("=1+1\n", "=1+1: is no keyword of the DICOM dictionary; a number"),
        ("RequestAttributesSequence", "is a sequence"),
        ("PixelData", "PixelData: holds binary data"),
        ("Rows,00280010", "Rows: is given twice"),
        (" , ", "names no element"),
    ],
)
def test_what_is_no_column_is_refused(words, reason, allow_identifying):
    assert reason in refuse(words, allow_identifying=allow_identifying)


def test_without_pydicom_the_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert "pip install" in refuse("Rows")


def test_values_are_one_line_of_text():
    ds = dataset(
        PIXELS, ImageComments="=a\r\n\x1b[31m" + "x" * 5000, PatientComments="é", SpecificCharacterSet="ISO_IR 100"
    )
    ds.private_block(0x0009, "A maker", create=True).add_new(1, "LO", "own")
    found = values(written(ds), "ImageComments,PatientComments,00091001,PatientName", allow_identifying=True)

    assert (
        found["ImageComments"].startswith("=a\\r\\n\\x1b[31mxx") and len(found["ImageComments"]) < MAX_CHARACTERS + 10
    )
    assert [found[name] for name in ("PatientComments", "00091001", "PatientName")] == ["é", "own", SECRET]


@pytest.mark.parametrize("name", ["InstanceNumber", "ViewPosition", "SOPInstanceUID", "KVP"])
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_a_name_in_an_element_for_numbers_or_codes_does_not_come_out(name, syntax):
    odd = written(with_text(dataset(PIXELS), name), syntax)
    assert values(odd, f"{name},SeriesNumber") == {name: None, "SeriesNumber": None}


def test_a_film_that_cannot_be_decoded_still_tells_its_tags(tmp_path):
    tags = (Tag("SOPInstanceUID", 0x00080018),)
    (tmp_path / "cut.dcm").write_bytes(written(dataset(PIXELS, Rows=None)))
    (tmp_path / "text.dcm").write_text("no film")

    assert read_header_and_tags(tmp_path / "cut.dcm", tags) == (None, {"SOPInstanceUID": "1.2.3.4"})
    assert read_header_and_tags(tmp_path / "text.dcm", tags) == (None, {})
    assert read_header_and_tags(tmp_path / "absent.dcm", tags) == (None, {})
