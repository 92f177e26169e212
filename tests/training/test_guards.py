import functools
import logging
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from on_devices import NoWaiting
from running import CPU, REPOSITORY, SHORT, TINY, invoke, read_lines, read_tar, score, stopped, train, validated

from salad import cli
from salad.datasets import phantom
from salad.errors import NO_MEMORY, DivergedError, shortage
from salad.evaluation.metrics import Auc
from salad.scores import knn
from salad.training.guards import LOWEST_LOSS_SCALE, FiniteGuard, check_loss_scale, check_spread, check_weights
from salad.training.meters import Meters
from salad.training.trainer import Trainer


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "data"
    phantom.write_phantom(root, size=32, num_train=8, num_val=3, num_test=2)
    return root


def guard(interval=None):
    return FiniteGuard(CPU, name_of="abcdefgh".__getitem__, interval=interval)


def watch(guard, *, loss=1.0, z=1.0, images=(0,)):
    index = torch.tensor(images)
    guard.watch(torch.tensor(loss), {"rec": torch.tensor(loss)}, torch.full((len(index), 3), z), index=index)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_on_the_cpu_a_loss_that_is_not_finite_is_found_at_once(value):
    watch(guard(), images=(1, 2))
    with pytest.raises(DivergedError, match=r"the loss is not finite \(rec = -?(nan|inf)\).* batch was: c, d$"):
        watch(guard(), loss=value, images=(2, 3))
    with pytest.raises(DivergedError, match=r"an embedding is not finite \(rec = 1.0\).* batch was: a$"):
        watch(guard(), z=value)


def test_a_loss_that_is_not_finite_is_found_after_the_interval_with_the_first_batch_at_fault():
    late = guard(interval=4)
    for _ in range(4):
        watch(late)
    watch(late, images=(1,))
    watch(late, loss=float("nan"), images=(2, 3))
    watch(late, loss=float("inf"), images=(4,))
    with pytest.raises(DivergedError, match="rec = nan.* batch was: c, d$"):
        watch(late, images=(5,))
    late.check()  # what has been said is not said again


def test_check_looks_before_the_interval_is_over():
    late = guard(interval=50)
    late.check()
    watch(late, z=float("nan"), images=(6, 7))
    with pytest.raises(DivergedError, match="an embedding.* batch was: g, h$"):
        late.check()


def test_a_loss_scale_that_has_run_down():
    scaler = torch.amp.GradScaler("cpu", init_scale=LOWEST_LOSS_SCALE)
    check_loss_scale(scaler)
    check_loss_scale(torch.amp.GradScaler("cpu", enabled=False))
    with pytest.raises(DivergedError, match="bf16 or off"):
        check_loss_scale(torch.amp.GradScaler("cpu", init_scale=LOWEST_LOSS_SCALE / 2))


# As on a GPU, where losses are read now and then -----------------------------------------------------------------


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    monkeypatch.setattr("salad.training.trainer.FiniteGuard", functools.partial(FiniteGuard, interval=50))


def corrupt_step(monkeypatch, number, *, also=lambda: None):
    """The loss of this step is NaN; returns where the numbers of its images will stand."""
    real, step, count, images = Trainer.loss_terms, Trainer.step, 0, []

    def counting(self, batch):
        nonlocal count
        count += 1
        if count == number:
            images[:] = batch.index.tolist()
            also()
        return step(self, batch)

    def terms(self, *args):
        corrupted = float("nan") if count == number else 1
        return {name: term * corrupted for name, term in real(self, *args).items()}

    monkeypatch.setattr(Trainer, "step", counting)
    monkeypatch.setattr(Trainer, "loss_terms", terms)
    return images


def assert_names(line, images, data):
    names = sorted(path.name for path in (data / "train").glob("*/*"))
    listed = sorted(path.rpartition("/")[2] for path in line.partition("the batch was: ")[2].split(", "))
    assert listed == [names[i] for i in sorted(images)]


def assert_all_finite(path):
    content = read_tar(path)
    tensors = [*content["model_state_dict"].values(), content["memory_state_dict"]["memory"]]
    assert all(tensor.isfinite().all() for tensor in tensors)
    return content


