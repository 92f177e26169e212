import base64
import csv
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from browsing import PHONE, browser, opened
from running import ONE_THREAD, REPOSITORY, TINY, invoke, read_csv, read_json, read_lines, run_in_process, stopped

from salad.cli import main
from salad.evaluation.metrics import auc, compare_aucs, compare_aucs_of_folds, mean_auc, mean_auc_of_folds

pytestmark = pytest.mark.slow

METHODS = ("--method", "knn=unet", "--method", "rec=unet --score reconstruction")


@pytest.fixture
def calls(monkeypatch):
    """The commands run in this process, with a small network; their calls are kept."""
    return run_in_process(monkeypatch)


def study(data, out, *words):
    return invoke(main, "study", "CXR_author", data, "--out", out, *words)


@pytest.fixture(scope="module")
def done(data, tmp_path_factory):
    """Two methods with two seeds."""
    out = tmp_path_factory.mktemp("study") / "out"
    with pytest.MonkeyPatch.context() as patch:
        made = run_in_process(patch)
        result = study(data, out, *METHODS, "--seeds", 2)
    assert result.exit_code == 0, result.stderr
    assert [words[0] for words in made] == ["train", "test"] * 4
    return out, result


@pytest.fixture(scope="module")
def folded(data, tmp_path_factory):
    """Two methods with one seed on two folds; what they are for every method is in the options after --."""
    out = tmp_path_factory.mktemp("study") / "out"
    with pytest.MonkeyPatch.context() as patch:
        run_in_process(patch)
        words = [*METHODS, "--seeds", 1, "--folds", 2, "--", "--val_share", 0.2, "--specificity", 0.9]
        result = study(data, out, *words, "--normal_class", "0.normal")
    assert result.exit_code == 0, result.stderr
    return out, result


def tidy(out):
    return [*csv.DictReader((out / "study.csv").open(newline="", encoding="utf-8"))]


def scores_of(folder):
    rows = sorted(read_csv(folder / "scores.csv"), key=lambda row: row["path"])
    return [int(row["label"]) for row in rows], [float(row["score"]) for row in rows]


def test_the_table_is_of_what_the_runs_gave(done):
    out, result = done
    for method in ("knn", "rec"):
        (labels, first), (_, second) = (scores_of(out / method / f"seed{seed}") for seed in (1, 2))
        aucs, mean = [auc(labels, scores).value for scores in (first, second)], mean_auc(labels, [first, second])
        shown = f"{mean.value:.3f}  {np.std(aucs, ddof=1):.3f}  {mean.low:.3f} to {mean.high:.3f}"
        assert re.search(rf"^{method} +2 +{shown}", result.stdout, re.MULTILINE), result.stdout
        assert f"{method} & 2 & {mean.value:.3f} $\\pm$ {np.std(aucs, ddof=1):.3f} " in (out / "study.tex").read_text()
    names = [line.partition(":")[0] for line in result.stderr.splitlines()]
    assert names == ["knn/seed1", "rec/seed1", "knn/seed2", "rec/seed2"]
    assert result.stderr.splitlines()[-1].endswith("4 of 4 runs done")


def test_csv_has_every_number_of_every_run(done):
    out, _ = done
    rows = tidy(out)
    by_run = {(row["run"], row["metric"]): row for row in rows if row["level"] == "run" and row["subset"] == "all"}
    for method in ("knn", "rec"):
        for seed in (1, 2):
            name, facts = f"{method}/seed{seed}", read_json(out / method / f"seed{seed}/metrics.json")
            row = by_run[name, "auc"]
            assert {end: float(row[end]) for end in ("value", "low", "high")} == facts["auc"]
            assert (row["method"], row["seed"], row["fold"]) == (method, str(seed), "")
            assert (row["num_normal"], row["num_abnormal"]) == ("3", "3")
            for baseline, area in facts["baseline_auc"].items():
                assert float(by_run[name, f"baseline_auc.{baseline}"]["value"]) == area["value"]
            assert float(by_run[name, "average_precision"]["value"]) == facts["average_precision"]
            times = read_json(out / name / "seconds.json")
            assert {key: float(by_run[name, f"{key}_seconds"]["value"]) for key in ("train", "test")} == times
            assert float(by_run[name, "model_bytes"]["value"]) == (out / name / "model.tar").stat().st_size
    labels = scores_of(out / "knn/seed1")[0]
    scores = [[scores_of(out / method / f"seed{seed}")[1] for seed in (1, 2)] for method in ("knn", "rec")]
    [p] = [row for row in rows if row["level"] == "pair" and row["metric"] == "p"]
    assert (p["method"], p["other"]) == ("knn", "rec")
    assert float(p["value"]) == pytest.approx(compare_aucs(labels, *scores))
    assert {row["method"] for row in rows if row["level"] == "method"} == {"knn", "rec"}


