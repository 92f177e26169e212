"""Both forms of the command lines: four arguments, or XP_PATH with --normal, or with what the model knows."""

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from running import ONE_THREAD, REPOSITORY, SHORT, TINY, invoke, read_csv, read_json, stopped

from salad import cli
from salad.build import open_context
from salad.checkpoint import load_checkpoint
from salad.cli import main
from salad.cli.arguments import add_trained
from salad.config import Config
from salad.datasets import phantom
from salad.errors import InputError
from salad.scoring.training_images import find_training_images

LOCAL = ["--score", "local", "--w_syn", 1, "--local_grid", 2]
BOTH = "DATASET_NAME NET_NAME XP_PATH DATA_PATH  or  XP_PATH "


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Thirty normal films of ten patients in nested folders, and six abnormal ones."""
    root = tmp_path_factory.mktemp("films")
    phantom.write_phantom(root / "drawn", size=32, num_train=30, num_val=0, num_test=6)
    rows = ["path,patient_id"]
    for name, source in (("normal", "train/0.normal"), ("sick", "test/1.abnormal")):
        for number, film in enumerate(sorted((root / "drawn" / source).iterdir())):
            inner = f"{name}/{'old/2019/' if number % 2 else ''}{number:02d}.png"
            (root / inner).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(film, root / inner)
            rows.append(f"{inner},q{number % 10 if name == 'normal' else 5}")
    (root / "patients.csv").write_text("\n".join(rows))
    shutil.rmtree(root / "drawn")
    return root


@pytest.fixture(scope="module")
def trained(films, tmp_path_factory):
    """A run of normal films alone; its folder and what was said."""
    xp = tmp_path_factory.mktemp("run") / "xp"
    result = invoke(cli.train, xp, "--normal", films / "normal", *SHORT, *LOCAL)
    assert result.exit_code == 0, result.stderr
    return xp, result.stderr


@pytest.fixture
def xp(trained, tmp_path):
    return shutil.copytree(trained[0], tmp_path / "xp")


def test_normal_stands_for_data_set_network_and_data_path(trained, films):
    xp, said = trained
    config = read_json(xp / "config.json")

    assert [config[name] for name in ("dataset_name", "net_name", "xp_path", "data_path")] == [
        "Folders", "unet", str(xp), str(films / "normal")
    ]  # fmt: skip
    assert said.splitlines()[-1] == f"done: score with  python test.py {xp}"


def test_without_abnormal_films_the_specificity_is_measured(xp):
    result = invoke(cli.test, xp, *TINY)

    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "AUC score = undefined (all 3 test images are normal)"
    metrics = read_json(xp / "metrics.json")
    line = "no abnormal test image: AUC and sensitivity are not measured; the specificity is, on 3 images"
    assert line in metrics["warnings"] and line in result.stderr
    assert metrics["auc"] is None and metrics["at_threshold"]["sensitivity"] is None
    assert metrics["at_threshold"]["specificity"]["of"] == 3
    assert "  specificity   " in result.stderr


def test_abnormal_films_that_come_after_the_training_are_scored_and_leaks_are_said(xp, films):
    """Patient 5, who was trained on, has the abnormal films."""
    result = invoke(cli.test, xp, "--abnormal", films / "sick", *TINY)

    assert result.exit_code == 0, result.stderr
    rows = read_csv(xp / "scores.csv")
    assert sum(row["path"].startswith("abnormal/") for row in rows) == 6 == sum(row["label"] == "1" for row in rows)
    assert len(rows) == 6 + 3 + 3
    assert "leak: images of test that are in train, too: 3, the first" in result.stderr
    assert "AUC score = 0." in result.stdout or "AUC score = 1." in result.stdout


def test_films_that_have_moved_are_named_anew(films, tmp_path):
    place = shutil.copytree(films, tmp_path / "films")
    xp = tmp_path / "xp"
    own = ["--normal", place / "normal", "--abnormal", place / "sick"]
    assert invoke(cli.train, xp, *own, *SHORT, *LOCAL).exit_code == 0
    assert invoke(cli.test, xp, *TINY).exit_code == 0
    before = read_csv(xp / "scores.csv")
    shutil.move(place, tmp_path / "moved")

    said = stopped(invoke(cli.test, xp, *TINY))
    assert f"{place / 'normal'}: DATA_PATH of the training is no longer there: name it anew with --normal" in said
    moved = ["--normal", tmp_path / "moved/normal", "--abnormal", tmp_path / "moved/sick"]
    assert "--abnormal" in stopped(invoke(cli.test, xp, *moved[:2], *TINY))
    result = invoke(cli.test, xp, *moved, *TINY)
    assert result.exit_code == 0 and "is replaced" not in result.stderr, result.stderr
    assert [(row["path"], row["label"]) for row in read_csv(xp / "scores.csv")] == [
        (row["path"], row["label"]) for row in before
    ]
    checkpoint = load_checkpoint(xp / "model.tar")
    values = {**checkpoint.config, "data_path": str(moved[1]), "abnormal": str(moved[3])}
    found = find_training_images(open_context(Config.from_json(values), template=None), checkpoint)
    assert len(found.samples) == read_json(xp / "config.json")["run"]["num_train"]


def test_a_model_knows_its_data_set(data, tmp_path):
    """Class folders: the test by XP_PATH alone is that of all arguments, and --load_config can give them, too."""
    xp = tmp_path / "xp"
    assert invoke(cli.train, "CXR_phantom", "unet", xp, data, *SHORT).exit_code == 0
    short = invoke(cli.test, xp, *TINY)
    assert short.exit_code == 0, short.stderr
    full = invoke(cli.test, "CXR_phantom", "unet", xp, data, *TINY)
    assert full.exit_code == 0 and full.stdout == short.stdout
    assert invoke(cli.train, tmp_path / "other", "--load_config", xp / "config.json").exit_code == 0
    assert read_json(tmp_path / "other/config.json")["dataset_name"] == "CXR_phantom"


def test_a_published_file_does_not_name_its_data_set(tmp_path):
    published = SimpleNamespace(config=None, path=tmp_path / "model.tar", net_name="unet")
    with pytest.raises(InputError, match=f"does not name the data set of its training: give {BOTH}"):
        add_trained({"xp_path": tmp_path}, published)
    given = {"xp_path": tmp_path, "dataset_name": "Folders", "data_path": tmp_path}
    assert add_trained(given, published) == {**given, "net_name": "unet"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "DATASET_NAME, XP_PATH, DATA_PATH are missing: give  "),
        (["xp"], "DATASET_NAME, DATA_PATH are missing: give  "),
        (["--normal", "films"], "XP_PATH is missing: give  "),
        (["CXR_author", "unet", "xp"], "3 arguments, but 4 or 1 are needed: give  "),
        (["CXR_author", "unet", "xp", "data", "--normal", "films"], "--normal stands for the data set and DATA_PATH"),
        (["", "--normal", "films"], "XP_PATH: an empty path: is a variable not set?"),
        (["xp", "--normal", ""], "an empty path: is a variable not set?"),
    ],
)
def test_a_wrong_number_of_arguments_is_met_with_both_forms(tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    result = invoke(cli.train, *words)
    assert result.exit_code == 2 and said in result.stderr
    assert "empty path" in said or f"{BOTH}--normal DIR [--abnormal DIR]" in result.stderr
    assert not [*tmp_path.iterdir()]


def test_more_arguments_than_there_are_show_both_forms():
    result = invoke(cli.test, "CXR_author", "unet", "xp", "data", "more")
    assert result.exit_code == 2
    assert "DATASET_NAME NET_NAME XP_PATH DATA_PATH | XP_PATH [--normal DIR]" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("program", "words", "command"),
    [
        ("test.py", ["xp"], "python main.py xp --normal DIR"),
        ("test.py", ["CXR_author", "unet", "xp", "my data"], "python main.py CXR_author unet xp 'my data'"),
        ("salad", ["xp", "--normal", "a", "--abnormal", "b"], "salad train xp --normal a --abnormal b"),
    ],
)
def test_scoring_before_training_says_how_to_train(tmp_path, monkeypatch, program, words, command):
    monkeypatch.chdir(tmp_path)
    called, typed = (main, ["test", *words]) if program == "salad" else (cli.test, words)
    result = CliRunner().invoke(called, typed, prog_name=program)
    assert result.exit_code == 2
    assert result.stderr == f"Error: xp/model.tar: no such file; train first:  {command} --recipe strong\n"
    assert not [*tmp_path.iterdir()]
    (tmp_path / "xp").mkdir()
    (tmp_path / "xp/model_round1.tar").touch()
    assert "the folder holds model_round1.tar, for --load_model" in stopped(invoke(cli.test, "xp"))


def test_inspect_takes_folders(films):
    result = invoke(main, "inspect", "--normal", films / "normal", "--abnormal", films / "sick", "--json")
    assert result.exit_code == 0, result.stderr
    splits = json.loads(result.stdout)["splits"]
    assert sum(split["num_normal"] for split in splits.values()) == 30
    assert splits["test"]["classes"] == {"abnormal": 6, "normal": splits["test"]["num_normal"]}
    assert splits["train"]["num_patients"] + splits["val"]["num_patients"] + splits["test"]["num_patients"] == 10
    assert json.loads(result.stdout)["leaks"] == []
    assert "give  DATASET_NAME DATA_PATH  or  --normal DIR" in stopped(invoke(main, "inspect", "Folders"))


@pytest.mark.slow
def test_two_commands_from_a_folder_to_an_auc(films, tmp_path):
    def run(*words):
        words = [sys.executable, *map(str, words), "--device", "cpu", "--isize", "64"]
        return subprocess.run(words, cwd=REPOSITORY, env=ONE_THREAD, capture_output=True, text=True, check=True)

    own = ["--normal", films / "normal", "--abnormal", films / "sick"]
    trained = run("-m", "salad", "train", tmp_path / "run", *own, "--n_epochs", 1, "--recipe", "strong")
    assert f"done: score with  python -m salad test {tmp_path / 'run'}" in trained.stderr
    scored = run("test.py", tmp_path / "run", "--no_report")
    assert scored.stdout.startswith("AUC score = ")
