"""An interrupted and resumed run ends bit by bit as one that was never interrupted."""

import functools
import multiprocessing
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from running import (
    ONE_THREAD,
    REPOSITORY,
    SHORT,
    interrupt_after,
    invoke,
    read_lines,
    read_tar,
    run_main,
    same,
    stopped,
    train,
    without_timings,
)

from salad import cli
from salad.datasets import phantom
from salad.training.meters import Meters
from salad.training.saving import SaveClock
from salad.training.signals import Interrupts
from salad.training.trainer import Trainer

# pre-training, three rounds of two epochs of two batches, soft boundary, two views
OPTIONS = ["--pre_training_epochs", 1, "--n_epochs", 2, "--ans_select_rate", 0.5, "--deterministic", "--n_views", 2]
NUM_EPOCHS = 7
# what lies in a checkpoint beside all that: a mean image, a local memory, the head of the synthetic anomalies
NEWER = ["--align", "--crop", 0.8, "--w_syn", 1, "--score", "local"]
# main.py as typed, with a network of a few channels
TINY_MAIN = f"""
import sys
sys.path.insert(0, {str(REPOSITORY / "tests")!r})
from running import shrink_unet
shrink_unet()
from salad.cli import train
train(prog_name="main.py")
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom") / "data"
    phantom.write_phantom(root, size=32, num_train=12, num_val=3, num_test=1)
    return root


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never interrupted."""
    xp = tmp_path_factory.mktemp("whole") / "xp"
    train(xp, data, *OPTIONS)
    return xp


@pytest.fixture(scope="module")
def whole_newer(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the newer options."""
    xp = tmp_path_factory.mktemp("whole_newer") / "xp"
    train(xp, data, *OPTIONS, *NEWER)
    assert {"local"} == read_tar(xp / "last.tar")["local_memories"].keys()
    return xp


def assert_same_end(xp: Path, whole: Path) -> None:
    assert without_timings(read_lines(xp / "metrics.jsonl")) == without_timings(read_lines(whole / "metrics.jsonl"))
    assert [line["epoch"] for line in read_lines(xp / "metrics.jsonl")] == [
        line["epoch"] for line in read_lines(whole / "metrics.jsonl")
    ]
    for name in ("last.tar", "model.tar", "model_round0.tar", "model_round1.tar", "model_round2.tar"):
        ours, theirs = read_tar(xp / name), read_tar(whole / name)
        for content in (ours, theirs):
            del content["config"]["xp_path"], content["config"]["n_jobs_dataloader"]
        different = [key for key in theirs if not same(ours.get(key), theirs[key])]
        assert not different, (name, different)
    assert not [*xp.glob(".writing*"), *xp.glob(".linking*"), *xp.glob("lock")]


def resume(xp: Path, data: Path) -> None:
    """Go on with nothing but --resume typed."""
    result = invoke(cli.train, "CXR_author", "unet", xp, data, "--resume")
    assert result.exit_code == 0, result.stderr


# 7 epochs of 2 batches: steps 1 and 2 are pre-training, an even one ends an epoch
@pytest.mark.parametrize(
    "num_steps", [3, 6, *(pytest.param(number, marks=pytest.mark.slow) for number in (1, 2, 4, 7, 11, 13, 14))]
)
def test_a_signal_in_any_step_loses_nothing(data, whole, tmp_path, num_steps):
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, num_steps)
        words = ["CXR_author", "unet", tmp_path / "xp", data, *SHORT, *OPTIONS]
        line = stopped(invoke(cli.train, *words), status=143)
    assert "--resume" in line and "SIGTERM" in line
    resume(tmp_path / "xp", data)
    assert_same_end(tmp_path / "xp", whole)


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Finished epochs are saved only at the end of a round, as where they take less than their checkpoint."""
    monkeypatch.setattr("salad.training.trainer.SaveClock", functools.partial(SaveClock, seconds=1e9))


def begin_and_stop(xp: Path, data: Path, method: str, number: int, stop: Callable[[], None]) -> int:
    """Start a run and stop it in a call of a method of the trainer; returns the epochs that last.tar has."""
    with pytest.MonkeyPatch.context() as patch:
        real, count = getattr(Trainer, method), 0

        def counted(self, *values):
            nonlocal count
            count += 1
            if count == number:
                stop()
            return real(self, *values)

        patch.setattr(Trainer, method, counted)
        assert invoke(cli.train, "CXR_author", "unet", xp, data, *SHORT, *OPTIONS).exit_code != 0
    return read_tar(xp / "last.tar")["epoch"]


# epoch 6, of steps 11 and 12 and the fifth to be validated, neither ends a round nor is the best
@pytest.mark.parametrize(("method", "number"), [("validate", 5), ("step", 13)])
def test_a_signal_loses_no_finished_epoch(data, whole, tmp_path, as_on_a_gpu, method, number):
    def ask() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    assert begin_and_stop(tmp_path / "xp", data, method, number, ask) == 6
    resume(tmp_path / "xp", data)
    assert_same_end(tmp_path / "xp", whole)


def test_a_kill_repeats_the_epochs_since_the_last_checkpoint(data, whole, tmp_path, as_on_a_gpu):
    def crash() -> None:
        raise ZeroDivisionError("as if it were killed")

    assert begin_and_stop(tmp_path / "xp", data, "step", 13, crash) == 5
    assert len(read_lines(tmp_path / "xp/metrics.jsonl")) == 6
    resume(tmp_path / "xp", data)
    assert_same_end(tmp_path / "xp", whole)


@pytest.mark.slow
def test_in_fp16_the_loss_scale_goes_on_too(data, tmp_path):
    options = [*OPTIONS, "--amp", "fp16"]
    train(tmp_path / "whole", data, *options)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, 5)
        words = ["CXR_author", "unet", tmp_path / "xp", data, *SHORT, *options]
        stopped(invoke(cli.train, *words), status=143)
    scaler = read_tar(tmp_path / "xp/last.tar")["scaler"]
    assert (scaler["scale"], scaler["_growth_tracker"]) != (2**16, 0)  # a fresh one
    resume(tmp_path / "xp", data)
    assert_same_end(tmp_path / "xp", tmp_path / "whole")


