"""Checkpoints and config.json of versions that had more options."""

import json

import pytest
import torch
from running import invoke, read_csv, read_json, read_tar, score, tiny_unet, train

from salad import Detector
from salad.__main__ import main
from salad.config import Config
from salad.config.declare import REMOVED, read_values
from salad.errors import InputError


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
    assert name not in Config.__dataclass_fields__
    for value in ("nonsense", None, [], {}):
        (tmp_path / "config.json").write_text(json.dumps({name: value}))
        with pytest.raises(InputError, match=f"no option is called '{name}'"):
            read_values(tmp_path / "config.json", Config)