@pytest.mark.parametrize("step", [3, 4])
def test_nan_stops_the_run_at_the_end_of_the_epoch_and_is_never_saved(data, tmp_path, monkeypatch, as_on_a_gpu, step):
    images = corrupt_step(monkeypatch, step)
    result = invoke(cli.train, "CXR_author", "unet", tmp_path, data, *SHORT)
    line = stopped(result, status=1)
    assert "the loss is not finite" in line
    assert_names(line, images, data)
    assert assert_all_finite(tmp_path / "last.tar")["epoch"] == 1
    assert_all_finite(tmp_path / "model_round0.tar")


def test_nan_before_a_signal_is_not_saved(data, tmp_path, monkeypatch, as_on_a_gpu):
    images = corrupt_step(monkeypatch, 3, also=lambda: os.kill(os.getpid(), signal.SIGTERM))
    line = stopped(invoke(cli.train, "CXR_author", "unet", tmp_path, data, *SHORT), status=1)
    assert "the loss is not finite" in line
    assert_names(line, images, data)
    assert assert_all_finite(tmp_path / "last.tar")["epoch"] == 1


@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
def test_a_step_never_waits_for_a_gpu(data, tmp_path, monkeypatch, as_on_a_gpu, amp):
    step = Trainer.step

    def watched(self, batch):
        assert self.config.optimisation.amp == amp
        with NoWaiting():
            return step(self, batch)

    monkeypatch.setattr(Trainer, "step", watched)
    train(tmp_path, data, "--amp", amp, "--n_views", 2, "--objective", "soft-boundary")


def test_what_would_wait_is_found():
    ones = torch.ones(2)
    for wait in (ones[0].item, (ones > 0).nonzero, (ones > 0).all().__bool__, lambda: ones[ones > 0]):
        with NoWaiting(), pytest.raises(AssertionError, match="waits"):
            wait()


# -----------------------------------------------------------------------------------------------------------------


def test_a_weight_that_is_not_finite():
    network = torch.nn.Linear(2, 2)
    check_weights(network)
    with torch.no_grad():
        network.weight[0, 0] = float("inf")
    with pytest.raises(DivergedError):
        check_weights(network)


def test_spread(caplog):
    caplog.set_level(logging.WARNING, logger="salad")
    check_spread(0.5, stop=True)
    check_spread(1e-6, stop=False)
    assert "one point" in caplog.text
    with pytest.raises(DivergedError, match="one point"):
        check_spread(1e-6, stop=True)


def collapse(monkeypatch):
    """All embeddings become one point."""
    real = Meters.add

    def add(self, terms, *, z, **others):
        real(self, terms, z=torch.eye(z.shape[1])[:1].expand_as(z), **others)

    monkeypatch.setattr(Meters, "add", add)


def test_a_collapse_is_said_and_recorded(data, tmp_path, monkeypatch):
    collapse(monkeypatch)
    result = invoke(cli.train, "CXR_author", "unet", tmp_path, data, *SHORT)
    assert result.exit_code == 0 and "one point" in result.stderr
    assert all(line["spread"] < 1e-6 for line in read_lines(tmp_path / "metrics.jsonl"))


def test_a_collapse_can_stop_the_run(data, tmp_path, monkeypatch):
    collapse(monkeypatch)
    result = invoke(cli.train, "CXR_author", "unet", tmp_path, data, *SHORT, "--on_collapse", "stop")
    assert "one point" in stopped(result, status=1)
    assert len(read_lines(tmp_path / "metrics.jsonl")) == 1


def test_a_healthy_run_has_spread(data, tmp_path):
    assert all(0.01 < line["spread"] < 1 for line in train(tmp_path, data))


@pytest.mark.parametrize(("scores", "said"), [("same", "all 4 scores are the same"), ("turned", "below 0.5")])
def test_useless_scores_are_said(data, tmp_path, monkeypatch, scores, said):
    train(tmp_path, data)

    def useless(inputs, _normals):
        num_images = len(inputs.images)
        return torch.zeros(num_images) if scores == "same" else -torch.arange(num_images)

    monkeypatch.setattr(knn, "score", useless)
    result = invoke(cli.test, "CXR_author", "unet", tmp_path, data, *TINY)
    assert result.exit_code == 0 and said in result.stderr
    assert result.stdout.strip() == ("AUC score = 0.50000" if scores == "same" else "AUC score = 0.00000")


def test_a_validation_auc_below_half_is_said(data, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "validate", lambda self: validated(Auc(0.3, 0.2, 0.4)))
    train(tmp_path, data)
    result = invoke(cli.test, "CXR_author", "unet", tmp_path, data, *TINY)
    assert "on the validation images the AUC is 0.3000" in result.stderr


