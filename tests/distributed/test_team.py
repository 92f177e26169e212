"""Several processes under torchrun do what one does: the same curve, bank, files and scores, one voice, one end."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import ranks
import torch
from ranks import HANGS_SECONDS, Ended, fork, fork_test, fork_train, torchrun
from running import SHORT, invoke, read_csv, read_json, read_lines, read_tar, same, score, train, without_timings
from torch import nn
from torch.testing import assert_close

from salad import cli
from salad.cli.program import exit_status
from salad.datasets import phantom
from salad.device import choose_device
from salad.distributed.ddp import replicate
from salad.distributed.team import SOLO, Team, is_lost_peer, join
from salad.errors import InputError
from salad.networks import build_network

pytestmark = pytest.mark.slow

# pre-training, rounds 0, 1 and 2 of two epochs, two views, soft boundary; 13 images in batches of 5 + 4 + 4
CURVE = [
    *["--pre_training_epochs", 1, "--n_epochs", 2, "--ans_select_rate", 0.5, "--n_views", 2],
    *["--augment", "flip", "--objective", "soft-boundary"],
]
LONG = ["--n_epochs", 50]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom") / "data"
    phantom.write_phantom(root, size=32, num_train=13, num_val=3, num_test=3)
    return root


@pytest.fixture(scope="module")
def one(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process, in float64."""
    xp = tmp_path_factory.mktemp("one") / "xp"
    assert fork_train(xp, data, *CURVE, size=1, patch="double").statuses == [0]
    return xp