@pytest.mark.slow
def test_a_full_disk_loses_the_epoch_under_way_and_nothing_more(data, whole, tmp_path, small_disk, fill):
    xp, step, count = small_disk / "xp", Trainer.step, 0
    words = ["CXR_author", "unet", xp, data, "--resume", "auto", *SHORT, *OPTIONS]

    def filling(self, batch):
        nonlocal count
        count += 1
        if count == 6:  # the end of the third epoch
            fill()
        return step(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", filling)
        line = stopped(invoke(cli.train, *words), status=1)
    assert line.startswith(f"Error: {xp}/") and "No space left on device" in line
    assert read_tar(xp / "last.tar")["epoch"] == 2
    line = stopped(invoke(cli.train, *words), status=1)  # trying again before there is room does no harm
    assert line.startswith(f"Error: {xp}/") and "No space left on device" in line
    (small_disk / "filler").unlink()
    resume(xp, data)
    assert_same_end(xp, whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["append_metrics", "keep_newest_rounds"])
@pytest.mark.parametrize("num_calls", [1, 3, 7])
def test_dying_before_or_after_an_epoch_is_saved_loses_at_most_that_epoch(data, whole, tmp_path, name, num_calls):
    from salad.runs.folder import RunFolder

    with pytest.MonkeyPatch.context() as patch:
        real, count = getattr(RunFolder, name), 0

        def dying(self, *words):
            nonlocal count
            real(self, *words)
            count += 1
            if count == num_calls:
                raise RuntimeError("killed")

        patch.setattr(RunFolder, name, dying)
        assert invoke(cli.train, "CXR_author", "unet", tmp_path / "xp", data, *SHORT, *OPTIONS).exit_code == 1
    saved = num_calls if name == "keep_newest_rounds" else num_calls - 1
    assert read_tar(tmp_path / "xp" / "last.tar")["epoch"] == saved
    resume(tmp_path / "xp", data)
    assert_same_end(tmp_path / "xp", whole)


@pytest.mark.slow
def test_resuming_twice_and_a_finished_run(data, whole, tmp_path):
    for num_steps in (3, 4):
        with pytest.MonkeyPatch.context() as patch:
            interrupt_after(patch, num_steps)
            invoke(cli.train, "CXR_author", "unet", tmp_path / "xp", data, *SHORT, *OPTIONS, "--resume", "auto")
    resume(tmp_path / "xp", data)
    assert_same_end(tmp_path / "xp", whole)
    resume(tmp_path / "xp", data)
    assert_same_end(tmp_path / "xp", whole)


def test_n_epochs_may_grow(data, tmp_path):
    train(tmp_path / "xp", data, "--w_contrast", 0)
    lines = train(tmp_path / "xp", data, "--w_contrast", 0, "--resume", "--n_epochs", 3)
    assert [line["epoch"] for line in lines] == [1, 2, 3]


# Refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--lr", 0.01], ["--lr", "0.01", "0.0001"]),
        (["--n_epochs", 1], ["--n_epochs", "1", "2"]),
        (["--seed", 5], ["--seed", "5", "2"]),
        (["--augment", "flip"], ["--augment", "flip", "ssl"]),
        (["--rep_dim", 9], ["--rep_dim", "9", "8"]),
    ],
)
def test_a_contradicting_option_names_both_values(data, whole, tmp_path, options, named):
    words = ["CXR_author", "unet", whole, data, "--resume", *options]
    line = stopped(invoke(cli.train, *words))
    assert all(word in line for word in named), line


