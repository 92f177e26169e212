"""The pages: what is generated is up to date."""

import importlib.util
import re
import sys

import numpy as np
from running import REPOSITORY, invoke

from salad import cli


def load_script(name: str):
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / f"docs/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# What is generated ----------------------------------------------------------------------------------------------


def test_the_generated_pages_are_those_of_the_docstrings_and_options():
    script = load_script("make_api")
    for page, text in {"api.md": script.api_page(), "options.md": script.options_page()}.items():
        there = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
        assert there == text, f"docs/{page} is out of date: python docs/make_api.py writes it anew"


def test_the_page_of_options_has_those_of_help_and_no_other():
    helps = "".join(invoke(command, "--help").stdout for command in (cli.train, cli.test))
    known = {*re.findall(r"^  (?:-h, )?--(\w+)", helps, re.MULTILINE)} - {"help"}
    rows = re.findall(r"^\| `--(\w+)", (REPOSITORY / "docs/options.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) == len({*rows}) > 60 and {*rows} == known


def test_check_names_a_page_that_is_out_of_date(tmp_path, monkeypatch, capsys):
    script = load_script("make_api")
    monkeypatch.setattr(script, "DOCS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["make_api.py"])
    assert script.main() == 0
    monkeypatch.setattr(sys, "argv", ["make_api.py", "--check"])
    assert script.main() == 0
    with (tmp_path / "options.md").open("a", encoding="utf-8") as page:
        page.write("| `--none` |\n")
    assert script.main() == 1 and capsys.readouterr().err.startswith("docs/options.md is out of date")


def test_the_films_of_the_picture_are_the_middles_of_equal_groups_by_score():
    middles = load_script("picture").middles
    scores = np.array([5, 1, 7, 3, 0, 2, 6, 4])
    assert scores[middles(scores, 2)].tolist() == [2, 6]  # of 0 to 3, and of 4 to 7
    assert scores[middles(scores, 4)].tolist() == [1, 3, 5, 7]
