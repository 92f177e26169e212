"""`python -m salad predict`: one line for each new image, whatever it is called and whether or not it can be read."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from running import ONE_THREAD, PROGRAM, REPOSITORY, invoke, read_csv, read_json, score, stopped, train

from salad.cli import main
from salad.datasets import phantom

COLUMNS = ["path", "score", "percentile", "abnormal", "seconds", "error", "note"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Eight normal films to train on, four of each class to validate and three of each to score."""
    root = tmp_path_factory.mktemp("phantom") / "data"
    phantom.write_phantom(root, size=80, num_train=8, num_val=4, num_test=3)
    return root


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    xp = tmp_path_factory.mktemp("run")
    train(xp, data, "--normalize", "standardize", "--n_epochs", 10)
    score(xp, data, "--specificity", 0.5)
    return xp


@pytest.fixture
def film(data) -> Path:
    return next((data / "test").rglob("*.png"))


@pytest.fixture
def predict(run):
    """A function that runs the command in this process and returns its result."""

    def call(*words: object) -> Result:
        return invoke(main, "predict", "--load_model", run / "model.tar", "--device", "cpu", *words)

    return call


@pytest.fixture
def start(run, tmp_path):
    """A function that starts the command as a process of its own."""
    started = []

    def call(*words: object, **streams: object) -> subprocess.Popen:
        command = [sys.executable, "-c", PROGRAM, "predict", "--load_model", run / "model.tar", "--k", 8, *words]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": tmp_path, **streams}
        env = {**ONE_THREAD, "PYTHONPATH": str(REPOSITORY)}
        started.append(subprocess.Popen(list(map(str, command)), env=env, **options))
        return started[-1]

    yield call
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def lines_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def read(result: Result) -> list[dict[str, str]]:
    assert result.exit_code == 0, result.stderr
    return lines_of(result.stdout)


def test_scores_percentiles_and_flags_are_those_of_test_py(run, data, predict):
    expected = read_csv(run / "scores.csv")
    threshold = read_json(run / "metrics.json")["at_threshold"]["threshold"]

    found = read(predict(data / "test", "--batch_size", 4, "--specificity", 0.5))

    assert list(found[0]) == COLUMNS
    assert [row["path"] for row in found] == [str(data / row["path"]) for row in expected]
    assert [float(row["score"]) for row in found] == pytest.approx([float(row["score"]) for row in expected], abs=1e-5)
    percentiles = [float(row["percentile"]) for row in expected]
    assert [float(row["percentile"]) for row in found] == pytest.approx(percentiles, abs=0.1)
    assert [row["abnormal"] for row in found] == [str(int(float(row["score"]) > threshold)) for row in expected]
    calibrating = read(predict(data / "val/0.normal", "--specificity", 0.5))
    assert {row["abnormal"] for row in calibrating} == {"0", "1"}  # half of them lie below what they set
    assert len({row["score"] for row in found}) == 6
    assert all(float(row["seconds"]) > 0 for row in found)


def test_a_bad_file_gets_a_row_with_the_reason_and_the_others_go_on(predict, film, tmp_path):
    (tmp_path / "cut.png").write_bytes(film.read_bytes()[:200])
    (tmp_path / "text.png").write_text("no image")

    result = predict(tmp_path / "absent.png", film, tmp_path, film, "--batch_size", 1)

    found = read(result)
    assert [bool(row["score"]) for row in found] == [False, True, False, False, True]
    assert found[0]["error"] == "no such file"
    assert "not an image" in found[3]["error"]
    assert [row["percentile"] for row in found if row["error"]] == [""] * 3
    assert result.stderr.splitlines()[-1].endswith("3 of them cannot be read")


def test_a_film_that_shows_nothing_is_scored_with_a_note(predict, film, tmp_path):
    Image.new("L", (80, 80)).save(tmp_path / "black.png")
    found = read(predict(film, tmp_path / "black.png"))
    assert [row["note"].startswith("nearly black; ") for row in found] == [False, True]
    assert all(row["score"] and not row["error"] for row in found)
    (line,) = predict(film, "--format", "jsonl").stdout.splitlines()
    assert "nearly black" not in json.loads(line)["note"]


