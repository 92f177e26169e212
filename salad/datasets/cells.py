"""Read the cells of a table that tell of a patient: identifiers, view, sex and age, or that they are unknown."""

from __future__ import annotations

import re
import unicodedata

MAX_AGE = 120  # in years; ChestX-ray14 has 411Y
# Texts of programs and people for "not known". An identifier among them is nobody's.
UNKNOWN = frozenset(
    {"", "nan", "nat", "none", "null", "nil", "na", "unknown", "unk", "unspecified", "notspecified", "undefined"}
    | {"notavailable", "notknown", "notapplicable", "notgiven", "missing", "anonymous", "anonymized", "anonymised"}
    | {"anon", "anonym", "anonyme", "anonimo", "deidentified", "removed", "redacted", "withheld", "noname", "noid"}
    | {"unbekannt", "ka", "keineangabe", "inconnu", "desconocido", "desconhecido", "sconosciuto", "private", "hidden"}
    | {"patient", "name", "id", "empty", "blank", "undisclosed", "tbd"}
)
UNITS = {"": 1.0, "y": 1.0, "m": 12.0, "w": 365.25 / 7, "d": 365.25}  # in a year
AGE = re.compile(r"[>\u2265]?=? ?(\d{1,5})(?:[.,](\d+))? ?(y|m|w|d|)(?:ears?|rs?|onths?|os?|eeks?|ays?)?(?: old)?\+?")
ROUNDED = re.compile(r"\d[.,]\d+[eE]\+\d+")
SEXES = {"m": "M", "male": "M", "man": "M", "f": "F", "female": "F", "w": "F", "woman": "F"}


def known(text: str | None) -> str | None:
    """Return a cell without blanks around it; None if it says in any way that the value is unknown."""
    stripped = unquoted(text or "")
    squeezed = [_letters(word) for word in re.split(r"[\s^,;_]+", stripped)]
    if "".join(squeezed) in UNKNOWN or all(word in UNKNOWN for word in squeezed):
        return None
    return None if re.fullmatch(r"[xX*?]{2,}", stripped) else stripped


def unquoted(text: str) -> str:
    """Return a cell without blanks, and without the quotes by which spreadsheets keep a number as text."""
    stripped = text.strip()
    match = re.fullmatch(r"""=?(["'])(.*)\1|'(.*)""", stripped, re.DOTALL)
    return stripped if match is None else (match[2] or match[3] or "").strip()


def id_of(text: str | None) -> str | None:
    """Return an identifier of a patient or a study: `12`, `12.0`, ` 12 ` are one; None if it is unknown or rounded."""
    found = known(text)
    if found is None:
        return None
    if ROUNDED.fullmatch(found):
        return None  # what a spreadsheet leaves of a long number is the same for several patients
    match = re.fullmatch(r"(\d+)\.0*", found)  # a whole number that a data frame has read as a float
    return match[1] if match else unicodedata.normalize("NFC", found)


def loose_key(identifier: str) -> str:
    """Return a key that is equal for identifiers that may be of one patient: `P-0012`, `p12` and `P 12`."""
    text = unicodedata.normalize("NFKC", identifier).casefold()
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"[\W_]", "", text))


def view_of(text: str | None) -> str | None:
    """Return a view, a short one such as `PA` in capitals; None if it is unknown."""
    found = known(text)
    return found.upper() if found is not None and len(found) <= 4 else found


def sex_of(text: str | None) -> str | None:
    """Return a sex: M or F for the usual words, any other text as it is; None if it is unknown."""
    found = known(text)
    return None if found is None else SEXES.get(found.casefold(), found)


def age_in_years(text: str | None) -> float | None:
    """Parse an age such as `58`, `60.5`, `058Y`, `011M`, `3W`, `006D` or `90+`, in years.

    Returns:
        The age; None for any other text, and above `MAX_AGE`.
    """
    match = AGE.fullmatch(unquoted(text or "").casefold())
    if match is None:
        return None
    age = float(f"{match[1]}.{match[2] or 0}") / UNITS[match[3]]
    return age if age <= MAX_AGE else None


def _letters(text: str) -> str:
    """Return the letters and digits of a text without accents, in lower case."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join(letter for letter in plain if letter.isalnum())