def test_other_images_are_refused(data, whole, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(data, other)
    (other / "train" / "0.normal" / "0000.png").unlink()
    line = stopped(invoke(cli.train, "CXR_author", "unet", whole, other, "--resume"))
    assert "11 images" in line and "12 images" in line


def test_other_validation_images_are_refused(data, whole, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(data, other)
    (other / "val" / "1.abnormal" / "0000.png").unlink()
    line = stopped(invoke(cli.train, "CXR_author", "unet", whole, other, "--resume"))
    assert "validates on 6 images" in line and "5 images" in line
    shutil.rmtree(other / "val")
    assert "holds no images" in stopped(invoke(cli.train, "CXR_author", "unet", whole, other, "--resume"))


def test_another_data_set_is_refused(data, whole):
    line = stopped(invoke(cli.train, "CXR_phantom", "unet", whole, data, "--resume"))
    assert "DATASET_NAME is CXR_phantom" in line and "CXR_author" in line


def test_another_network_is_refused(data, whole):
    assert "unet" in stopped(invoke(cli.train, "CXR_author", "CXR_resnet18", whole, data, "--resume"))


def test_resume_without_a_run(data, tmp_path):
    assert "--resume" in stopped(invoke(cli.train, "CXR_author", "unet", tmp_path, data, *SHORT, "--resume"))
    train(tmp_path, data, "--resume", "auto")
    assert len(read_lines(tmp_path / "metrics.jsonl")) == 2


def test_resume_auto_goes_on_with_a_run(data, whole, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, 6)
        invoke(cli.train, "CXR_author", "unet", tmp_path / "xp", data, *SHORT, *OPTIONS, "--resume", "auto")
    train(tmp_path / "xp", data, *OPTIONS, "--resume", "auto")
    assert_same_end(tmp_path / "xp", whole)


def test_a_new_run_in_a_used_folder_names_both_ways_out(data, whole):
    line = stopped(invoke(cli.train, "CXR_author", "unet", whole, data, *SHORT))
    assert "--resume" in line and "--overwrite" in line


def test_resume_and_overwrite_exclude_each_other(data, whole):
    before = (whole / "last.tar").read_bytes()
    stopped(invoke(cli.train, "CXR_author", "unet", whole, data, *SHORT, "--resume", "--overwrite"))
    assert (whole / "last.tar").read_bytes() == before


def test_a_damaged_last_checkpoint_is_named(data, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "xp")
    content = bytearray((whole / "last.tar").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "xp" / "last.tar").write_bytes(content)
    line = stopped(invoke(cli.train, "CXR_author", "unet", tmp_path / "xp", data, "--resume"))
    assert "damaged" in line and "last.tar" in line


@pytest.mark.slow
@pytest.mark.parametrize("harm", [Path.unlink, lambda path: os.truncate(path, 1000)], ids=["gone", "cut"])
@pytest.mark.parametrize("words", [["--resume"], ["--resume", "auto", *SHORT, *OPTIONS]], ids=["must", "auto"])
def test_where_the_last_checkpoint_is_lost_the_rounds_stand_and_a_run_can_start_from_one(
    data, whole, tmp_path, harm, words
):
    xp = tmp_path / "xp"
    shutil.copytree(whole, xp)
    harm(xp / "last.tar")
    os.truncate(xp / "model_round2.tar", 1000)
    before = sorted(xp.iterdir())
    line = stopped(invoke(cli.train, "CXR_author", "unet", xp, data, *words))
    option = shlex.split(line.partition("can start from its weights:  ")[2])
    assert option == ["--load_model", str(xp / "model_round1.tar")]
    assert sorted(xp.iterdir()) == before
    train(tmp_path / "new", data, *OPTIONS, *option)


def test_a_file_for_scoring_is_not_resumed(data, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "xp")
    last = tmp_path / "xp/last.tar"
    shutil.copy(whole / "model_round1.tar", last)
    line = stopped(invoke(cli.train, "CXR_author", "unet", tmp_path / "xp", data, "--resume"))
    assert f"{last}: is a file for scoring" in line and f"--load_model {last}" in line


def test_a_run_that_ended_before_its_first_checkpoint_is_told_a_way_on(data, whole, tmp_path):
    shutil.copy(whole / "config.json", tmp_path)
    words = ["CXR_author", "unet", tmp_path, data, *SHORT]
    assert "--overwrite" in stopped(invoke(cli.train, *words))
    assert "last.tar is missing); --overwrite starts anew" in stopped(invoke(cli.train, *words, "--resume"))
    train(tmp_path, data, "--resume", "auto")


@pytest.mark.parametrize(
    ("name", "value"),
    [("optimizer", {}), ("rng", 3), ("round", "a"), ("tally", 5), ("head", None), ("schedule", None)],
)
def test_a_checkpoint_without_a_whole_state_is_refused(data, whole_newer, tmp_path, name, value):
    shutil.copytree(whole_newer, tmp_path / "xp")
    torch.save({**read_tar(whole_newer / "last.tar"), name: value}, tmp_path / "xp/last.tar")
    line = stopped(invoke(cli.train, "CXR_author", "unet", tmp_path / "xp", data, "--resume", "--n_epochs", 3))
    assert "last.tar: holds no state that a run can go on from" in line or f"last.tar: {name} is" in line


@pytest.mark.parametrize(
    "unfit",
    [
        {"num_batches": -1},
        {"num_batches": True},
        {"num_batches": 10**6, "num_views": 10**6},
        {"num_views": 0},
        {"num_views": 1.5},
        {"sums": {"rec": 3}},
        {"sums": {"rec": torch.zeros(3)}},
        {"sums": {"rec": torch.tensor(1)}},
        {"sums": []},
        {"z": torch.zeros(2, 2)},
        {"z": None},
        {"distances": torch.zeros(3)},
        {"distances": [torch.zeros(2, 2)]},
        {"seconds": float("nan")},
        {"seconds": -1.0},
    ],
)
def test_unfit_sums_of_an_epoch_are_refused(data, whole, tmp_path, unfit):
    meters = Meters(torch.device("cpu"))
    meters.add({"rec": torch.tensor(1.0)}, num_views=2, z=torch.zeros(2, 3), distances=torch.zeros(2))
    assert Meters.from_state_dict(meters.state_dict(), torch.device("cpu")).means() == meters.means()
    shutil.copytree(whole, tmp_path / "xp")
    torch.save({**read_tar(whole / "last.tar"), "tally": {**meters.state_dict(), **unfit}}, tmp_path / "xp/last.tar")
    line = stopped(invoke(cli.train, "CXR_author", "unet", tmp_path / "xp", data, "--resume", "--n_epochs", 3))
    assert "last.tar: holds no state that a run can go on from" in line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("round", 99),
        ("round", -5),
        ("epoch_in_round", 99),
        ("epoch", -5),
        ("epoch", True),
        ("epoch", 1.0),
        ("epoch", 0),
    ],
)
def test_a_place_that_the_run_never_reaches_is_refused(data, whole_newer, tmp_path, name, value):
    shutil.copytree(whole_newer, tmp_path / "xp")
    torch.save({**read_tar(whole_newer / "last.tar"), name: value}, tmp_path / "xp/last.tar")
    before = (tmp_path / "xp/last.tar").read_bytes()
    line = stopped(invoke(cli.train, "CXR_author", "unet", tmp_path / "xp", data, "--resume", "--n_epochs", 3))
    assert "last.tar: " in line and "--overwrite" not in line
    assert (tmp_path / "xp/last.tar").read_bytes() == before