def test_where_nothing_can_be_read_the_status_says_so(predict, tmp_path):
    result = predict(tmp_path / "absent.png")

    assert result.exit_code == 2
    assert lines_of(result.stdout)[0]["error"] == "no such file"
    assert result.stderr.splitlines()[-1] == "Error: none of the 1 images can be read"
    assert predict(tmp_path).stderr.splitlines()[-1] == "Error: there are no images"


def test_what_makes_the_scores_doubtful_is_in_every_line_and_on_stderr(predict, data, film, tmp_path, caplog):
    (tmp_path / "normals").mkdir()
    for number, path in enumerate((data / "val/0.normal").iterdir()):
        if number < 2:
            shutil.copy(path, tmp_path / "normals")

    (row,) = read(predict(film))
    assert row["note"] == (
        "only 8 normal images to train on; k is 8 instead of 100; "
        "threshold and percentiles come from only 4 normal images"
    )
    assert "only 8 normal images to train on" in caplog.text and "come from only 4 normal images" in caplog.text
    for words in (["--min_normals", 5], ["--calibrate", tmp_path / "normals", "--min_normals", 2]):
        (row,) = read(predict(film, *words))
        assert bool(row["abnormal"]) == bool(row["percentile"]) == ("--calibrate" in words)
    assert "no threshold and no percentiles: only 4 normal images, fewer than --min_normals 5" in caplog.text
    assert "come from only 2 normal images" in row["note"]
    refused = stopped(predict(film, "--calibrate", tmp_path / "normals"))
    assert "there are 2 normal images to calibrate with (0 cannot be read), fewer than --min_normals 3" in refused


def test_json_lines(predict, film):
    result = predict(film, "absent.png", "--format", "jsonl")

    good, bad = map(json.loads, result.stdout.splitlines())
    assert list(good) == COLUMNS
    assert isinstance(good["abnormal"], bool)
    assert good["error"] is None
    assert bad["score"] is bad["abnormal"] is bad["percentile"] is None


def test_a_file_is_written_and_one_that_cannot_be_is_named(predict, film, tmp_path):
    result = predict(film, "--out", tmp_path / "out.csv")

    assert result.stdout == ""
    assert [row["path"] for row in read_csv(tmp_path / "out.csv")] == [str(film)]
    assert "there is no folder" in stopped(predict(film, "--out", tmp_path / "absent" / "out.csv"))
    if Path("/dev/full").exists():
        full = stopped(predict(film, "--out", "/dev/full"), status=1)
        assert full == "Error: /dev/full: cannot be written (No space left on device)"


def test_other_normals_calibrate(predict, data, film, tmp_path, caplog):
    normals = data / "val" / "0.normal"
    scores = sorted(float(row["score"]) for row in read(predict(normals)))
    (tmp_path / "bad.png").write_text("no image")
    shutil.copytree(normals, tmp_path / "normals")
    shutil.copy(tmp_path / "bad.png", tmp_path / "normals")

    result = predict(data / "test", "--k", 3, "--calibrate", tmp_path / "normals", "--specificity", 0.5)

    assert "bad.png: not an image" in caplog.text
    found = read(result)
    of_normals = sorted(float(row["score"]) for row in read(predict(normals, "--k", 3)))
    assert scores != of_normals
    assert [row["abnormal"] == "1" for row in found] == [float(row["score"]) > of_normals[1] for row in found]


