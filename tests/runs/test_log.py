"""Messages where they leave: the screen, log.txt, warnings, and the errors of the command line."""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from running import ONE_THREAD, REPOSITORY, TINY, invoke, stopped, train

from salad import cli
from salad.cli import main
from salad.datasets import phantom
from salad.errors import InputError
from salad.runs.folder import FILES, RunFolder, log_to
from salad.runs.log import prepare_output

EVIL = "\x1b]0;x\x07\u202efdp\n\x9b2J"
ESCAPED = r"\x1b]0;x\x07\u202efdp\n\x9b2J"


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """The logger and the warnings as they were."""
    logger = logging.getLogger("salad")
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    yield
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        handler.close()
    logger.propagate = True


def test_log_and_screen_show_one_line_for_a_message_whatever_it_quotes(tmp_path, capsys):
    log_to(RunFolder(tmp_path))
    logger = logging.getLogger("salad.x")
    logger.info("scanned %s, %d", EVIL, 3)
    logger.warning(f"as text: {EVIL}")  # noqa: G004
    logger.info("long: %s.", "7" * 400)
    try:
        raise ValueError(EVIL)
    except ValueError:
        logger.debug("failed", exc_info=True)
    screen, log = capsys.readouterr().err, (tmp_path / "log.txt").read_text(encoding="utf-8")
    for text in (screen, log):
        assert f"scanned {ESCAPED}, 3\n" in text and f"as text: {ESCAPED}\n" in text
        assert not any(sign in text for sign in "\x1b\x07\u202e\x9b")
    assert f"long: {'7' * 20}...{'7' * 20}.\n" in screen and "7" * 400 in log
    assert "Traceback" in log and "Traceback" not in screen


def test_what_is_said_of_a_listing_is_said_once_and_all_else_each_time(tmp_path, capsys):
    for _command in range(2):  # each says it anew
        log_to(RunFolder(tmp_path))
        for _ in range(3):
            logging.getLogger("salad.datasets.x").info("val: none, so %d images are held out", 4)
            logging.getLogger("salad.scoring.x").info("drift: begins")
        for text in (capsys.readouterr().err, (tmp_path / "log.txt").read_text(encoding="utf-8")):
            assert text.count("held out") == 1 and text.count("drift") == 3
        (tmp_path / "log.txt").unlink()


STYLE = re.compile(r"(?:  )?(?:[a-z0-9]|AUC|F1)")  # a subject in lower case, in a table moved to the right


@pytest.mark.slow
def test_lines_of_a_whole_run_have_one_style(tmp_path):
    phantom.write_phantom(tmp_path / "data", size=32, num_train=8, num_val=6, num_test=6)
    shutil.rmtree(tmp_path / "data/val")
    data = ["--val_share", 0.3, "--cache", tmp_path / "cache"]
    options = ["--align", "--w_syn", 1, "--score", "fused", "--fuse", "local", "--fuse", "knn"]
    train(tmp_path / "xp", tmp_path / "data", *data, *options)
    result = invoke(cli.test, "CXR_author", "unet", tmp_path / "xp", tmp_path / "data", *TINY, "--report")
    assert result.exit_code == 0, result.stderr
    lines = [line.split(" ", 3)[3] for line in (tmp_path / "xp/log.txt").read_text(encoding="utf-8").splitlines()]
    assert len(lines) > 30
    for line in lines:
        assert STYLE.match(line) and not line.endswith((".", "!")), line
    said = result.stderr.splitlines()
    assert len(said) > 20 and [line for line in set(said) if said.count(line) > 1] == []


def test_a_warning_of_a_library_is_one_line(capsys):
    prepare_output()
    print(warnings.formatwarning(EVIL, UserWarning, "a.py", 1), end="")
    assert capsys.readouterr().out == f"UserWarning: {ESCAPED}\n"


WORDS = [
    (cli.train, ["CXR_author", "unet", "xp", EVIL]),
    (cli.train, ["CXR_author", "unet", "xp", ".", "--load_config", EVIL]),
    (cli.train, ["CXR_author", "unet", "xp", ".", "--lr", EVIL]),
    (cli.train, ["CXR_author", "unet", "xp", ".", "--resize", EVIL]),
    (cli.train, ["CXR_author", "unet", "xp", ".", f"--{EVIL}"]),
    (cli.train, ["CXR_author", "unet", "xp", ".", EVIL]),
    (cli.train, [EVIL, "unet", "xp", "."]),
    (cli.test, ["CXR_author", "unet", "xp", ".", "--load_model", EVIL]),
    (main, [EVIL]),
    (main, ["predict", EVIL, "--load_model", EVIL]),
    (main, ["predict", "--k", EVIL]),
    (main, ["compare", EVIL]),
    (main, ["inspect", "CXR_author", EVIL]),
    (main, ["export", EVIL, "--format", "onnx", "--out", "x"]),
    (main, ["fetch", "--archive", EVIL, "--sha256", EVIL]),
]