def test_a_schedule_takes_no_names_but_its_own(data, whole_newer, tmp_path):
    shutil.copytree(whole_newer, tmp_path / "xp")
    content = read_tar(whole_newer / "last.tar")
    content["schedule"] |= {"step": 5, "get_last_lr": None}
    torch.save(content, tmp_path / "xp/last.tar")
    result = invoke(cli.train, "CXR_author", "unet", tmp_path / "xp", data, "--resume", "--n_epochs", 3)
    assert result.exit_code == 0, result.stderr


UNREAD = {
    "memory": MemoryError(),
    "threads": RuntimeError("can't start new thread"),
    "files": OSError(24, "Too many open files"),
    "disk": OSError(5, "Input/output error"),
    "rights": PermissionError(13, "Permission denied"),
}


@pytest.mark.parametrize("kind", UNREAD)
@pytest.mark.parametrize("unread", ["last.tar", "model_round"])
def test_no_advice_replaces_a_run_whose_checkpoints_were_not_read(data, whole, tmp_path, monkeypatch, kind, unread):
    """last.tar cannot be read, or it is damaged and those of the rounds cannot be read."""
    xp, load, status = tmp_path / "xp", torch.load, 2 if kind == "rights" or unread != "last.tar" else 1
    shutil.copytree(whole, xp)
    if unread != "last.tar":
        os.truncate(xp / "last.tar", 1000)

    def failing(file, **how):
        if unread in getattr(file, "name", ""):
            raise UNREAD[kind]
        return load(file, **how)

    monkeypatch.setattr(torch, "load", failing)
    before = {path: path.read_bytes() for path in xp.iterdir()}
    line = stopped(invoke(cli.train, "CXR_author", "unet", xp, data, "--resume"), status=status)
    assert unread in line and "--overwrite" not in line
    assert before == {path: path.read_bytes() for path in xp.iterdir()}


