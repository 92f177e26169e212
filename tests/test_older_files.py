"""Checkpoints and config.json of versions that had more options."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from running import invoke, read_csv, read_json, read_lines, read_tar, score, tiny_unet, train

from salad import Detector, cli
from salad.checkpoint import load_checkpoint
from salad.cli import main
from salad.config import OPTIONS
from salad.config.declare import REMOVED, read_values
from salad.errors import InputError

RELEASED = Path(__file__).parent / "release_0.1.0"


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in REMOVED.items() for value in values])
def test_every_command_takes_a_run_with_an_option_that_is_gone(data, tmp_path, name, value):
    xp, only_test = tmp_path / "xp", data / "test"
    train(xp, data)
    expected = score(tmp_path / "now", data, "--load_model", xp / "model.tar")
    for path in xp.glob("*.tar"):
        content = read_tar(path)
        content["config"][name] = value
        torch.save(content, path)
    (xp / "config.json").write_text(json.dumps({**read_json(xp / "config.json"), name: value}))

    words = ["--load_model", xp / "model.tar", "--load_config", xp / "config.json"]
    assert score(tmp_path / "older", data, *words) == expected
    predicted = invoke(main, "predict", *words, "--device", "cpu", "--out", tmp_path / "found.csv", only_test)
    assert predicted.exit_code == 0, predicted.stderr
    assert sorted(float(row["score"]) for row in read_csv(tmp_path / "found.csv")) == pytest.approx(sorted(expected))
    with tiny_unet():
        detector = Detector.load(xp / "model.tar", device="cpu")
    detector.save(tmp_path / "saved.tar")
    assert score(tmp_path / "saved", data, "--load_model", tmp_path / "saved.tar") == expected
    lines = train(xp, data, "--load_config", xp / "config.json", "--resume", "--n_epochs", 2)
    assert [line["epoch"] for line in lines][-1] > 2
    assert name not in read_tar(xp / "last.tar")["config"] and name not in read_json(xp / "config.json")


@pytest.mark.parametrize("name", REMOVED)
def test_a_value_that_an_option_never_had_is_refused(tmp_path, name):
    assert name not in OPTIONS
    for value in ("nonsense", None, [], {}):
        (tmp_path / "config.json").write_text(json.dumps({name: value}))
        with pytest.raises(InputError, match=f"no option is called '{name}'"):
            read_values(tmp_path / "config.json", OPTIONS)


# A run of release 0.1.0: eight films, six epochs of all losses; its checkpoint, its options and the scores it gave


@pytest.fixture
def released(tmp_path) -> Path:
    shutil.copytree(RELEASED, tmp_path / "released")
    return tmp_path / "released"


def test_a_run_of_release_0_1_0_scores_as_it_did(released):
    expected = [float(row["score"]) for row in read_csv(released / "run/scores.csv")]
    checkpoint = load_checkpoint(released / "run/last.tar")

    scores = score(released / "now", released / "data", "--load_model", released / "run/last.tar", "--cache", "off")

    assert checkpoint.config["knn"] == "exact"  # an option that is gone since
    assert scores == pytest.approx(expected, rel=1e-3, abs=1e-3)  # of another processor, standardised
    with tiny_unet():
        detector = Detector.load(released / "run/last.tar", device="cpu")
        paths = [released / "data" / row["path"] for row in read_csv(released / "run/scores.csv")]
        assert detector.score(paths) == pytest.approx(scores, abs=1e-5)
        assert detector.get_params()["fuse"] == ("local", "reconstruction")


def test_a_run_of_release_0_1_0_is_resumed(released):
    before = read_lines(released / "run/metrics.jsonl")

    words = ["CXR_author", "unet", released / "run", released / "data", "--resume", "--n_epochs", 4]
    result = invoke(cli.train, *words)
    assert result.exit_code == 0, result.stderr
    lines = read_lines(released / "run/metrics.jsonl")

    assert lines[: len(before)] == before
    assert [line["epoch"] for line in lines[len(before) :]] == [7]
    assert all(math.isfinite(line[name]) for line in lines for name in ("loss", "rec", "svdd", "syn", "aggregation"))
    config = read_json(released / "run/config.json")
    assert "knn" not in config and config["n_epochs"] == 4
