import dataclasses
import json
import math
from pathlib import Path

import pytest

from salad.config import OPTIONS, Config
from salad.config.declare import read_values
from salad.errors import InputError
from salad.losses import LOSSES

NAN, INF = math.nan, math.inf

# every parameter that is a number or a word: values that must pass, values that must not
LIMITS = {
    "isize": ([64, 256, 8192], [0, -64, 100, 8256]),
    "resize": (["squash", "pad", "crop"], ["stretch", ""]),
    "normalize": (["fixed", "standardize", "clahe"], ["none", ""]),
    "train_on": (["normal", "all"], ["abnormal"]),
    "crop": ([0.04, 0.7, 1.0], [0.0, 0.03, 1.01, -0.1, NAN, INF]),
    "augment": (["ssl", "flip"], ["none"]),
    "n_views": ([1, 3], [0, -1]),
    "batch_size": ([1, 500], [0, -1]),
    "n_jobs_dataloader": ([0, 8], [-1]),
    "on_bad_image": (["error", "skip"], ["ignore", ""]),
    "recipe": (["paper", "released", "strong", None], ["best", ""]),
    "rep_dim": ([1, 200], [0]),
    **{spec.weight: ([0.0, 3.0], [-0.1, NAN, INF]) for spec in LOSSES.values()},
    "rec_loss": (["l1", "mse"], ["l2"]),
    "objective": (["one-class", "soft-boundary"], ["soft"]),
    "nu": ([0.001, 1.0], [0.0, 1.001, -0.1, NAN, INF]),
    "npc_temperature": ([0.01, 5.0], [0.0, -0.1, NAN, INF]),
    "npc_momentum": ([0.0, 0.999], [-0.1, 1.0, NAN, INF]),
    "ans_select_rate": ([0.01, 1.0], [0.0, 1.01, -0.1, NAN, INF]),
    "ans_size": ([1, 50], [0]),
    "optimizer_name": (["adam", "amsgrad"], ["sgd"]),
    "lr": ([1e-9, 1.0], [0.0, -1e-4, NAN, INF]),
    "lr_milestone": ([(1,), (5, 20)], [(0,), (5, -1)]),
    "weight_decay": ([0.0, 0.1], [-1e-6, NAN, INF]),
    "n_epochs": ([1, 500], [0]),
    "pre_training_epochs": ([0, 5], [-1]),
    "k": ([1, 150, None], [0, -1]),
    "resume": (["must", "auto", None], ["maybe"]),
    "keep": ([1, None], [0, -1]),
    "on_collapse": (["warn", "stop"], ["ignore"]),
    "score": (["knn", "weighted", "svdd", "reconstruction", "local", "backbone", "fused"], ["cosine"]),
    "fuse": ([("local",), ("knn", "backbone"), None], [("fused",), ("cosine",)]),
    "local_grid": ([1, 3, 32], [0, 33]),
    "local_rows": ([1, 10_000], [0]),
    "specificity": ([0.5, 1], [0, 1.1, -0.1]),
    "min_normals": ([1, 20], [0]),
    "amp": (["auto", "bf16", "fp16", "off"], ["fp32", ""]),
    "seed": ([-1, 0, 2], [-2, 2**64]),
    "view": (["PA", "AP", None], ["pa", "LL"]),
    "min_age": ([0, 18, None], [-1]),
    "val_share": ([0.0, 0.1, 0.5], [-0.1, 0.6, NAN, INF]),
}


def make(net_name="unet", **values):
    paths = {"xp_path": Path("log/run"), "data_path": Path("data/author")}
    dataset = "NIH" if values.keys() & {"split_dir", "view", "min_age"} else "CXR_author"
    return Config.of({"dataset_name": dataset, "net_name": net_name, **paths, **values})


def write(path, values):
    path.write_text(json.dumps(values))
    return path


def test_every_number_and_choice_is_in_the_table():
    bounded = {one.name for one in OPTIONS.values() if one.kind in (int, float) or one.facts.choices}
    assert bounded == LIMITS.keys()


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, (good, _) in LIMITS.items() for value in good])
def test_value_within_bounds(name, value):
    assert make(**{name: value}).values()[name] == (256 if name == "isize" and value is None else value)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, (_, bad) in LIMITS.items() for value in bad])
def test_value_out_of_bounds(name, value):
    with pytest.raises(InputError) as caught:
        make(**{name: value})
    message = str(caught.value)
    shown = min(value) if isinstance(value, tuple) else value  # a tuple: the element at fault
    assert message.startswith(f"--{name} is ")
    assert str(shown) in message
    assert "\n" not in message