def test_the_page_asks_for_nothing_and_shows_every_run(done):
    page = (done[0] / "study.html").read_text(encoding="utf-8")
    assert "default-src 'none'; img-src data:; style-src 'sha256-" in page and "<script" not in page
    assert page.count(">done</td>") == 4 and 'href="rec/seed2/output.txt"' in page
    [picture] = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert base64.b64decode(picture) == (done[0] / "roc.svg").read_bytes()


def test_the_page_fits_a_screen_a_phone_and_paper(done):
    with browser() as chromium:
        for size in ({"width": 1280, "height": 900}, PHONE):
            with opened(chromium, done[0] / "study.html", viewport=size) as page:
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
                assert page.locator("img.drawing").evaluate("(image) => image.naturalWidth") > 100
        with opened(chromium, done[0] / "study.html", viewport={"width": 690, "height": 970}) as page:  # A4 at 96 dpi
            page.emulate_media(media="print")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_what_is_done_is_not_repeated_and_a_study_may_grow(data, done, calls):
    out, result = done
    again = study(data, out, *METHODS, "--seeds", 2)
    assert (again.exit_code, again.stdout, calls) == (0, result.stdout, [])
    more = study(data, out, "--method", "knn=unet", "--seeds", 3)
    assert more.exit_code == 0 and [words[0] for words in calls] == ["train", "test"]
    assert "3 of 3 runs done" in more.stderr and re.search(r"^knn +3 ", more.stdout, re.MULTILINE)
    assert study(data, out, *METHODS, "--seeds", 2).stdout == result.stdout


def test_an_interrupted_run_goes_on_where_it_was(data, done, calls, tmp_path):
    assert study(data, tmp_path / "out", "--method", "knn=unet", "--seeds", 1).exit_code == 0
    folder = tmp_path / "out/knn/seed1"
    (folder / "metrics.json").unlink()  # as after a kill between training and scoring
    calls.clear()
    assert study(data, tmp_path / "out", "--method", "knn=unet", "--seeds", 1).exit_code == 0
    assert [words[0] for words in calls] == ["train", "test"]
    text = (folder / "output.txt").read_text()
    assert text.count("round 0") == 1  # the epochs of the first start are not trained again


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--method", "knn=unet --lr 0.5"), "the method knn was 'unet', not 'unet --lr 0.5'"),
        (("--method", "knn=unet", "--folds", 2), "--folds was none, not 2"),
        (("--method", "knn=unet", "--", "--normal_class", "0.normal"), "was none, not normal_class 0.normal"),
        (("--method", "knn=unet", "--folds", 4), "--folds is 4, but 3 patients have abnormal test images"),
        ((), "no method is given"),
        (("--method", "knn"), "--method is 'knn'"),
        (("--method", "a/b=unet"), "must be NAME="),
        (("--method", "strong=unet", "--recipe", "strong"), "two methods are called 'strong'"),
        (("--method", "knn=unet --seed 3"), "--seed is set by the study: use its --seeds"),
        (("--method", "knn=unet --lrr 3"), "method knn: No such option '--lrr'"),
        (("--method", "knn=unet --lr -1"), "--lr is -1.0"),
        (("--method", "knn=unet 'a"), "--method knn: No closing quotation"),
        (("--method", "a=unet", "--method", "b=unet --normal_class 0"), "--normal_class differs between"),
    ],
)
def test_another_study_and_odd_words_are_refused_in_one_line(data, done, calls, words, said):
    before = {path: path.stat().st_mtime_ns for path in done[0].rglob("*")}
    assert said in stopped(study(data, done[0], *words))
    assert calls == [] and {path: path.stat().st_mtime_ns for path in done[0].rglob("*")} == before


