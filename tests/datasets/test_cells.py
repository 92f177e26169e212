"""What the cells of tables tell of patients, and in how many ways they say nothing."""

import pytest

from salad.datasets.cells import age_in_years, id_of, known, loose_key, sex_of, view_of

UNKNOWN = ["", "  ", "nan", "NaN", "NAN", "None", "null", "NULL", "<NA>", "N/A", "n.a.", "#N/A", "NaT", "unknown",
           "UNK",
           "Unknown patient", "Anonymous", "ANONYMOUS^ANONYMOUS", "anonymized", "de-identified", "-", "--", "?", "??",
           ".", "''", '""', "xxx", "***", "not available", "not_specified", "k.A.", "unbekannt", "No ID"]  # fmt: skip


@pytest.mark.parametrize("text", [*UNKNOWN, None])
def test_what_is_unknown_is_nobody(text):
    assert known(text) is id_of(text) is view_of(text) is sex_of(text) is age_in_years(text) is None


@pytest.mark.parametrize(
    ("texts", "identifier"),
    [
        (["12", "12.0", " 12 ", "12.00", '="12"', "'12", '"12"', "12\t"], "12"),
        (["012", '="012"'], "012"),
        (["P1", " P1"], "P1"),
        (["1.2.840.10", "1.2.840.10 "], "1.2.840.10"),
        (["u\u0308", "\u00fc"], "\u00fc"),
        (["0"], "0"),
        (["Anon12"], "Anon12"),
        (["X"], "X"),
        (["v1.0"], "v1.0"),
    ],
)
def test_one_identifier_in_several_forms(texts, identifier):
    assert [id_of(text) for text in texts] == [identifier] * len(texts)


def test_identifiers_that_may_be_of_one_patient():
    assert loose_key("P-0012") == loose_key("p12") == loose_key("P_012 ") != loose_key("p120")
    assert loose_key("012") == loose_key("12") != loose_key("102")
    assert loose_key("0") == loose_key("000") != loose_key("")


@pytest.mark.parametrize(
    ("text", "years"),
    [("60", 60), (" 060Y ", 60), ("60.5", 60.5), ("60,5", 60.5), ("60.0", 60), ("18M", 1.5), ("0", 0), ("90+", 90),
     (">89", 89), ("61 years", 61), ("60y", 60), ("120", 120), ("121", None), ("411Y", None), ("-3", None),
     ("old", None), ("1960", None), ("1440M", 120), ("3 weeks", 3 * 7 / 365.25)],
)  # fmt: skip
def test_ages(text, years):
    assert age_in_years(text) == (years if years is None else pytest.approx(years))


def test_days_and_weeks_are_parts_of_a_year():
    assert 5 * 0.9 / 365 < age_in_years("5D") < age_in_years("3W") < age_in_years("1M") < age_in_years("1Y")


def test_views_and_sexes():
    assert [view_of(text) for text in ("pa", " AP ", "Lateral")] == ["PA", "AP", "Lateral"]
    assert [sex_of(text) for text in ("m", "Male", "FEMALE", "W", "O")] == ["M", "M", "F", "F", "O"]