@pytest.fixture(scope="module")
def two(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of two processes under torchrun."""
    xp = tmp_path_factory.mktemp("two") / "xp"
    words = ["CXR_author", "unet", xp, data, *SHORT, *CURVE]
    with torchrun("tests/ranks.py", "double", "train", *words) as process:
        ended = ranks.end(process)
    assert ended.statuses == [0], ended.err
    assert ended.out == "" and ended.err.count("epoch 7 (round 2)") == 1
    return xp


def curve(xp: Path) -> list[list[float]]:
    names = ("loss", "rec", "aggregation", "svdd", "spread", "radius", "num_anchors", "val_auc")
    return [[line.get(name) or 0.0 for name in names] for line in read_lines(xp / "metrics.jsonl")]


# Training -------------------------------------------------------------------------------------------------------


@pytest.mark.trains
def test_two_processes_learn_as_one(one, two):
    assert len(curve(two)) == 7 and curve(two)[-1][5] > 0
    assert_close(torch.tensor(curve(two)), torch.tensor(curve(one)), rtol=1e-6, atol=1e-6)
    assert_close(torch.load(two / "rank0.pt"), torch.load(one / "rank0.pt"), rtol=1e-5, atol=1e-6)


def test_both_processes_hold_the_same_bank_and_weights(two):
    first, second = (torch.load(two / f"rank{rank}.pt") for rank in (0, 1))
    assert first["round"] == 2 and first["bank"].shape == (26, 8)
    assert same(first, second)


def test_files_are_those_of_one_process(one, two):
    own = {"rank0.pt", "rank1.pt"}
    assert {path.name for path in two.iterdir()} - own == {path.name for path in one.iterdir()} - own
    for name in ("model.tar", "last.tar", "model_round1.tar"):
        ours, theirs = read_tar(two / name), read_tar(one / name)
        assert ours.keys() - {"rng_of_ranks"} == theirs.keys()
        assert ours["model_state_dict"].keys() == theirs["model_state_dict"].keys()  # no "module."
        assert ("rng_of_ranks" in ours) == (name == "last.tar")
    last = read_tar(two / "last.tar")
    assert len(last["rng_of_ranks"]) == 2 and same(last["rng"], last["rng_of_ranks"][0])
    log = (two / "log.txt").read_text()
    assert log.count("epoch 3 (round 0)") == 1 and log.count("k is 26 instead of 100") == 1
    assert read_json(two / "config.json")["run"]["num_processes"] == 2


@pytest.mark.trains
@pytest.mark.parametrize("options", [("--w_rec", 0), ("--w_svdd", 0, "--w_contrast", 0)])
def test_losses_without_a_weight(data, tmp_path, options):
    for size in (1, 2):
        words = [*options, "--augment", "flip"]
        ended = fork_train(tmp_path / str(size), data, *words, size=size, patch="double")
        assert ended.statuses == [0] * size, ended.err
    assert_close(torch.tensor(curve(tmp_path / "2")), torch.tensor(curve(tmp_path / "1")), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("others", [(), ("--w_rec", 0, "--w_svdd", 0, "--w_contrast", 0)])
def test_synthetic_anomalies_train_the_same_network_everywhere(data, tmp_path, others):
    ended = fork_train(tmp_path / "xp", data, "--w_syn", 1, *others, "--score", "local", "--align", patch="keep")
    assert ended.statuses == [0, 0], ended.err
    first, second = (torch.load(tmp_path / "xp" / f"rank{rank}.pt") for rank in (0, 1))
    assert same(first, second)
    assert all(0 < line["syn"] < 5 for line in read_lines(tmp_path / "xp/metrics.jsonl"))


@pytest.mark.trains
def test_a_loaded_network_starts_the_same_bank_everywhere(data, one, tmp_path):
    for size in (1, 2):
        words = ["--load_model", one / "model.tar", "--augment", "flip"]
        ended = fork_train(tmp_path / str(size), data, *words, size=size, patch="double")
        assert ended.statuses == [0] * size, ended.err
    assert_close(torch.tensor(curve(tmp_path / "2")), torch.tensor(curve(tmp_path / "1")), rtol=1e-6, atol=1e-6)
    assert same(*(torch.load(tmp_path / "2" / f"rank{rank}.pt") for rank in (0, 1)))


# Interrupting and resuming ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def even_data(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 images to train on, in batches of six: three for each of two processes."""
    root = tmp_path_factory.mktemp("even") / "data"
    shutil.copytree(data, root)
    next((root / "train/0.normal").iterdir()).unlink()
    return root


@pytest.fixture(scope="module")
def drawn(even_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes that draw random views, never interrupted."""
    xp = tmp_path_factory.mktemp("drawn") / "xp"
    ended = fork_train(xp, even_data, "--deterministic", "--n_epochs", 2)
    assert ended.statuses == [0, 0], ended.err
    return xp


def test_the_processes_draw_different_views(drawn):
    first, second = read_tar(drawn / "last.tar")["rng_of_ranks"]
    assert not torch.equal(first["torch"], second["torch"])


def test_a_signal_to_one_ends_both_after_the_same_step_and_nothing_is_lost(even_data, drawn, tmp_path):
    ended = fork_train(tmp_path / "xp", even_data, "--deterministic", "--n_epochs", 2, patch="sigterm")
    assert ended.statuses == [143, 143]
    [line] = ended.errors
    assert "SIGTERM" in line and "torchrun --nproc_per_node=2" in line and line.endswith("--resume")
    assert read_tar(tmp_path / "xp" / "last.tar")["tally"]["num_batches"] == 1  # in the middle of the third epoch
    ended = fork_train(tmp_path / "xp", even_data, "--n_epochs", 2, "--resume")
    assert ended.statuses == [0, 0], ended.err
    assert without_timings(read_lines(tmp_path / "xp/metrics.jsonl")) == without_timings(
        read_lines(drawn / "metrics.jsonl")
    )
    ours, theirs = read_tar(tmp_path / "xp" / "last.tar"), read_tar(drawn / "last.tar")
    del ours["config"]["xp_path"], theirs["config"]["xp_path"]
    assert not [key for key in theirs if not same(ours[key], theirs[key])]


def test_another_number_of_processes_may_go_on(data, tmp_path):
    xp = tmp_path / "xp"
    assert fork_train(xp, data, patch="sigterm").statuses == [143, 143]
    ended = fork_train(xp, data, "--resume", size=1)
    assert ended.statuses == [0] and "saved by 2 processes and goes on with 1" in ended.err
    ended = fork_train(xp, data, "--resume", "--n_epochs", 2)  # was saved by one
    assert ended.statuses == [0, 0] and ended.err.count("saved by 1 processes and goes on with 2") == 1


def test_sigterm_to_torchrun_saves_and_ends_all(data, tmp_path):
    xp = tmp_path / "xp"
    words = ["CXR_author", "unet", xp, data, *SHORT, *LONG]
    with torchrun("tests/ranks.py", "plain", "train", *words) as process:
        deadline = time.monotonic() + HANGS_SECONDS
        while not (xp / "metrics.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        ended = ranks.end(process)
    assert ended.statuses != [0]
    [line] = ended.errors
    assert "interrupted by SIGTERM" in line
    assert read_tar(xp / "last.tar")["tally"] is not None or read_tar(xp / "last.tar")["epoch"] > 0
    assert not (xp / "lock").exists()


# Failing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patch", "statuses", "message"),
    [
        ("input_error", [1, 2], "Error: x.png: turned bad"),
        ("first_fails", [2, 1], "Error: x.png: turned bad"),
        ("runtime_error", [1, 1], "Internal error: RuntimeError: a fault of rank 1"),
        ("nan", [1, 1], "Error: the loss is not finite"),
    ],
)
def test_the_failure_of_one_ends_all_with_its_message(data, tmp_path, patch, statuses, message):
    ended = fork_train(tmp_path / "xp", data, *LONG, patch=patch)
    assert ended.statuses == statuses
    [line] = ended.errors
    assert line.startswith(message)
    causes = [read_json(tmp_path / f"xp.says/cause{rank}")["message"]["message"] for rank in (0, 1)]
    assert all(message in cause for cause in causes)  # for the report of torchrun, of which each machine has its own
    if patch != "first_fails":
        assert f"process 1: {message}" in (tmp_path / "xp/log.txt").read_text()
    assert not (tmp_path / "xp/lock").exists()


def test_a_killed_process_ends_the_others(data, tmp_path):
    ended = fork_train(tmp_path / "xp", data, *LONG, patch="killed")
    assert ended.statuses == [1, -signal.SIGKILL]
    [line] = ended.errors
    assert "without a message" in line


@pytest.mark.parametrize(("says", "said"), [(True, "Error: interrupted by SIGTERM\n"), (False, "")])
def test_a_process_that_is_ended_before_it_has_joined_is_silent(says, said, capsys):
    with pytest.raises(SystemExit, match="143"), exit_status(debug=False, says_interruption=says):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    assert capsys.readouterr().err == said


def test_a_process_of_a_team_is_ended_silently_while_it_joins(monkeypatch, capsys):
    def end():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    monkeypatch.setattr("salad.cli.options.join", end)
    result = invoke(cli.train, "CXR_author", "unet", "xp", "data")
    assert result.exit_code == 143 and result.stderr == ""


def test_a_failure_under_torchrun(data, tmp_path):
    with torchrun("main.py", "CXR_author", "unet", tmp_path / "xp", data, "--rep_dim", 0) as process:
        ended = ranks.end(process)
    assert ended.statuses != [0]
    [line] = ended.errors
    assert line == "Error: --rep_dim is 0, but must be at least 1"
    assert f"traceback : {line}" in ended.err  # torchrun's own report names the cause


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "cuda:1"], "each with a device of its own"),
        (["--batch_size", 1], "--batch_size is 1, but torchrun started 2 processes"),
        (["--sync_bn"], "--sync_bn works on GPUs only, but 2 processes share the CPU"),
        (["--rep_dim", 0], "--rep_dim is 0"),
        (["--load_model", "nowhere.tar"], "nowhere.tar"),
        (["--mistyped"], "--mistyped"),
    ],
)
def test_a_wrong_option_is_said_once(data, tmp_path, options, message):
    ended = fork_train(tmp_path / "xp", data, *options)
    assert ended.statuses == [2, 2]
    [line] = ended.errors
    assert message in line and "Traceback" not in ended.err


def test_fewer_images_than_processes(data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    for path in sorted((tmp_path / "data/train/0.normal").iterdir())[1:]:
        path.unlink()
    ended = fork_train(tmp_path / "xp", tmp_path / "data", "--w_contrast", 0)
    assert ended.statuses == [2, 2]
    [line] = ended.errors
    assert "images to train on are 1" in line


# Scoring --------------------------------------------------------------------------------------------------------


def scored(
    xp: Path, data: Path, *options: object, size: int, patch: str = "plain"
) -> tuple[list[str], np.ndarray, Ended]:
    ended = fork_test(xp, data, *options, size=size, patch=patch)
    assert ended.statuses == [0] * size, ended.err
    rows = read_csv(xp / "scores.csv")
    return [row["path"] for row in rows], np.array([float(row["score"]) for row in rows]), ended


def test_the_first_of_two_processes_writes_the_report(data, one, tmp_path):
    _, _, ended = scored(
        tmp_path / "xp", data, "--load_model", one / "model_round0.tar", "--report", size=2, patch="double"
    )
    assert ended.err.count("report: ") == 1
    assert "torchrun --nproc_per_node=2" in (tmp_path / "xp/report.html").read_text()


@pytest.mark.trains
@pytest.mark.parametrize("how", ["knn", "reconstruction"])
@pytest.mark.parametrize("trained_by", ["one", "two"])
def test_shared_scoring_gives_what_one_process_gives(data, one, two, tmp_path, how, trained_by):
    """Six images in batches of four: two, then one, for each process."""
    model = {"one": one, "two": two}[trained_by] / "model_round0.tar"
    words = ["--load_model", model, "--score", how, "--batch_size", 4]
    paths, scores, alone = scored(tmp_path / "xp", data, *words, size=1, patch="double")
    facts = read_json(tmp_path / "xp/metrics.json")
    shared_paths, shared_scores, ended = scored(tmp_path / "xp", data, *words, size=2, patch="double")
    assert shared_paths == paths == sorted(paths) and len(paths) == 6
    assert shared_scores == pytest.approx(scores, abs=1e-9)
    assert np.diff(np.sort(scores)).min() > 1e-8
    assert ended.out == alone.out and ended.out.startswith("AUC score = ") and ended.out.count("\n") == 1
    assert read_json(tmp_path / "xp/metrics.json")["baseline_auc"] == facts["baseline_auc"]


@pytest.mark.trains
@pytest.mark.parametrize(("num_images", "size"), [(2, 3), (5, 3)])
def test_fewer_images_than_processes_or_an_odd_number_can_be_scored(data, one, tmp_path, num_images, size):
    shutil.copytree(data, tmp_path / "data")
    for path in sorted((tmp_path / "data/test").glob("*/*.png"))[num_images // 2 : -((num_images + 1) // 2)]:
        path.unlink()
    words = ["--load_model", one / "model_round0.tar", "--score", "reconstruction"]
    paths, scores, _ = scored(tmp_path / "xp", tmp_path / "data", *words, size=1)
    shared_paths, shared_scores, _ = scored(tmp_path / "xp", tmp_path / "data", *words, size=size)
    assert len(paths) == num_images and shared_paths == paths
    assert shared_scores == pytest.approx(scores, abs=1e-6)


# The parts --------------------------------------------------------------------------------------------------------


def exchange(done: Path) -> None:
    """Runs in each of three processes."""
    team = join()
    team.connect(torch.device("cpu"))
    sizes, rank = [3, 2, 2], team.rank
    rows = torch.arange(7).split(sizes)[rank]
    assert team.gather(rows, sizes).tolist() == list(range(7))
    assert team.joined([[(0, rank), (1, rank)], [(0, rank)], []][rank]) == [(0, 0), (0, 1), (1, 0)]
    assert team.from_first(lambda: f"made by {rank}") == "made by 0"
    values = torch.arange(7.0).square()
    mean = values.split(sizes)[rank].mean()
    assert_close(team.means({"loss": mean}, sizes)["loss"], values.mean())
    assert sum(size * team.weight(sizes) / size for size in sizes) > 0
    assert team.agree(signal.SIGTERM if rank == 1 else None) is signal.SIGTERM
    assert team.agree(None) is None
    with team.first_alone("block"):
        if rank == 0:
            time.sleep(0.2)  # in which the others would come in, were they not kept out
            done.touch()
        assert done.exists()
    team.leave()


def test_exchanges(tmp_path):
    ended = fork(exchange, tmp_path / "done", size=3, folder=tmp_path)
    assert ended.statuses == [0, 0, 0], ended.err


class TwoHeads(nn.Module):
    """Like CXR_resnet18, makes its reconstruction of what comes before the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.z, self.recon = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 4)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.trunk(images)
        return self.z(features), self.recon(features)


def change_losses() -> None:
    """Runs in each of two processes: first one output has a loss, then both, then the other."""
    team = join()
    team.connect(torch.device("cpu"))
    torch.manual_seed(team.rank)
    network = TwoHeads()
    replica = replicate(network, device=torch.device("cpu"), team=team, sync_bn=False, all_used=False)
    for used in [(False, True), (False, True), (True, True), (True, False), (True, False)]:
        network.zero_grad(set_to_none=True)
        outputs = replica(torch.randn(3, 4))
        sum(output.square().sum() for output, is_used in zip(outputs, used, strict=True) if is_used).backward()
        for head, is_used in zip((network.z, network.recon), used, strict=True):
            assert (head.weight.grad is not None) == is_used
        gradients = team.gather(network.trunk.weight.grad[None], [1, 1])
        assert torch.equal(gradients[0], gradients[1])
    team.leave()


def test_outputs_without_a_loss_are_waited_for_by_none(tmp_path):
    ended = fork(change_losses, size=2, folder=tmp_path)
    assert ended.statuses == [0, 0], ended.err


def test_a_store_that_cannot_be_reached_is_said(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(InputError, match="as by torchrun.*MASTER_ADDR"):
        join()


def test_alone_without_torchrun_or_with_one_process(monkeypatch):
    assert join() is SOLO
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "0")
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "1")
    assert join() is SOLO
    monkeypatch.setenv("RANK", "none")
    assert join() is SOLO
    assert not is_lost_peer(RuntimeError("a fault of the program"))