def test_without_validation_scores_one_line_says_why_flags_are_missing(predict, film, caplog):
    result = predict(film, film, "--k", 3)

    assert [(row["percentile"], row["abnormal"]) for row in read(result)] == [("", "")] * 2
    assert caplog.text.count("no percentiles and no threshold: the checkpoint holds no scores") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no PATH is given"),
        (["--calibrate", "absent", "x.png"], "--calibrate absent: no such folder"),
        (["--isize", 128, "x.png"], r"--isize is 128, but"),
        (["--batch_size", 0, "x.png"], "--batch_size is 0, but must be at least 1"),
        (["--watch", "absent"], "--watch absent: no such folder"),
        (["--append", "x.png"], "--append writes to the end of a file: give --out FILE"),
        (["--state", "s", "x.png"], "--state remembers the films of a watched folder: give --watch FOLDER"),
        (["--watch", ".", "--interval", "nan"], "nan is not a number"),
        *((["--watch", ".", "--interval", value], "is not in the range") for value in ("0", "inf", "1e300")),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(predict, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = predict(*words)

    assert result.exit_code == 2
    assert message in result.stderr.splitlines()[-1]


def test_a_checkpoint_must_be_given():
    assert "--load_model is missing" in stopped(invoke(main, "predict", "x.png"))


def test_names_of_every_kind_leave_the_table_whole(predict, film, tmp_path):
    for name in (b'a,"b".png', b"line\nbreak.png", b"\xff\xfe.png", "bild-ä.png".encode(), b"\x1b[31m.png"):
        shutil.copy(film, tmp_path / os.fsdecode(name))

    result = predict(tmp_path)

    found = read(result)
    assert sorted(Path(row["path"]).name for row in found) == sorted(
        ['a,"b".png', r"line\nbreak.png", r"\udcff\udcfe.png", "bild-ä.png", r"\x1b[31m.png"]
    )
    assert len({row["score"] for row in found}) == 1
    assert len(result.stdout.splitlines()) == 6
    for line in predict(tmp_path, "--format", "jsonl").stdout.splitlines():
        json.loads(line)


def test_order_is_that_of_the_paths_however_long_each_takes(predict, film, tmp_path):
    Image.fromarray(np.tile(np.asarray(Image.open(film)), (25, 25))).save(tmp_path / "0.png")
    for number in range(1, 9):
        shutil.copy(film, tmp_path / f"{number}.png")

    found = read(predict(tmp_path, "--n_jobs_dataloader", 4, "--batch_size", 2))

    assert [Path(row["path"]).stem for row in found] == list("012345678")


@pytest.mark.slow
def test_paths_come_from_standard_input_and_a_line_is_out_before_the_next_is_in(start, film):
    process = start("-", "--null", stdin=subprocess.PIPE)

    assert process.stdout.readline().decode().strip() == ",".join(COLUMNS)
    for _ in range(2):
        process.stdin.write(os.fsencode(film) + b"\0")
        process.stdin.flush()
        assert process.stdout.readline().decode().startswith(f"{film},0.")
    process.stdin.close()
    assert process.wait(30) == 0


@pytest.mark.slow
def test_a_closed_pipe_ends_it_without_a_word(start, film):
    process = start(*[film] * 200, "--batch_size", 1)
    process.stdout.readline()
    process.stdout.close()

    assert process.wait(30) == 128 + signal.SIGPIPE
    assert b"rror" not in process.stderr.read()


@pytest.mark.slow
def test_a_watched_folder_is_scored_as_it_fills_until_ctrl_c(start, film, tmp_path):
    folder = tmp_path / "arriving"
    folder.mkdir()
    shutil.copy(film, folder / "1.png")

    process = start("--watch", folder, "--interval", 0.05, "--out", tmp_path / "out.csv")
    out = tmp_path / "out.csv"
    for number in (1, 2):
        shutil.copy(film, folder / f"{number}.png")
        wait_until(lambda number=number: out.exists() and len(out.read_text().splitlines()) == 1 + number, process)
    wait_until(lambda: b"2.png" in (tmp_path / "out.csv.state").read_bytes(), process)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)

    assert process.wait(30) == 130
    said = process.stderr.read().decode()
    assert f"watching {folder} every 0.05 s: 1 images are there; Ctrl-C ends it" in said
    assert f"watched {folder}: 2 images, 0 of them cannot be read, 0 scored again" in said
    assert "drift: too few films to tell: 2, and 5 are needed" in said
    assert [Path(row["path"]).name for row in read_csv(out)] == ["1.png", "2.png"]


