"""The page and the pictures of new films that predict makes."""

import html
import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from browsing import PHONE, browser, flaws, keep, opened
from click.testing import Result
from dicom_files import dataset, written
from PIL import Image
from running import invoke, read_csv, tiny_unet, train

from salad.cli import main
from salad.datasets import phantom
from salad.report import films
from salad.report.films import Highest
from salad.scoring.predict import PAGE
from salad.scoring.watch import Watch

pytestmark = pytest.mark.trains


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny run whose score has a map, a threshold and neighbours, and a folder of new films."""
    root = tmp_path_factory.mktemp("films")
    phantom.write_phantom(root / "data", size=64, num_train=8, num_val=10, num_test=3)
    train(root / "xp", root / "data", "--score", "local", "--cache", root / "cache")
    (root / "new").mkdir()
    for path in sorted((root / "data/test").rglob("*.png")):
        shutil.copy(path, root / "new" / f"{path.parent.name[2:]}_{path.name}")
    return SimpleNamespace(model=root / "xp/model.tar", data=root / "data", new=root / "new")


@pytest.fixture
def predict(run, tmp_path):
    """A function that scores films and writes a page, and returns the result."""

    def call(*words: object) -> Result:
        return invoke(
            main, "predict", "--load_model", run.model, "--device", "cpu", "--report", tmp_path / "p.html", *words
        )

    return call


def data_of(page: str) -> dict:
    """The data of the scripts of a page."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def rows_of(page: str) -> list[dict]:
    """The rows of the table of films: what filters look at, and the texts of the cells."""
    found = []
    for facts, row in re.findall(r"<tr (data-score.*?)>(.*?)</tr>", page):
        cells = [re.sub("<.*?>", "", cell) for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row)]
        found.append({**dict(re.findall(r'data-(\w+)="(.*?)"', facts)), "cells": cells})
    return found


def test_the_page_tells_what_the_lines_tell_and_why(run, predict, tmp_path):
    (run.new / "cut.png").write_bytes(b"\x89PNG")
    result = predict(run.new, "--out", tmp_path / "lines.csv")
    (run.new / "cut.png").unlink()

    assert result.exit_code == 0, result.stderr
    page = (tmp_path / "p.html").read_text()
    assert page.startswith(PAGE.decode())
    lines = sorted(
        (row for row in read_csv(tmp_path / "lines.csv") if row["score"]), key=lambda row: -float(row["score"])
    )
    rows, items = rows_of(page), data_of(page)["items"]
    assert [row["cells"][0] for row in rows] == [item["name"] for item in items] == [line["path"] for line in lines]
    assert [float(row["score"]) for row in rows] == [float(line["score"]) for line in lines]
    assert [row["state"] == "abnormal" for row in rows] == [line["abnormal"] == "1" for line in lines]
    assert "1</p>" in re.search(r"Not read</p>.*?</p>", page).group() and "cut.png" in page.partition('id="unread"')[2]
    for item, line in zip(items, lines, strict=True):
        assert item["percentile"] == pytest.approx(float(line["percentile"]), abs=0.01)
        assert len(item["neighbours"]) == 5 and item["sentence"] and "layer" in item["pictures"]
    assert all(picture.startswith("data:image/webp") for picture in data_of(page)["pictures"])
    drift = [line for line in result.stderr.splitlines() if line.startswith("drift: ")]
    assert drift and all(f"Drift: {line.partition(': ')[2]}" in page for line in drift)


def test_the_page_is_bounded_and_says_so(run, predict, tmp_path, monkeypatch):
    for name, most in (("MOST_EXPLAINED", 2), ("MOST_ROWS", 4), ("MOST_UNREAD", 1)):
        monkeypatch.setattr(films, name, most)
    result = predict(run.new, tmp_path / "absent_1.png", tmp_path / "absent_2.png")

    page = (tmp_path / "p.html").read_text()
    scores = sorted((float(line.split(",")[1]) for line in result.stdout.splitlines()[1:7]), reverse=True)
    assert [item["score"] for item in data_of(page)["items"]] == scores[:2]
    assert [float(row["score"]) for row in rows_of(page)] == scores[:4]
    assert "The 2 of 6 films with the highest scores" in page and "absent_1.png" in page
    assert "The 4 films with the highest scores; the lines of predict have all 6." in page
    assert "absent_2.png" not in page.partition('id="unread"')[2].partition("<pre")[0] and "The first 1 of 2." in page