def test_image_size_depends_on_the_network():
    assert make("unet").images.isize == make("unet").images.size == 256
    assert make("CXR_resnet18").images.isize == 224
    assert make("CXR_resnet18", isize=48).images.isize == 48


def test_unknown_network():
    with pytest.raises(InputError, match="'resnet'.*unet, CXR_resnet18"):
        make("resnet")


@pytest.mark.parametrize(("rate", "rounds"), [(0.1, 10), (0.2, 5), (0.3, 3), (0.5, 2), (0.7, 1), (1.0, 1), (0.05, 20)])
def test_number_of_rounds(rate, rounds):
    assert make(ans_select_rate=rate).num_rounds == rounds
    assert make(ans_select_rate=rate, w_contrast=0.0).num_rounds == 0


def test_nothing_to_train():
    with pytest.raises(InputError, match="all 0"):
        make(w_rec=0.0, w_svdd=0.0, w_contrast=0.0)


def test_pre_training_without_reconstruction():
    with pytest.raises(InputError, match="--pre_training_epochs .*--w_rec is 0"):
        make(w_rec=0.0, pre_training_epochs=1)


def test_values_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().optimisation.lr = 1.0


@pytest.mark.parametrize(
    "values",
    [
        {},
        {
            "net_name": "CXR_resnet18",
            "isize": 64,
            "normal_class": "0.normal",
            "weights": "none",
            "load_model": Path("a/b.tar"),
            "lr_milestone": (3, 7),
            "k": 9,
            "w_rec": 1.0,
            "deterministic": True,
            "train_on": "all",
            "seed": 7,
        },
        {"split_dir": Path("lists"), "view": "PA", "min_age": 18},
    ],
)
def test_json_round_trip(tmp_path, values):
    config = make(**values)
    path = write(tmp_path / "config.json", {**config.as_json(), "run": {"device": "cpu"}})
    assert Config.of(read_values(path, OPTIONS)) == config


def test_json_leaves_overwrite_out():
    assert "overwrite" not in make(overwrite=True).as_json()
    assert make(overwrite=True).as_json() == make().as_json()


@pytest.mark.parametrize(("name", "close"), [("batchsize", "batch_size"), ("n_epoch", "n_epochs"), ("LR", None)])
def test_unknown_key(tmp_path, name, close):
    hint = f"; did you mean '{close}'\\?" if close else ""
    with pytest.raises(InputError, match=f"no option is called '{name}'{hint}"):
        read_values(write(tmp_path / "config.json", {name: 1}), OPTIONS)


def test_key_that_resembles_nothing_gets_no_hint(tmp_path):
    with pytest.raises(InputError, match="no option is called 'zzzzzz'$"):
        read_values(write(tmp_path / "config.json", {"zzzzzz": 1}), OPTIONS)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("isize", "64", "int"),
        ("isize", 64.0, "int"),
        ("batch_size", True, "int"),
        ("batch_size", None, "int"),
        ("lr", "1e-4", "float"),
        ("lr", [1e-4], "float"),
        ("lr", True, "float"),
        ("resize", 3, "str"),
        ("deterministic", 1, "bool"),
        ("deterministic", "yes", "bool"),
        ("load_model", 5, "Path"),
        ("lr_milestone", [1, "2"], "int"),
        ("lr_milestone", {"1": 2}, "int"),
    ],
)
def test_wrong_type(tmp_path, name, value, kind):
    with pytest.raises(InputError, match=f"{name} is .*, but must be of type {kind}$"):
        read_values(write(tmp_path / "config.json", {name: value}), OPTIONS)


def test_values_get_the_type_of_their_parameter(tmp_path):
    values = {"lr": 1, "xp_path": "log/x", "lr_milestone": [2, 4], "k": None, "load_model": None, "isize": 64}
    found = read_values(write(tmp_path / "config.json", values), OPTIONS)
    expected = {**values, "lr": 1.0, "xp_path": Path("log/x"), "lr_milestone": (2, 4)}
    assert found == expected
    assert [type(found[name]) for name in ("lr", "isize", "lr_milestone")] == [float, int, tuple]


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"[1]", b"3"])
def test_file_that_holds_no_options(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=f"^--load_config {tmp_path / 'config.json'}: ") as caught:
        read_values(tmp_path / "config.json", OPTIONS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["absent.json", "."])
def test_file_that_cannot_be_read(tmp_path, name):
    with pytest.raises(InputError, match="cannot be read"):
        read_values(tmp_path / name, OPTIONS)


def test_number_that_json_does_not_know(tmp_path):
    (tmp_path / "config.json").write_text('{"lr": NaN}')
    with pytest.raises(InputError, match="NaN is not a number of JSON"):
        make(**read_values(tmp_path / "config.json", OPTIONS))