def test_a_run_that_fails_ends_no_other_and_is_named_with_its_reason(data, tmp_path, calls):
    words = ["--method", f"bad=unet --load_model {tmp_path / 'none.tar'}", "--method", "knn=unet", "--seeds", 1]
    result = study(data, tmp_path / "out", *words)
    assert result.exit_code == 1 and re.search(r"^knn +1 ", result.stdout, re.MULTILINE)
    *_, reason, last = result.stderr.splitlines()
    assert reason.startswith("bad/seed1 failed: Error: ") and "none.tar" in reason
    assert last == "Error: 1 of 2 runs failed; the same command tries them again"
    page = (tmp_path / "out/study.html").read_text(encoding="utf-8")
    assert "1 of 2 runs failed; bad/seed1: Error: " in page and page.count(">done</td>") == 1
    assert {row["method"] for row in tidy(tmp_path / "out")} == {"knn"}


def test_each_film_is_scored_once_and_aucs_are_the_mean_of_those_of_the_folds(data, folded):
    out, result = folded
    folds = {method: [scores_of(out / method / f"seed1_fold{fold}") for fold in (1, 2)] for method in ("knn", "rec")}
    tested = [row["path"] for fold in (1, 2) for row in read_csv(out / f"knn/seed1_fold{fold}/scores.csv")]
    films = [*data.glob("train/0.normal/*"), *data.glob("test/*/*")]
    assert sorted(tested) == sorted(str(film.resolve()) for film in films)
    rows = tidy(out)
    for method, sets in folds.items():
        [row] = [row for row in rows if (row["level"], row["method"], row["metric"]) == ("method", method, "auc")]
        expected = mean_auc_of_folds(sets).as_json()
        assert {end: float(row[end]) for end in expected} == pytest.approx(expected)
        spread = np.std([auc(*of_fold).value for of_fold in sets], ddof=1)
        assert f"{method} & 2 & {expected['value']:.3f} $\\pm$ {spread:.3f} " in (out / "study.tex").read_text()
    [p] = [row for row in rows if row["metric"] == "p"]
    pairs = [(labels, first, second) for (labels, first), (_, second) in zip(*folds.values(), strict=True)]
    assert p["value"] == "" and compare_aucs_of_folds(pairs) is None  # a fold has a single abnormal film
    assert {row["fold"] for row in rows if row["level"] == "run"} == {"1", "2"}
    assert "Mean of the AUCs of 2 folds" in (out / "study.html").read_text(encoding="utf-8")


def test_with_folds_options_reach_train_and_test_but_for_those_that_chose_the_images(folded):
    out, _ = folded
    config = read_json(out / "knn/seed1_fold2/config.json")
    assert (config["dataset_name"], config["val_share"], config["normal_class"]) == ("Table", 0.2, None)
    assert read_json(out / "knn/seed1_fold2/metrics.json")["made_from"]["specificity"] == 0.9
    assert read_json(out / "study.json")["selection"] == {"normal_class": "0.normal"}


def test_a_killed_study_goes_on_with_the_same_command(data, tmp_path):
    # read by every Python at its start: a small network for train and test
    small = 'if "study" not in __import__("sys").orig_argv:\n    from salad.networks import unet\n'
    (tmp_path / "sitecustomize.py").write_text(f"{small}    unet.WIDTHS = (4, 4, 4, 4, 4, 4, 8)\n")
    words = ["study", "CXR_author", data, "--method", "knn=unet", "--seeds", 1, "--out", tmp_path / "out", "--"]
    options = [*TINY, "--n_epochs", 5, "--w_contrast", 0]
    command = [sys.executable, "-m", "salad", *map(str, [*words, *options])]
    env = {**ONE_THREAD, "PYTHONPATH": os.pathsep.join(map(str, [tmp_path, REPOSITORY]))}
    saved = tmp_path / "out/knn/seed1/last.tar"
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 120
        while not saved.exists() and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert said == "Error: interrupted by SIGTERM; the same command goes on\n"
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=True)
    assert "knn/seed1: done" in done.stderr and re.search(r"^knn +1 ", done.stdout, re.MULTILINE)
    assert [line["epoch"] for line in read_lines(saved.parent / "metrics.jsonl")] == [*range(1, 6)]
    assert "resumed" in (saved.parent / "output.txt").read_text()