def test_the_highest_of_a_stream():
    scores = np.random.default_rng(0).integers(0, 50, 400)
    highest = Highest(30)
    for number, score in enumerate(scores):
        highest.add(score, number)
    assert list(highest.falling()) == np.argsort(-scores, kind="stable")[:30].tolist() and len(highest) == 30


def test_tags_notes_and_hostile_names_are_texts(run, predict, tmp_path):
    film = tmp_path / "<img src=x onerror=alert(1)>.dcm"
    pixels = np.asarray(Image.open(next(run.new.iterdir())))
    film.write_bytes(written(dataset(pixels, SOPInstanceUID="1.2.3", ViewPosition="PA")))
    Image.new("L", (64, 64)).save(tmp_path / "black.png")
    predict(film, tmp_path / "black.png", "--dicom_tags", "SOPInstanceUID")

    page = (tmp_path / "p.html").read_text()
    assert "<img src=x" not in page
    by_name = {html.unescape(row["cells"][0]): row for row in rows_of(page)}
    black = by_name[str(tmp_path / "black.png")]
    assert by_name[str(film)]["cells"][3] == "1.2.3"
    assert black["noted"] == "1" and "nearly black" in black["cells"][4]
    assert {item["name"]: item["tags"] for item in data_of(page)["items"]}[str(film)] == {"SOPInstanceUID": "1.2.3"}


def test_what_the_page_or_the_pictures_would_harm_is_refused(run, predict, tmp_path):
    (tmp_path / "p.html").write_text("path,score\n")
    assert "is no page, and would be replaced" in predict(run.new).stderr
    (tmp_path / "p.html").write_text("")
    assert "whose images are scored" in predict(run.new, "--heatmaps", run.new / "maps").stderr
    assert "whose images are scored" in predict("--watch", run.new, "--heatmaps", run.new).stderr
    assert predict(run.new).exit_code == 0 and predict(run.new).exit_code == 0  # its own page is replaced
    before = (tmp_path / "p.html").read_text()
    assert predict(tmp_path / "absent.png").exit_code == 2 and (tmp_path / "p.html").read_text() == before


def test_without_the_images_of_the_training_the_page_says_so(run, predict, tmp_path, monkeypatch):
    with tiny_unet():
        explain = films.make_explainer

        def without(*given):
            explainer = explain(*given)
            explainer.train_images = lambda _: (_ for _ in ()).throw(films.InputError("train/a.png: no such file"))
            return explainer

        monkeypatch.setattr(films, "make_explainer", without)
        result = predict(run.new)
    assert "the page has no explanations: train/a.png" in result.stderr and result.exit_code == 0
    page = (tmp_path / "p.html").read_text()
    assert "No explanations: " in page and len(rows_of(page)) == 6 and data_of(page)["items"] == []


def test_a_page_in_the_browser(run, predict, tmp_path):
    path = tmp_path / "p.html"
    with browser() as started:
        predict(run.new)
        num_abnormal = sum(row["state"] == "abnormal" for row in rows_of(path.read_text()))
        with opened(started, path) as page:
            assert page.inner_text("#shown") == "6 of 6 films shown" and flaws(page, "main") == []
            page.select_option("select[name=state]", "abnormal")
            assert page.inner_text("#shown") == f"{num_abnormal} of 6 films shown"
            page.click("button[type=reset]")
            page.fill("input[name=name]", "ABNORMAL_")
            assert page.inner_text("#shown") == "3 of 6 films shown"
            page.locator(".card:visible").nth(1).click()
            assert page.inner_text("#detail-place") == "2 of 3" and page.locator("dialog .layer").count() == 1
            assert page.locator("dialog .neighbours li").count() == 5
            page.keyboard.press("ArrowRight")
            assert page.inner_text("#detail-place") == "3 of 3"
            page.keyboard.press("Escape")
            keep(page, "films", tmp_path)
        with opened(started, path, viewport=PHONE, color_scheme="dark") as page:
            assert flaws(page, "main") == []
            keep(page, "films_phone", tmp_path)


def test_a_watch_writes_its_page_when_it_is_ended(run, predict, tmp_path, monkeypatch):
    def arriving(_):
        yield from sorted(run.new.iterdir())
        yield None
        raise KeyboardInterrupt

    monkeypatch.setattr(Watch, "films", arriving)
    result = predict("--watch", run.new, "--out", tmp_path / "lines.csv")
    assert result.exit_code == 130 and f"report: {tmp_path / 'p.html'}" in result.stderr
    assert len(rows_of((tmp_path / "p.html").read_text())) == 6