@pytest.mark.parametrize(("command", "words"), WORDS, ids=range(len(WORDS)))
def test_nothing_that_is_typed_acts_on_the_terminal(tmp_path, monkeypatch, command, words):
    monkeypatch.chdir(tmp_path)
    result = invoke(command, *words)
    assert result.exit_code == 2 and "Error" in result.stderr
    assert not any(sign in result.output for sign in "\x1b\x07\u202e\x9b")
    assert not (tmp_path / "xp").exists()  # a failed start leaves nothing


@pytest.mark.parametrize("words", [["--isize", "9" * 400], ["--lr", "x" * 5000], ["--load_config", "a/" * 1500]])
def test_long_values_are_cut(tmp_path, words):
    result = invoke(cli.train, "CXR_author", "unet", tmp_path / "xp", tmp_path, *words)
    assert result.exit_code == 2 and len(result.stderr) < 1000 and "..." in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "ascii:strict"])
def test_a_character_that_the_terminal_lacks_is_escaped(tmp_path, encoding):
    name = "胸é"
    command = [sys.executable, "-m", "salad", "inspect", "CXR_author", tmp_path / name]
    env = {**ONE_THREAD, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True)
    text = done.stderr.decode(encoding.partition(":")[0])
    assert done.returncode == 2 and text.startswith("Error: ") and "\\u80f8" in text and "Internal" not in text
    assert ("é" if encoding in ("latin-1", "cp1252") else "\\xe9") in text


def test_results_are_still_json(tmp_path, data):
    result = invoke(main, "inspect", "CXR_author", data, "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)


# Starts that fail ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exists", [False, True], ids=["new", "existing"])
@pytest.mark.parametrize(
    ("command", "words"),
    [
        (cli.train, ["DATA", "--load_model", "absent.tar"]),
        (cli.train, ["/nonexistent"]),
        (cli.train, ["DATA", "--resume"]),
        (cli.train, ["DATA", "--normal_class", "absent"]),
        (cli.train, ["DATA", "--device", "cuda:99"]),
        (cli.test, ["DATA"]),
        (cli.test, ["DATA", "--load_model", "absent.tar"]),
    ],
    ids=range(7),
)
def test_a_failed_start_leaves_nothing(tmp_path, data, command, words, exists):
    xp = tmp_path / "a/b/xp"
    if exists:
        xp.mkdir(parents=True)
        (xp / "notes").touch()
    before = sorted(tmp_path.rglob("*"))
    stopped(invoke(command, "CXR_author", "unet", xp, *[data if word == "DATA" else word for word in words], *TINY))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_log_that_messages_refer_to_stays(tmp_path):
    folder = RunFolder(tmp_path / "xp")
    with pytest.raises(KeyboardInterrupt), folder.starting():
        log_to(folder)
        logging.getLogger("salad.x").error("a.png: cut off", extra={"only_in_file": False})
        raise KeyboardInterrupt
    assert "a.png" in (tmp_path / "xp/log.txt").read_text()


@pytest.mark.parametrize("depth", [1200, 3000])
def test_folders_nested_too_deeply_are_bad_input(tmp_path, depth):
    """Below the limit of a path they are made and removed; above it, the system refuses them."""
    path = os.fspath(tmp_path) + "/x" * depth
    for command, words in (
        (cli.train, ["CXR_author", "unet", path, "/nonexistent"]),
        (cli.train, ["CXR_author", "unet", tmp_path / "xp", path]),
        (cli.test, ["CXR_author", "unet", path, tmp_path]),
        (cli.test, ["CXR_author", "unet", tmp_path / "xp", path, "--load_model", path]),
        (main, ["predict", path, "--load_model", path]),
        (main, ["inspect", "CXR_author", path]),
        (main, ["compare", path]),
    ):
        assert len(stopped(invoke(command, *words))) < 900
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_a_folder_or_a_pipe_in_place_of_a_file_is_said_before_anything_is_done(tmp_path, name, make):
    make(tmp_path / name)
    with pytest.raises(InputError, match=f"{name}: is no regular file; remove it, or choose another folder"):
        RunFolder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
