"""Running the two commands inside a test, with a `unet` of a few channels so that a training takes half a second."""

import csv
import json
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, suppress
from pathlib import Path
from types import SimpleNamespace

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from salad import cli
from salad.evaluation.metrics import Auc
from salad.networks import unet
from salad.networks.layers import BatchNorm2d
from salad.runs.csv_file import write_csv

REPOSITORY = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
# What both programs take, and what main.py needs besides for a run of rounds 0 and 1, one epoch each.
TINY = ["--isize", 64, "--rep_dim", 8, "--batch_size", 6, "--n_jobs_dataloader", 0, "--device", "cpu"]
SHORT = [*TINY, "--n_epochs", 1, "--ans_select_rate", 1, "--ans_size", 3]
TIMINGS = {"seconds", "images_per_second"}
LABELS = [0] * 20 + [1] * 20  # of `write_results`
# In a process of its own with the tiny network.
PROGRAM = """
import signal, sys, torch
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell has its background commands ignore
torch.set_num_threads(1)
from salad.networks import unet
unet.WIDTHS = (4, 4, 4, 4, 4, 4, 8)
from salad.cli import main
main(sys.argv[1:], prog_name="python -m salad")
"""


class QuickBatchNorm2d(BatchNorm2d):
    """Statistics that follow the batches within a few steps, as they do in a training of real length.

    With torch's own pace, a network of a few steps scores by those it began with: all images nearly alike, apart by
    rounding, which differs from processor to processor.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features, momentum=0.8)


def shrink_unet(patch: Callable[[object, str, object], None] = setattr) -> None:
    """Make `unet` one of some 10,000 parameters, whose checkpoints take 0.2 MB."""
    patch(unet, "WIDTHS", (4, 4, 4, 4, 4, 4, 8))
    patch(unet, "BatchNorm2d", QuickBatchNorm2d)


@contextmanager
def tiny_unet() -> Iterator[None]:
    """A small `unet`, see `shrink_unet`."""
    with pytest.MonkeyPatch.context() as patch:
        shrink_unet(patch.setattr)
        yield


def invoke(command: click.Command, *words: object, tiny: bool = True) -> Result:
    """Run a command in this process, as typed, on one thread; the logger and the threads are put back.

    test.py writes its report, which takes seconds, only where --report is among the words.
    """
    if command is cli.test and "--report" not in words:
        words = (*words, "--no_report")
    logger, num_threads = logging.getLogger("salad"), torch.get_num_threads()
    torch.set_num_threads(1)  # images this small lose time on more
    try:
        with tiny_unet() if tiny else nullcontext():
            return CliRunner().invoke(command, [str(word) for word in words])
    finally:
        for handler in logger.handlers[:]:
            logger.removeHandler(handler)
            with suppress(OSError):  # a full disk
                handler.close()
        logger.propagate = True
        torch.set_num_threads(num_threads)


def train(xp: Path, data: Path, *options: object) -> list[dict]:
    """Train the tiny network; returns the lines of metrics.jsonl."""
    result = invoke(cli.train, "CXR_author", "unet", xp, data, *SHORT, *options)
    assert result.exit_code == 0, result.stderr
    return read_lines(xp / "metrics.jsonl")


def score(xp: Path, data: Path, *options: object) -> list[float]:
    """Score with the tiny network, over any earlier results; returns the scores of scores.csv."""
    result = invoke(cli.test, "CXR_author", "unet", xp, data, *TINY, "--overwrite", *options)
    assert result.exit_code == 0, result.stderr
    return [float(row["score"]) for row in read_csv(xp / "scores.csv")]


def stopped(result: Result, *, status: int = 2) -> str:
    """The last line on stderr of a run that ended with a message of one line, not with a traceback."""
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == status, result.stderr
    assert result.stdout == ""
    *before, line = result.stderr.splitlines()
    assert line.startswith("Error: ") and not any(one.startswith("Error") for one in before), result.stderr
    return line


def validated(found: Auc) -> SimpleNamespace:
    """As the result of a validation with this AUC."""
    return SimpleNamespace(auc=found, normal_scores=np.zeros(0), standards=None)


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def run_in_process(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Let the commands of a study run in this process, with the tiny network; the list of them is returned."""
    from salad.study.jobs import Programs

    options, made = {"train": SHORT, "test": TINY, "enrol": ["--device", "cpu"]}, []

    def call(self: Programs, words: list[str], log: Path) -> bool:
        made.append(words)
        result = invoke(cli.main, *words, *options[words[0]])
        with log.open("a", encoding="utf-8") as file:
            file.write(result.stderr)
        return result.exit_code == 0

    monkeypatch.setattr(Programs, "__call__", call)
    return made


def write_results(folder: Path, *, seed: int, labels: list[int] = LABELS, images: str = "{i:02}.png") -> np.ndarray:
    """A folder as test.py leaves it, with scores of this seed, which are returned."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=len(labels)) + labels
    folder.mkdir(parents=True)
    rows = [[images.format(i=i), labels[i], scores[i], ""] for i in generator.permutation(len(labels))]
    write_csv(folder / "scores.csv", [["path", "label", "score", "percentile"], *rows])
    baselines = {"image_mean": {"value": 0.25}, "image_std": None}
    (folder / "metrics.json").write_text(json.dumps({"baseline_auc": baselines}))
    return scores


def assert_same_scores(xp: Path, other: Path) -> None:
    """The scores.csv of two folders are of the same images, with scores that agree but for rounding."""
    rows, expected = (read_csv(folder / "scores.csv") for folder in (xp, other))
    assert [(row["path"], row["label"]) for row in rows] == [(row["path"], row["label"]) for row in expected]
    values = [float(row["score"]) for row in expected]
    assert [float(row["score"]) for row in rows] == pytest.approx(values, abs=1e-5)


def read_tar(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def without_timings(lines: list[dict]) -> list[dict]:
    return [{name: value for name, value in line.items() if name not in TIMINGS} for line in lines]


def place(path: Path) -> dict[str, int]:
    """Where a run stood when it wrote a checkpoint: the round, and the epoch over the whole run."""
    content = read_tar(path)
    return {"round": content["round"], "epoch": content["epoch"]}


def run_main(words: list[str]) -> None:
    """main.py, as typed, with the tiny network: for a process of its own that is started without its imports."""
    torch.set_num_threads(1)
    shrink_unet()
    with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        cli.train(words, prog_name="main.py")


def interrupt_after(monkeypatch: pytest.MonkeyPatch, num_steps: int, *, number: int = signal.SIGTERM) -> None:
    """A signal arrives during the step of this number."""
    from salad.training.trainer import Trainer

    step, count = Trainer.step, 0

    def counting(self, batch):
        nonlocal count
        count += 1
        if count == num_steps:
            os.kill(os.getpid(), number)
        return step(self, batch)

    monkeypatch.setattr(Trainer, "step", counting)


def same(value: object, other: object) -> bool:
    """Equal to the last bit, at every depth."""
    if isinstance(value, torch.Tensor):
        return isinstance(other, torch.Tensor) and value.dtype == other.dtype and torch.equal(value, other)
    if isinstance(value, dict):
        return isinstance(other, dict) and value.keys() == other.keys() and all(same(value[k], other[k]) for k in value)
    if isinstance(value, (list, tuple)):
        return len(value) == len(other) and all(map(same, value, other))
    return value == other


def refuse_test(xp: Path, data: Path, *options: object, net: str = "unet", dataset: str = "CXR_author") -> str:
    return stopped(invoke(cli.test, dataset, net, xp, data, "--n_jobs_dataloader", 0, *options))
