"""Choose elements of DICOM files to show beside the scores; none identifies a patient unless that is allowed.

The elements that identify are those of the Basic Application Level Confidentiality Profile (DICOM PS3.15, table E.1-1),
but for the UIDs, which name a file or a study to those alone who have its archive.
"""

from __future__ import annotations

import difflib
import importlib.util
import re
from typing import TYPE_CHECKING, NamedTuple

from salad.errors import InputError, printable, shortage
from salad.images.dicom import import_pydicom
from salad.packages import install_command

if TYPE_CHECKING:
    from pydicom import Dataset

# Value representations of codes, numbers and UIDs, and their form: files hold names even in these. All other
# representations are of names, dates and free text, or of what is no text at all.
NUMERIC = re.compile(r"[+-]?[\d.]+([eE][+-]?\d+)?")
PLAIN = {
    "CS": re.compile(r"[A-Za-z0-9_ ./-]{1,16}"),
    "UI": re.compile(r"[0-9.]{1,64}"),
    **dict.fromkeys(("DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"), NUMERIC),
}
TEXTS = frozenset({"Manufacturer", "ManufacturerModelName", "SoftwareVersions"})  # of any representation, and harmless
# Identify a patient whatever their representation: the groups of patients, of places (GPS) and of signatures.
IDENTIFYING_GROUPS = frozenset({0x0010, 0x0016, 0x0400})
IDENTIFYING = frozenset({"ModifyingDeviceID"})
META_GROUP = 0x0002  # of the head of a file, which pydicom keeps apart
BINARY = frozenset({"NONE", "OB", "OD", "OF", "OL", "OV", "OW", "SQ"})
MAX_CHARACTERS = 1024  # of a value
NUMBER = re.compile(r"[0-9a-fA-F]{8}")


class Tag(NamedTuple):
    """Element of a DICOM file: its keyword, or `ggggeeee` where it has none, and its number."""

    name: str
    number: int


def parse_tags(words: str, *, allow_identifying: bool) -> tuple[Tag, ...]:
    """Parse a list of elements.

    Args:
        words: keywords, or numbers `ggggeeee`, separated by commas.
        allow_identifying: True to take elements that identify a patient, too.

    Raises:
        InputError: an element is unknown, given twice, identifies a patient, or holds no text; or pydicom is missing.
    """
    if importlib.util.find_spec("pydicom") is None:
        raise InputError(f"--dicom_tags reads DICOM files: {install_command('dicom')}")
    tags = []
    for word in filter(None, map(str.strip, words.split(","))):
        tag = _parse(word)
        _check(tag, allow_identifying=allow_identifying)
        if tag in tags:
            raise InputError(f"--dicom_tags {tag.name}: is given twice")
        tags.append(tag)
    if not tags:
        raise InputError("--dicom_tags names no element: give keywords, such as SOPInstanceUID,ViewPosition")
    return tuple(tags)


def values_of(ds: Dataset, tags: tuple[Tag, ...]) -> dict[str, str | None]:
    r"""Read the values of elements as `printable` text, those of several joined by a backslash; None if there are none.

    Control characters become escapes, and long texts are cut to `MAX_CHARACTERS`.
    """
    return {tag.name: _value(ds, tag) for tag in tags}


def _parse(word: str) -> Tag:
    """Find an element by its keyword, in upper or lower case, or by its number."""
    import_pydicom()
    from pydicom.datadict import keyword_dict, keyword_for_tag

    if NUMBER.fullmatch(word):
        number = int(word, 16)
        name = keyword_for_tag(number)
        return Tag(name if keyword_dict.get(name) == number else f"{number:08x}", number)  # groups may share a keyword
    numbers = {name.lower(): (name, number) for name, number in keyword_dict.items() if name}
    if word.lower() in numbers:
        return Tag(*numbers[word.lower()])
    near = difflib.get_close_matches(word.lower(), numbers, n=1)
    advice = f": did you mean {numbers[near[0]][0]}?" if near else "; a number, such as 00185101, does as well"
    raise InputError(f"--dicom_tags {printable(word)}: is no keyword of the DICOM dictionary{advice}")


def _check(tag: Tag, *, allow_identifying: bool) -> None:
    """Raise `InputError` for an element that holds no text, or that identifies a patient unless it may."""
    kinds = _kinds(tag)
    group = tag.number >> 16
    if kinds & BINARY:
        what = "is a sequence" if "SQ" in kinds else "holds binary data"
        raise InputError(f"--dicom_tags {tag.name}: {what}, which does not fit into a column: name another element")
    is_plain = kinds <= PLAIN.keys() and group not in IDENTIFYING_GROUPS and tag.name not in IDENTIFYING
    if not (is_plain or tag.name in TEXTS or allow_identifying):
        what = "is private, and may identify" if group % 2 else "may identify"
        raise InputError(
            f"--dicom_tags {tag.name}: {what} a patient: leave it out, or add --allow_identifying if the output may "
            "hold that"
        )


def _kinds(tag: Tag) -> frozenset[str]:
    """Look up the value representations that an element may have; UN for one that is not in the dictionary."""
    from pydicom.datadict import dictionary_VR

    try:
        return frozenset(dictionary_VR(tag.number).split(" or "))
    except KeyError:
        return frozenset(["UN"])


def _value(ds: Dataset, tag: Tag) -> str | None:
    """Read the value of an element; None if it is absent, empty, or not of the form of its representation."""
    from pydicom import Sequence
    from pydicom.multival import MultiValue

    try:
        holder = ds.file_meta if tag.number >> 16 == META_GROUP else ds
        value = holder[tag.number].value if tag.number in holder else None
    except Exception as error:  # a value that does not fit its representation
        if shortage(error):
            raise
        return None
    if value is None or isinstance(value, Sequence):
        return None
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    several = value if isinstance(value, (MultiValue, list, tuple)) else [value]
    texts = [str(one).strip(" \0") for one in several]
    forms = [PLAIN[kind] for kind in _kinds(tag) if kind in PLAIN]
    if forms and not all(any(form.fullmatch(text) for form in forms) for text in texts if text):
        return None
    return printable("\\".join(texts)[:MAX_CHARACTERS]) or None