def test_scores_of_a_collapsed_model_are_said_to_be_the_same(data, tmp_path):
    train(tmp_path, data)
    content = read_tar(tmp_path / "model.tar")
    content["model_state_dict"]["feat.weight"] *= 0
    torch.save(content, tmp_path / "model.tar")
    result = invoke(cli.test, "CXR_author", "unet", tmp_path, data, *TINY)
    assert result.exit_code == 0 and "all 4 scores are the same" in result.stderr


# Exit status ----------------------------------------------------------------------------------------------------


def test_an_internal_error_is_one_line_and_debug_shows_the_traceback(data, tmp_path, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("a fault of the program")

    monkeypatch.setattr(Trainer, "run", broken)
    result = invoke(cli.train, "CXR_author", "unet", tmp_path, data, *SHORT)
    assert result.exit_code == 1 and result.stdout == ""
    *_, line = result.stderr.splitlines()
    assert line.startswith("Internal error: ZeroDivisionError: a fault") and "--debug" in line and "report" in line
    assert "Traceback" not in result.stderr and "Traceback" in (tmp_path / "log.txt").read_text()
    result = invoke(cli.train, "CXR_author", "unet", tmp_path, data, *SHORT, "--overwrite", "--debug")
    assert result.exit_code == 1 and "Traceback" in result.stderr and "ZeroDivisionError" in result.stderr


@pytest.mark.parametrize("too_large", [lambda: torch.empty(2**50), lambda: np.empty(2**50)], ids=["torch", "numpy"])
def test_a_lack_of_memory_is_no_fault_of_the_program(data, tmp_path, monkeypatch, too_large):
    monkeypatch.setattr(Trainer, "run", lambda _: too_large())
    line = stopped(invoke(cli.train, "CXR_author", "unet", tmp_path, data, *SHORT), status=1)
    assert line.startswith("Error: out of memory: free some, or use a smaller --batch_size") and "llocate" in line


def test_a_lack_of_memory_on_a_gpu_is_told_by_its_type():
    assert shortage(torch.OutOfMemoryError("CUDA out of memory")) == NO_MEMORY
    assert shortage(RuntimeError("a fault")) is None


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        (("--batch_size", 7), "--batch_size 3 or --amp bf16"),
        (("--batch_size", 1, "--amp", "bf16"), "a smaller --isize"),
    ],
)
def test_a_gpu_that_is_too_small_for_a_batch_is_told_which_would_fit(data, tmp_path, monkeypatch, options, advice):
    def too_large(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried\nto allocate 2.00 GiB")

    monkeypatch.setattr(Trainer, "step", too_large)
    line = stopped(invoke(cli.train, "CXR_author", "unet", tmp_path, data, *SHORT, *options), status=1)
    assert line == (
        f"Error: out of memory on cpu: --batch_size {options[1]} needs more than is free; start again with {advice} "
        "(CUDA out of memory. Tried\\nto allocate 2.00 GiB)"
    )


@pytest.mark.parametrize(("number", "named"), [(28, "No space left on device"), (30, "Read-only file system")])
def test_a_full_disk_is_no_fault_of_the_program(data, tmp_path, monkeypatch, number, named):
    def full(*_):
        raise OSError(number, os.strerror(number), "a\nfile")

    monkeypatch.setattr(Trainer, "run", full)
    line = stopped(invoke(cli.train, "CXR_author", "unet", tmp_path, data, *SHORT), status=1)
    assert line == f"Error: a\\nfile: cannot be written ({named})"


def test_whoever_reads_the_results_may_close_the_pipe(data, tmp_path):
    train(tmp_path, data)
    score(tmp_path, data)
    command = [sys.executable, "-m", "salad", "compare", tmp_path]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert "rror" not in process.stderr.read()
    assert process.wait() == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_before_there_is_a_run_a_signal_ends_the_program_at_once(number):
    """With the status of the signal, whether the program or the shell that waits for it works it out."""
    script = (
        "import os, signal\nfrom salad.cli import main\nfrom salad.datasets import author_archive\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # jobs in the background ignore it
        f"author_archive.fetch = lambda *_, **__: os.kill(os.getpid(), {int(number)})\nmain(['fetch'])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode in (128 + number, -number)
    assert done.stdout == "" and done.stderr == f"Error: interrupted by {number.name}\n"