@pytest.mark.parametrize("kind", ["pipe", "folder", "loop"])
@pytest.mark.parametrize("name", ["last.tar", "log.txt"])
def test_what_is_no_file_is_not_waited_for(data, whole, tmp_path, name, kind):
    xp = tmp_path / "xp"
    shutil.copytree(whole, xp)
    (xp / name).unlink()
    {"pipe": os.mkfifo, "folder": Path.mkdir, "loop": lambda path: path.symlink_to(path)}[kind](xp / name)
    line = stopped(invoke(cli.train, "CXR_author", "unet", xp, data, "--resume"))
    assert name in line and "--overwrite" not in line


def test_only_the_newest_rounds_are_kept(data, tmp_path):
    train(tmp_path, data, "--n_epochs", 1, "--ans_select_rate", 0.34, "--keep", 2)
    assert sorted(path.name for path in tmp_path.glob("model_round*")) == ["model_round1.tar", "model_round2.tar"]


# Real processes -------------------------------------------------------------------------------------------------


def start(xp: Path, data: Path, *options: object) -> subprocess.Popen:
    words = ["CXR_author", "unet", xp, data, *SHORT, *OPTIONS, "--n_jobs_dataloader", 1, *options]
    command = [sys.executable, "-c", TINY_MAIN, *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=REPOSITORY, env=ONE_THREAD, stdout=pipe, stderr=pipe, text=True)


