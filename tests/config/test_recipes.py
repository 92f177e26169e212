import json
from pathlib import Path

import pytest
from running import TINY, invoke, read_json, score, stopped, tiny_unet, train

from salad import cli
from salad.config import OPTIONS, Config
from salad.config.declare import TRAIN
from salad.config.recipes import RECIPES, describe_recipe
from salad.datasets import phantom
from salad.detector import Detector
from salad.errors import InputError

PLACES = {"dataset_name": "CXR_author", "xp_path": Path("xp"), "data_path": Path("data")}
SMALL = ["--isize", 64, "--n_epochs", 1, "--rep_dim", 8, "--batch_size", 4]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "data"
    phantom.write_phantom(root, size=32, num_train=6, num_val=2, num_test=2)
    return root


@pytest.mark.parametrize("net_name", ["unet", "CXR_resnet18"])
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_made_of_training_options(name, net_name):
    assert all(TRAIN in OPTIONS[option].facts.commands for option in RECIPES[name])
    config = Config.of({"net_name": net_name, "recipe": name, **PLACES, **RECIPES[name]})
    assert config.scoring.parts  # of the score: nothing is missing for it


def test_the_released_recipe_is_the_authors_protocol():
    config = Config.of({"net_name": "unet", **PLACES})
    different = {option for option, value in RECIPES["released"].items() if value != config.values()[option]}
    assert different == {"n_epochs", "augment", "train_on"}
    assert (RECIPES["released"]["augment"], RECIPES["released"]["train_on"]) == ("flip", "all")


def test_flags_win_over_a_recipe_which_is_said_in_full(data, tmp_path):
    train(tmp_path / "xp", data, "--recipe", "strong", *SMALL)
    config = read_json(tmp_path / "xp/config.json")
    assert config["recipe"] == "strong"
    for option, value in RECIPES["strong"].items():
        given = {"isize": 64, "n_epochs": 1, "batch_size": 4}.get(option, value)
        assert config[option] == (list(given) if isinstance(given, tuple) else given), option
    (line,) = [line for line in (tmp_path / "xp/log.txt").read_text().splitlines() if "recipe strong" in line]
    assert all(f"--{option} " in line for option in RECIPES["strong"])
    assert "--isize 64 (not 128)" in line and "--align on" in line and "--w_rec 0," in line


def test_a_run_with_a_recipe_is_resumed_and_scored(data, tmp_path):
    command = ["--recipe", "strong", *SMALL]
    train(tmp_path, data, *command)
    assert len(train(tmp_path, data, *command, "--n_epochs", 2, "--resume")) == 2
    assert len(score(tmp_path, data)) == 4
    assert read_json(tmp_path / "metrics.json")["score"] == "fused"


def test_a_recipe_of_a_file_gives_way_to_the_file_and_a_typed_one_does_not(data, tmp_path):
    file = tmp_path / "options.json"
    file.write_text(json.dumps({"recipe": "strong", "lr": 0.5, "batch_size": 3}))
    words = ["CXR_author", "unet", tmp_path / "xp", data, *TINY, "--isize", 64, "--n_epochs", 1]
    assert invoke(cli.train, *words, "--load_config", file).exit_code == 0
    config = read_json(tmp_path / "xp/config.json")
    assert (config["lr"], config["crop"]) == (0.5, 0.8)

    again = invoke(cli.train, *words, "--load_config", file, "--recipe", "strong", "--overwrite")
    assert again.exit_code == 0
    assert read_json(tmp_path / "xp/config.json")["lr"] == RECIPES["strong"]["lr"]


def test_an_unknown_recipe_is_refused(data, tmp_path):
    file = tmp_path / "options.json"
    file.write_text(json.dumps({"recipe": "best"}))
    line = stopped(invoke(cli.train, "CXR_author", "unet", tmp_path / "xp", data, "--load_config", file))
    assert "--recipe is 'best'" in line and "released" in line
    with pytest.raises(InputError, match="--recipe is 'best'"):
        Detector(recipe="best").fit([])


@pytest.mark.parametrize("given", [{"recipe": "strong"}, {}])
def test_a_detector_takes_a_recipe(data, given):
    options = {"isize": 64, "n_epochs": 1, "rep_dim": 8, "n_jobs_dataloader": 0, "device": "cpu", "lr": 1e-4}
    films = sorted((data / "train").rglob("*.png"))
    with tiny_unet():
        detector = Detector(**options, ans_size=2, val_share=0.4, **given).fit(films)
        again = Detector(**options, ans_size=2, val_share=0.4).set_params(**given).fit(films)

    values = detector.scorer_.config.values()
    assert values["align"] is bool(given) and values["w_syn"] == len(given)
    assert (values["isize"], values["n_epochs"]) == (64, 1)  # what was given wins
    assert values["lr"] == 1e-4  # also where it is the default of main.py
    assert again.scorer_.config.values()["align"] is values["align"]
    assert values["train_on"] == "normal"


def test_a_recipe_is_described_by_what_a_run_has():
    values = {**RECIPES["strong"], "lr_milestone": (3,)}
    assert "--lr_milestone 3 (not 8 11)" in describe_recipe("strong", values)