@pytest.mark.slow
def test_a_watch_that_is_started_again_scores_what_came_meanwhile(start, predict, film, tmp_path):
    folder, out = tmp_path / "arriving", tmp_path / "out.csv"
    folder.mkdir()
    shutil.copy(film, folder / "1.png")
    for number, words in enumerate([[], ["--append"]], start=1):
        process = start("--watch", folder, "--interval", 0.05, "--out", out, *words)
        wait_until(lambda number=number: out.exists() and len(out.read_text().splitlines()) == 1 + number, process)
        name = f"{number}.png".encode()
        wait_until(lambda name=name: name in (tmp_path / "out.csv.state").read_bytes(), process)
        process.terminate()
        assert process.wait(30) == 128 + signal.SIGTERM
        shutil.copy(film, folder / "2.png")

    assert [Path(row["path"]).name for row in read_csv(out)] == ["1.png", "2.png"]
    assert "2 images are there, 1 of them scored before" in process.stderr.read().decode()
    assert "exists; --append goes on with it" in stopped(predict("--watch", folder, "--out", out))
    out.unlink()
    assert "remembers the films of an earlier watch; --append" in stopped(predict("--watch", folder, "--out", out))


@pytest.mark.slow
@pytest.mark.parametrize("received", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_keeps_the_old_file_and_the_lines_so_far(start, film, tmp_path, received):
    out, partial = tmp_path / "out.csv", tmp_path / "out.csv.partial"
    out.write_text("last night\n")

    process = start("-", "--out", out, stdin=subprocess.PIPE)
    process.stdin.write(os.fsencode(film) + b"\n")
    process.stdin.flush()
    wait_until(lambda: partial.exists() and len(partial.read_text().splitlines()) == 2, process)
    process.send_signal(received)

    assert process.wait(30) == 128 + received
    assert out.read_text() == "last night\n"
    said = process.stderr.read().decode()
    assert f"{out} is as it was; the 1 lines so far are in {partial}" in said


def test_a_mistyped_folder_leaves_the_old_file_as_it_was(predict, tmp_path):
    out, partial = tmp_path / "out.csv", tmp_path / "out.csv.partial"
    out.write_text("last night\n")

    assert stopped(predict(tmp_path / "absent", "--out", out)) == "Error: none of the 1 images can be read"
    assert out.read_text() == "last night\n"
    assert read_csv(partial)[0]["error"] == "no such file"
    (tmp_path / "empty").mkdir()
    assert stopped(predict(tmp_path / "empty", "--out", out)) == "Error: there are no images"
    assert out.read_text() == "last night\n"
    assert {path.name for path in tmp_path.iterdir()} == {"out.csv", "out.csv.partial", "empty"}


def test_an_input_is_never_the_output(predict, run, film, tmp_path):
    folder = tmp_path / "films"
    folder.mkdir()
    copy = shutil.copy(film, folder / "a.png")
    (tmp_path / "link.csv").symlink_to(copy)

    for out, words in [(copy, [copy]), (copy, [folder]), (tmp_path / "link.csv", [copy]), (run / "model.tar", [copy])]:
        before = out.read_bytes()
        assert "which it would replace" in stopped(predict(*words, "--out", out))
        assert out.read_bytes() == before


def test_a_list_of_unreadable_films_appends_and_says_so(predict, film, tmp_path):
    out = tmp_path / "out.csv"
    assert predict(film, "--out", out, "--append").exit_code == 0
    assert "none of the 1 images" in stopped(predict("absent.png", "--out", out, "--append"))
    assert predict(film, "--out", out, "--append").exit_code == 0

    assert [bool(row["score"]) for row in read_csv(out)] == [True, False, True]


def wait_until(condition, process) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.02)


def test_many_files_are_held_a_few_at_a_time(predict, film, monkeypatch):
    from salad.scoring.stream import Scorer

    ahead, taken = [], 0
    stream = Scorer.stream

    def count(self, sources):
        def counted():
            nonlocal taken
            for taken, source in enumerate(sources, start=1):  # noqa: B007
                yield source

        for number, one in enumerate(stream(self, counted())):
            ahead.append(taken - number)
            yield one

    monkeypatch.setattr(Scorer, "stream", count)

    assert len(read(predict(*[film] * 60, "--batch_size", 4))) == 60
    assert max(ahead) == 8
