"""Lines of predict with further columns."""

import csv
import io
import json

import pytest

from salad.scoring.row import COLUMNS, Form, Row

TAGS = ("SOPInstanceUID", "ViewPosition")
ROW = Row(
    path="a.dcm",
    score=0.5,
    percentile=None,
    abnormal=False,
    seconds=0.1,
    error=None,
    note=None,
    tags={"ViewPosition": "=PA"},
)


def test_further_columns_stand_at_the_end_and_are_guarded_like_the_others():
    form = Form("csv", TAGS)

    header, row = csv.reader(io.StringIO(form.header + form.line(ROW), newline=""))

    assert header == [*COLUMNS, *TAGS] and row == ["a.dcm", "0.5", "", "0", "0.1", "", "", "", "'=PA"]


def test_json_holds_them_as_they_are():
    values = json.loads(Form("jsonl", TAGS).line(ROW))

    assert tuple(values) == (*COLUMNS, *TAGS)
    assert values["SOPInstanceUID"] is None and values["ViewPosition"] == "=PA" and values["abnormal"] is False


@pytest.mark.parametrize("name", ["csv", "jsonl"])
def test_a_file_with_other_columns_is_not_of_the_form(name):
    own, other = Form(name, TAGS), Form(name)
    first = {form: (form.header or form.line(ROW)).encode() for form in (own, other)}

    assert own.is_begun(first[own]) and own.is_begun(first[own][:5])
    assert not own.is_begun(first[other]) and not other.is_begun(first[own])