def wait_for_epochs(is_running: Callable[[], bool], xp: Path, num_epochs: int, *, since: float = 0) -> None:
    """Until metrics.jsonl has so many lines, written after a time: an earlier process may have left one more."""
    metrics, deadline = xp / "metrics.jsonl", time.monotonic() + 300
    while is_running() and time.monotonic() < deadline:
        is_new = metrics.exists() and metrics.stat().st_mtime > since
        if is_new and len(metrics.read_text().splitlines()) >= num_epochs:
            return
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 128 + signal.SIGUSR1)]
)
def test_a_signal_ends_a_real_process_with_its_status_and_the_resume_command(data, whole, tmp_path, number, status):
    xp = tmp_path / "xp"
    process = start(xp, data)
    wait_for_epochs(lambda: process.poll() is None, xp, 2)
    process.send_signal(number)
    out, err = process.communicate(timeout=300)
    assert process.returncode == status, err
    assert out == "" and "Traceback" not in err
    *_, line = err.splitlines()
    assert line.startswith("Error: interrupted by") and line.endswith("--resume") and str(xp) in line
    assert shlex.split(line)[-1] == "--resume"
    resume(xp, data)
    assert_same_end(xp, whole)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "kills"), [("whole", 12), ("whole_newer", 5)])
def test_killing_at_random_moments_loses_at_most_the_current_epoch(data, tmp_path, request, kind, kills):
    """SIGKILL, from before the first checkpoint to the end; SALAD_KILLS asks for another number of blows."""
    whole, xp, draw = request.getfixturevalue(kind), tmp_path / "xp", random.Random(0)
    wanted = int(os.environ.get("SALAD_KILLS", kills))
    context = multiprocessing.get_context("forkserver")  # processes of their own, with the imports done
    context.set_forkserver_preload(["salad.training.run", "salad.networks.unet"])
    words = ["CXR_author", "unet", xp, data, *SHORT, *OPTIONS, *(NEWER if kind == "whole_newer" else [])]
    words += ["--n_jobs_dataloader", 0, "--resume", "auto"]
    num_kills = epochs_before = 0
    rounds = set()
    while num_kills < wanted:
        process = context.Process(target=run_main, args=([str(word) for word in words],))
        since = time.time()
        process.start()
        if draw.random() < 0.7:  # else while it starts
            wait_for_epochs(process.is_alive, xp, epochs_before + draw.choice([1, 2]), since=since)
        time.sleep(draw.uniform(0, 0.25))
        process.kill()
        process.join()
        if process.exitcode != -signal.SIGKILL:  # it was done before the blow
            assert process.exitcode == 0
            assert_same_end(xp, whole)
            shutil.rmtree(xp)
            epochs_before = 0
            continue
        num_kills += 1
        saved = [*xp.glob("*.tar")]
        epochs = max((read_tar(path)["epoch"] for path in saved), default=0)  # all readable, and
        lines = len((xp / "metrics.jsonl").read_text().splitlines()) if (xp / "metrics.jsonl").exists() else 0
        assert epochs >= max(epochs_before, lines - 1)  # nothing but the current epoch is lost
        # models are written before last.tar: in between, they are an epoch ahead, which is then trained again
        kept = read_tar(xp / "last.tar")["epoch"] if (xp / "last.tar").exists() else 0
        assert kept >= max(epochs_before, epochs - 1)
        epochs_before = kept
        rounds.update(read_tar(path)["round"] for path in saved)
    assert len(rounds) >= (3 if wanted >= 25 else 2)  # of 4, pre-training included: they were met everywhere
    result = invoke(cli.train, *words)
    assert result.exit_code == 0, result.stderr
    assert_same_end(xp, whole)


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once():
    script = (
        "import time\nfrom salad.training.signals import Interrupts\n"
        "with Interrupts():\n    print('ready', flush=True)\n    time.sleep(600)\n    time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None  # the first is remembered
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == 130  # it would sleep on for longer


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with Interrupts():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
