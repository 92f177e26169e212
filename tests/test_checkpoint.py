"""Checkpoints: what is in them, what is accepted, and what is refused."""

import pickle
import shutil
from pathlib import Path

import pytest
import torch
from naming_rule import CHECKPOINT_KEYS, state_from_names
from running import SHORT, TINY, assert_same_scores, invoke, read_tar, score, stopped, train

from salad import checkpoint as checkpoints
from salad import cli
from salad.checkpoint import Checkpoint, load_checkpoint
from salad.cli import main
from salad.errors import InputError, StorageError
from salad.networks import build_network
from salad.runs import sealed

PUBLISHED_KEYS = {"model_state_dict", "memory_state_dict", "ans_discovery_state_dict"}
ANCHOR_KEYS = {
    "samples_num", "anchor_indexes", "instance_indexes", "position", "neighbours", "entropy", "consistency"
}  # fmt: skip
PUBLISHED_ISIZE = {"unet": 256, "CXR_resnet18": 224}
REP_DIM = 200


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the tiny network: rounds 0 and 1."""
    xp = tmp_path_factory.mktemp("run") / "xp"
    train(xp, data)
    return xp


@pytest.fixture
def content(run: Path) -> dict:
    return read_tar(run / "model.tar")


def save(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


def refuse(path: Path, data: Path, xp: Path) -> str:
    """The one line with which test.py refuses a checkpoint; it names the file."""
    line = stopped(invoke(cli.test, "CXR_author", "unet", xp, data, *TINY, "--load_model", path))
    assert str(path) in line
    return line


# What we write --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_last_tar_holds_all_that_a_run_needs(run):
    content = read_tar(run / "last.tar")
    own = {"schema_version", "config", "optimizer", "schedule", "round", "epoch", "rng", "row_labels", "svdd", "images"}
    assert content.keys() >= PUBLISHED_KEYS | own
    assert content["memory_state_dict"]["memory"].shape == (8, 8)
    assert content["memory_state_dict"]["params"].tolist() == pytest.approx([0.1, 0.5])
    assert content["schema_version"] == checkpoints.SCHEMA_VERSION
    assert content["config"]["net_name"] == "unet" and content["config"]["isize"] == 64
    assert (content["round"], content["epoch"]) == (1, 2)
    assert content["row_labels"].tolist() == [0] * 8
    assert content["svdd"]["centre"].norm().item() == pytest.approx(1, abs=1e-6)
    assert content["svdd"]["radius"].shape == ()
    steps = [state["step"].item() for state in content["optimizer"]["state"].values()]
    assert set(steps) == {4}  # two epochs of two batches
    assert content["schedule"]["last_epoch"] == 2


def test_the_anchors_of_the_round_are_in_the_file(content, run):
    state = content["ans_discovery_state_dict"]
    assert state.keys() == ANCHOR_KEYS
    assert int(state["samples_num"]) == 8
    assert state["anchor_indexes"].tolist() == list(range(8))  # --ans_select_rate 1
    assert state["neighbours"].shape == (8, 3) and state["entropy"].shape == (8,)
    first = read_tar(run / "model_round0.tar")["ans_discovery_state_dict"]
    assert first.keys() == ANCHOR_KEYS and len(first["anchor_indexes"]) == 0
    assert first["instance_indexes"].tolist() == list(range(8)) and first["position"].tolist() == [-1] * 8


def test_tensor_names_and_shapes_are_the_published_ones():
    for net_name, isize in PUBLISHED_ISIZE.items():
        with torch.device("meta"):
            own = build_network(net_name, rep_dim=REP_DIM, isize=isize).state_dict()
        assert {name: list(tensor.shape) for name, tensor in own.items()}.items() <= CHECKPOINT_KEYS[net_name].items()


def save_again(path: Path, run: Path, monkeypatch, failing) -> None:
    """Save over `path`, with torch.save replaced."""
    found = load_checkpoint(run / "model.tar")
    monkeypatch.setattr(sealed.torch, "save", failing)
    checkpoints.save_checkpoint(
        [path],
        checkpoints.Checkpoint(
            path=path,
            model_state=torch.nn.Linear(1, 1).state_dict(),
            bank=found.bank,
            anchors=None,
            config={},
            normal_class="0.normal",
            row_labels=found.row_labels,
            svdd=None,
            training={},
            memories={},
        ),
    )


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_while_saving_keeps_the_file_that_was_there(run, tmp_path, monkeypatch, error):
    path = tmp_path / "model.tar"
    shutil.copy(run / "model.tar", path)

    def failing(content, file):
        file.write(b"half a file")
        raise error

    with pytest.raises(StorageError if isinstance(error, OSError) else type(error)):
        save_again(path, run, monkeypatch, failing)
    assert path.read_bytes() == (run / "model.tar").read_bytes()
    assert [*tmp_path.iterdir()] == [path]


def test_a_file_appears_under_its_name_only_when_it_is_whole(run, tmp_path, monkeypatch):
    path, torch_save, seen = tmp_path / "model.tar", torch.save, []

    def watching(content, file):
        torch_save(content, file)
        seen.append(path.exists())

    save_again(path, run, monkeypatch, watching)
    assert seen == [False] and [*tmp_path.iterdir()] == [path]


# Files in the published format ----------------------------------------------------------------------------------


def published(net_name: str, num_rows: int) -> dict:
    """A file as the authors wrote it: every tensor, those that are never used included, and nothing of ours."""
    state = {name: tensor.float() if tensor.is_floating_point() else tensor
             for name, tensor in state_from_names(net_name).items()}  # fmt: skip
    rows = torch.nn.functional.normalize(torch.randn(num_rows, REP_DIM, generator=torch.Generator().manual_seed(0)))
    nothing = torch.zeros(0, dtype=torch.long)
    anchors = {
        "samples_num": torch.tensor(num_rows), "anchor_indexes": nothing, "instance_indexes": torch.arange(num_rows),
        "position": torch.full((num_rows,), -1), "neighbours": nothing, "entropy": torch.zeros(num_rows),
        "consistency": torch.tensor(0.0),
    }  # fmt: skip
    return {
        "model_state_dict": state,
        "memory_state_dict": {"memory": rows, "params": torch.tensor([0.1, 0.5])},
        "ans_discovery_state_dict": anchors,
    }


@pytest.fixture(scope="module", params=["unet", "CXR_resnet18"])
def published_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """(network name, content, path) of a published file with 8 rows."""
    content = published(request.param, num_rows=8)
    path = save(content, tmp_path_factory.mktemp("published") / "model_round10.tar")
    yield request.param, content, path
    path.unlink()


@pytest.mark.slow
def test_a_published_file_loads_and_its_unused_tensors_are_ignored(published_file):
    net_name, content, path = published_file
    found = load_checkpoint(path)
    assert found.config is None and found.row_labels is None and found.svdd is None and found.net_name == net_name
    network = build_network(net_name, rep_dim=REP_DIM, isize=PUBLISHED_ISIZE[net_name])
    found.load_into(network)
    own = network.state_dict()
    torch.testing.assert_close(own, {name: content["model_state_dict"][name] for name in own}, rtol=0, atol=0)
    unused = {name.rsplit(".", 2)[0] for name in content["model_state_dict"].keys() - own.keys()}
    blocks = {f"decoder.decoder.{number}.conv1" for number in (2, 4, 6)}
    assert unused == (blocks if net_name == "CXR_resnet18" else set())


@pytest.mark.slow
def test_a_published_file_scores_the_test_folder(published_file, data, tmp_path):
    net_name, _, path = published_file
    words = ["CXR_author", net_name, tmp_path, data, "--load_model", path, "--n_jobs_dataloader", 0, "--k", 4]
    result = invoke(cli.test, *words, tiny=False)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("AUC score = ")
    assert "all count as normal" not in result.stderr  # train/ holds 8 images as well


@pytest.fixture
def stripped(content: dict, tmp_path: Path) -> Path:
    """Our own file with the published keys alone."""
    return save({name: content[name] for name in PUBLISHED_KEYS}, tmp_path / "stripped.tar")


@pytest.mark.trains
def test_our_file_without_our_keys_scores_the_same(run, data, stripped, tmp_path):
    score(run, data)
    score(tmp_path / "xp", data, "--load_model", stripped)
    assert_same_scores(tmp_path / "xp", run)


@pytest.mark.trains
def test_row_labels_come_from_the_training_folder_when_the_counts_match(data, tmp_path):
    mixed = shutil.copytree(data, tmp_path / "mixed")
    shutil.copytree(data / "test/1.abnormal", mixed / "train/1.abnormal")
    train(tmp_path / "xp", mixed, "--train_on", "all", "--lr", 0.01)
    content = read_tar(tmp_path / "xp/model.tar")
    path = save({name: content[name] for name in PUBLISHED_KEYS}, tmp_path / "stripped.tar")
    with_labels = score(tmp_path / "xp", mixed)
    words = ["CXR_author", "unet", tmp_path / "other", mixed, *TINY, "--load_model", path]
    result = invoke(cli.test, *words)
    assert "all count as normal" not in result.stderr
    assert score(tmp_path / "other", mixed, "--load_model", path) == pytest.approx(with_labels, abs=1e-6)

    (mixed / "train/1.abnormal/0002.png").unlink()
    result = invoke(cli.test, *words)
    assert result.exit_code == 0
    assert "has 11 rows" in result.stderr and "10 images" in result.stderr and "all count as normal" in result.stderr
    content["row_labels"] = torch.zeros(11, dtype=torch.long)
    relabelled = save(content, tmp_path / "relabelled.tar")
    all_rows = score(tmp_path / "relabelled", mixed, "--load_model", relabelled)
    assert all_rows != pytest.approx(with_labels, abs=1e-4)
    assert score(tmp_path / "other", mixed, "--load_model", path) == pytest.approx(all_rows, abs=1e-6)


def test_without_a_training_folder_all_rows_count_as_normal(data, stripped, run, tmp_path):
    test_only = tmp_path / "test_only"
    shutil.copytree(data / "test", test_only / "test")
    result = invoke(cli.test, "CXR_author", "unet", tmp_path / "xp", test_only, *TINY, "--load_model", stripped)
    assert result.exit_code == 0, result.stderr
    assert "all count as normal" in result.stderr


def test_a_missing_tensor_is_named(content, data, tmp_path):
    del content["model_state_dict"]["d3.up.1.weight"]
    path = save({name: content[name] for name in PUBLISHED_KEYS}, tmp_path / "missing.tar")
    assert "d3.up.1.weight" in refuse(path, data, tmp_path / "xp")


def test_a_tensor_of_another_shape_is_named_with_both_shapes(content, data, tmp_path):
    content["model_state_dict"]["final.weight"] = torch.zeros(3, 5, 1, 1)
    line = refuse(save(content, tmp_path / "shape.tar"), data, tmp_path / "xp")
    assert "final.weight" in line and "(3, 5, 1, 1)" in line and "(3, 4, 1, 1)" in line


# Files that are refused -----------------------------------------------------------------------------------------


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_a_malicious_file_is_refused_and_not_run(content, data, tmp_path):
    marker = tmp_path / "it_ran"
    content["config"]["surprise"] = Malicious(marker)
    path = save(content, tmp_path / "malicious.tar")
    refuse(path, data, tmp_path / "xp")
    stopped(invoke(cli.train, "CXR_author", "unet", tmp_path / "xp", data, *SHORT, "--load_model", path))
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()  # a careless load would have run it


def test_a_bare_pickle_is_refused_and_not_run(data, tmp_path):
    path, marker = tmp_path / "bare.tar", tmp_path / "it_ran"
    path.write_bytes(pickle.dumps({"model_state_dict": Malicious(marker)}, protocol=2))
    refuse(path, data, tmp_path / "xp")
    assert not marker.exists()


@pytest.mark.parametrize("damage", ["missing", "folder", "empty", "garbage", "text", "truncated"])
def test_damaged_files_end_in_one_line(run, data, tmp_path, damage):
    path, whole = tmp_path / "model.tar", (run / "model.tar").read_bytes()
    damaged = {
        "empty": b"",
        "garbage": bytes(range(256)) * 20,
        "text": b"hello\n",
        "truncated": whole[: len(whole) // 2],
    }
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes(damaged[damage])
    refuse(path, data, tmp_path / "xp")


def drop(content: dict, *names: str) -> dict:
    return {name: value for name, value in content.items() if name not in names}


def with_weight(content: dict, weight: torch.Tensor) -> dict:
    return {**content, "model_state_dict": {**content["model_state_dict"], "final.weight": weight}}


def circles() -> list:
    """Lists in each other whose text would fill the memory."""
    inner: list = []
    for _ in range(60):
        inner = [inner, inner]
    return inner


@pytest.mark.parametrize(
    "corrupt",
    {
        "a list": lambda content: [1, 2],
        "a tensor": lambda content: torch.zeros(3),
        "an empty dict": lambda content: {},
        "no model": lambda content: drop(content, "model_state_dict"),
        "no memory": lambda content: drop(content, "memory_state_dict"),
        "another network": lambda content: {**content, "model_state_dict": {"fc.weight": torch.zeros(2, 2)}},
        "params of another length": lambda content: {
            **content, "memory_state_dict": {**content["memory_state_dict"], "params": torch.ones(3)}
        },
        "memory of another width": lambda content: {
            **content, "memory_state_dict": {**content["memory_state_dict"], "memory": torch.ones(8, 5)}
        },
        "validation scores that are none": lambda content: {**content, "val_normal_scores": "many"},
        "validation scores that are no numbers": lambda content: {
            **content, "val_normal_scores": torch.tensor([0.1, torch.nan])
        },
        "a validation AUC above 1": lambda content: {**content, "val_auc": 7},
        "kinds of film that are none": lambda content: {**content, "told": {"view": ["PA"]}},
        "standards that are none": lambda content: {**content, "standards": {"local": "x"}},
        "a centre of another length": lambda content: {
            **content, "svdd": {"centre": torch.zeros(3), "radius": torch.zeros(())}
        },
        "labels of another length": lambda content: {**content, "row_labels": torch.zeros(5, dtype=torch.long)},
        "config without isize": lambda content: {**content, "config": drop(content["config"], "isize")},
        "rows of integers": lambda content: {
            **content, "memory_state_dict": {**content["memory_state_dict"], "memory": torch.ones(8, 8).long()}
        },
        "rows that are not finite": lambda content: {
            **content, "memory_state_dict": {**content["memory_state_dict"], "memory": torch.full((8, 8), torch.inf)}
        },
        "rows that repeat one": lambda content: {
            **content,
            "memory_state_dict": {**content["memory_state_dict"], "memory": torch.ones(1, 8).expand(10**9, 8)},
        },
        "anchors that are no rows": lambda content: {
            **content,
            "ans_discovery_state_dict": {**content["ans_discovery_state_dict"], "anchor_indexes": torch.arange(1, 9)},
        },
        "a data_path of another type": lambda content: {**content, "config": {**content["config"], "data_path": 5}},
        "a data_path with NUL": lambda content: {**content, "config": {**content["config"], "data_path": "a\0b"}},
        "an option of another type": lambda content: {**content, "config": {**content["config"], "k": "many"}},
        "an option out of bounds": lambda content: {**content, "config": {**content["config"], "n_views": -3}},
        "an option of circles": lambda content: {**content, "config": {**content["config"], "k": circles()}},
        "an option of 5,000 digits": lambda content: {**content, "config": {**content["config"], "k": 10**5000}},
        "a negative epoch": lambda content: {**content, "epoch": -5},
        "an epoch of a fraction": lambda content: {**content, "epoch": 1.5},
        "a huge epoch": lambda content: {**content, "epoch": 10**400},
        "a schema that is a float": lambda content: {**content, "schema_version": 1.0},
        "weights of integers": lambda content: with_weight(content, torch.ones(3, 4, 1, 1).long()),
        "complex weights": lambda content: with_weight(content, torch.ones(3, 4, 1, 1).to(torch.complex64)),
        "weights that are not finite": lambda content: with_weight(content, torch.full((3, 4, 1, 1), torch.nan)),
        "a number for a tensor": lambda content: {
            **content, "model_state_dict": {**content["model_state_dict"], "final.weight": 1.0}
        },
    }.items(),
    ids=lambda item: item[0],
)  # fmt: skip
def test_unfit_content_ends_in_one_line(content, data, tmp_path, corrupt):
    refuse(save(corrupt[1](content), tmp_path / "unfit.tar"), data, tmp_path / "xp")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_rows_and_weights_of_another_precision_are_converted(content, data, run, tmp_path, dtype):
    memory = content["memory_state_dict"]["memory"]
    content["memory_state_dict"]["memory"] = memory.to(dtype)
    content["model_state_dict"]["final.weight"] = content["model_state_dict"]["final.weight"].to(dtype)
    path = save(content, tmp_path / "foreign.tar")
    assert load_checkpoint(path).bank.rows.dtype == torch.float32
    torch.testing.assert_close(load_checkpoint(path).bank.rows, memory, atol=0.01, rtol=0.01)
    assert score(tmp_path / "xp", data, "--load_model", path) == pytest.approx(score(run, data), abs=0.02)


def test_options_of_a_newer_release_are_said_and_not_resumed(content, data, run, tmp_path):
    content["config"]["w_novel"] = 0.5
    path = save(content, tmp_path / "newer.tar")
    result = invoke(cli.test, "CXR_author", "unet", tmp_path / "xp", data, *TINY, "--load_model", path)
    assert result.exit_code == 0 and "holds options that this release lacks, without effect: w_novel" in result.stderr
    shutil.copytree(run, tmp_path / "run")
    shutil.copy(path, tmp_path / "run/last.tar")
    line = stopped(invoke(cli.train, "CXR_author", "unet", tmp_path / "run", data, "--resume"))
    assert "cannot be resumed by this release" in line and "w_novel" in line and "--overwrite" not in line


def test_a_missing_seal_is_said(content, data, run, tmp_path):
    path = tmp_path / "cut.tar"
    path.write_bytes((run / "model.tar").read_bytes()[:-20])
    words = ["CXR_author", "unet", tmp_path / "xp", data, *TINY, "--load_model"]
    result = invoke(cli.test, *words, path)
    assert result.exit_code == 0 and f"{path}: its seal is missing" in result.stderr
    said = "its seal"
    assert said not in invoke(cli.test, *words, run / "model.tar").stderr
    published = save({name: content[name] for name in PUBLISHED_KEYS}, tmp_path / "published.tar")
    assert said not in invoke(cli.test, *words, published).stderr  # the authors' files never had one


def test_names_in_a_checkpoint_do_not_act_on_the_terminal(content, data, tmp_path):
    evil = "\x1b]0;x\x07\u202e\nError: all is well"
    content["config"] |= {"data_path": evil, "cache": evil, evil: 1}
    content["normal_class"] = evil
    path = save(content, tmp_path / "evil.tar")
    for command, words in ((cli.test, ["CXR_author", "unet", tmp_path / "xp", data, *TINY, "--load_model", path]),
                           (main, ["predict", "--load_model", path, data / "test"]),
                           (main, ["export", path, "--format", "safetensors", "--out", tmp_path / "x"])):  # fmt: skip
        result = invoke(command, *words)
        assert not any(sign in result.output for sign in "\x1b\x07\u202e") and "\nError: all" not in result.output
    log = tmp_path / "xp/log.txt"
    assert not log.exists() or "\x1b" not in log.read_text()


def test_weights_that_give_no_finite_score_end_in_one_line(content, data, tmp_path):
    content["model_state_dict"]["feat.weight"][:] = torch.nan
    path = save(content, tmp_path / "nan.tar")
    stopped(invoke(cli.test, "CXR_author", "unet", tmp_path / "xp", data, *TINY, "--load_model", path))


def test_a_newer_schema_says_to_upgrade(content, data, tmp_path):
    content["schema_version"] = checkpoints.SCHEMA_VERSION + 1
    line = refuse(save(content, tmp_path / "newer.tar"), data, tmp_path / "xp")
    assert str(checkpoints.SCHEMA_VERSION + 1) in line and "upgrade" in line


def test_load_checkpoint_raises_input_errors(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_checkpoint(tmp_path / "model.tar")


def test_loading_leaves_the_random_generators_alone(run):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    assert isinstance(load_checkpoint(run / "model.tar"), Checkpoint)
    assert torch.equal(torch.rand(3), expected)