def some_team(**facts: int) -> Team:
    """A process of several that exchanges nothing."""
    team = Team()
    vars(team).update(facts)
    return team


def test_names_and_weights_stay_where_batch_norm_is_synchronised(monkeypatch):
    monkeypatch.setattr("salad.distributed.ddp.DistributedDataParallel", lambda network, **_: network)  # needs a GPU
    network = build_network("CXR_resnet18", isize=64, rep_dim=8)
    before = network.state_dict(keep_vars=True)
    replicate(network, device=torch.device("cuda"), team=some_team(size=2), sync_bn=True, all_used=True)
    after = network.state_dict(keep_vars=True)
    assert list(after) == list(before) and all(after[name] is before[name] for name in before)
    layers = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    assert {type(layer) for layer in layers} == {nn.SyncBatchNorm}


def test_each_process_has_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    team = some_team(rank=3, size=4, local_rank=1, local_size=2)
    assert choose_device("auto", team=team) == choose_device("cuda", team=team) == torch.device("cuda:1")
    assert choose_device("cpu", team=team) == torch.device("cpu")
    for name in ("cuda:0", "mps"):
        with pytest.raises(InputError, match="leave it out"):
            choose_device(name, team=team)
    with pytest.raises(InputError, match="3 processes on a machine with 2 GPUs"):
        choose_device("auto", team=some_team(size=3, local_size=3))


def test_how_to_go_on_names_the_launcher():
    assert SOLO.how_to("main.py x") == "python main.py x"
    assert some_team(size=4, local_size=4).how_to("main.py x") == "torchrun --nproc_per_node=4 main.py x"
    assert some_team(size=4, local_size=2).how_to("main.py") == "torchrun --nnodes=2 --nproc_per_node=2 main.py"


def test_older_checkpoints_without_states_of_ranks_resume(data, tmp_path):
    train(tmp_path / "xp", data)
    assert "rng_of_ranks" not in read_tar(tmp_path / "xp/last.tar")
    assert len(train(tmp_path / "xp", data, "--resume", "--n_epochs", 2)) > 2
    assert score(tmp_path / "xp", data)
    assert json.loads((tmp_path / "xp/config.json").read_text())["run"]["num_processes"] == 1
