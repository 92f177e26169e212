import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from running import ONE_THREAD, REPOSITORY

from benchmarks.__main__ import main
from benchmarks.gpu import facts, pack, speed, stages
from benchmarks.gpu.notes import Notes, Setting
from benchmarks.gpu.stages import STAGES, Stage, bound_of, run_stage
from benchmarks.gpu.table import table
from benchmarks.gpu.timing import Stopwatch, is_kernel
from benchmarks.gpu.training import SCORES, Training, open_trainer, train_rounds
from salad.datasets import phantom

NAMES = list(STAGES)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_shares_fill_the_time_and_what_one_leaves_goes_to_the_others():
    left = 540.0
    for name in NAMES:
        left -= bound_of(name, NAMES, left)
    assert left == pytest.approx(0)
    assert bound_of("strong", NAMES, 100.0) == 100
    assert bound_of("paper", ["paper", "strong"], 540.0) > bound_of("paper", NAMES, 540.0 * 0.55)
    assert max(STAGES, key=lambda name: STAGES[name].share) == "paper"


def test_an_error_is_noted_and_the_results_before_and_after_it_are_kept(tmp_path, capsys):
    notes = Notes(tmp_path / "x.json")
    notes.measure("first", lambda: {"ms": 1.5})
    notes.measure("second", lambda: 1 / 0)
    assert read(notes.path) == {"first": {"ms": 1.5}, "second": {"error": "ZeroDivisionError: division by zero"}}
    notes.add("third", 3)
    assert [*read(notes.path)] == ["first", "second", "third"]
    assert "ZeroDivisionError" in capsys.readouterr().err


@pytest.fixture(autouse=True)
def _signals():
    """The command sets what SIGTERM does in its process, here that of the tests."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def stage_of(monkeypatch, tmp_path):
    """A function that makes a stage of a few lines of code, of a module that is found in its process."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def make(code):
        (tmp_path / "sitecustomize.py").write_text(code, encoding="utf-8")  # runs first in every process
        return run_stage("facts", ["--help"], bound=4.0, log=tmp_path / "log.txt")

    return make


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("import time; time.sleep(60)", "out of time"),
        ("import os; os.abort()", "failed"),
        ("import os; os._exit(0)", "done"),
    ],
)
def test_a_stage_that_hangs_or_crashes_is_ended(stage_of, code, outcome):
    start = time.monotonic()
    assert stage_of(code) == outcome
    assert time.monotonic() - start < 30


# a stage with a process of its own, which outlives it; both tell their number
PARENT = """
import os, subprocess, sys, time
os.setpgrp()
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_what_a_stage_has_started_ends_with_it(stage_of, tmp_path):
    assert stage_of(PARENT) == "out of time"
    child = int((tmp_path / "log.txt").read_text().split()[-1])
    for _ in range(100):
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().rsplit(")")[-1].split()[0] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("it still runs")


@pytest.mark.slow
def test_the_stages_after_one_that_fails_still_run(tmp_path, monkeypatch):
    began = []

    def run(name, options, *, bound, log):
        began.append(name)
        return "failed" if name == "correct" else "done"

    monkeypatch.setattr(stages, "run_stage", run)
    result = CliRunner().invoke(main, ["gpu", "--smoke", "--out", str(tmp_path / "out"), "--stage", "strong"])
    assert result.exit_code == 0 and began == ["strong"]
    result = CliRunner().invoke(main, ["gpu", "--smoke", "--out", str(tmp_path / "out")])
    assert began[1:] == NAMES and result.exit_code == 1 and "correct failed" in result.stderr
    assert {name: read(tmp_path / "out/run.json")[name]["outcome"] for name in NAMES} == {
        name: "failed" if name == "correct" else "done" for name in NAMES
    }


def test_the_smoke_form_takes_a_few_images_of_each_class(tmp_path, monkeypatch):
    for number in range(20):
        path = tmp_path / f"data/kermany_dev/test/{number % 2}.x/{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = []

    def run(name, options, *, bound, log):
        source = Path(options[options.index("--data") + 1])
        found.extend(path.relative_to(source).as_posix() for path in source.rglob("*.png"))
        return "done"

    monkeypatch.setattr(stages, "run_stage", run)
    monkeypatch.setattr(stages, "FEW", 2)
    words = ["gpu", "--smoke", "--stage", "strong", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    assert CliRunner().invoke(main, words).exit_code == 0
    assert sorted(found) == [f"kermany_dev/test/{name}.png" for name in ("0.x/00", "0.x/02", "1.x/01", "1.x/03")]


def test_a_command_that_is_ended_ends_its_stage(tmp_path, monkeypatch):
    work = []

    def run(name, options, *, bound, log):
        work.append(Path(options[options.index("--work") + 1]))
        assert work[0].is_dir()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    monkeypatch.setattr(stages, "run_stage", run)
    result = CliRunner().invoke(main, ["gpu", "--smoke", "--out", str(tmp_path / "out")])
    assert result.exit_code == 128 + signal.SIGTERM and len(work) == 1 and not work[0].exists()


def test_without_a_gpu_only_the_smoke_form_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = CliRunner().invoke(main, ["gpu", "--out", str(tmp_path / "out")])
    assert result.exit_code == 2 and "--smoke" in result.stderr and not (tmp_path / "out").exists()


def test_the_parts_of_a_step_are_summed():
    watch = Stopwatch(torch.device("cpu"))
    double = watch.timed("double", lambda number, *, by: (time.sleep(0.01), number * by)[1])
    assert [double(3, by=2), double(4, by=2)] == [6, 8]
    assert 5 < watch.milliseconds(4)["double"] < 100


def test_a_training_without_time_stops_in_its_round_and_says_so(tmp_path, monkeypatch):
    phantom.write_phantom(tmp_path / "data/kermany_dev", size=64, num_train=8, num_val=1, num_test=1)
    training = Training(recipe="released", net_name="CXR_resnet18", data_set="kermany_dev")
    config = training.config(tmp_path / "data", tmp_path, device="cpu", smoke=True)
    trainer = open_trainer(config.changed(n_epochs=3), smoke=True)
    rounds = []
    assert not train_rounds(trainer, until=time.monotonic(), after_round=rounds.append)
    assert rounds == [] and trainer.state.epochs_done == 0
    train_epoch = trainer.train_epoch

    def until_now():
        metrics = train_epoch()
        monkeypatch.setattr(time, "monotonic", lambda: float("inf"))
        return metrics

    trainer.train_epoch = until_now
    assert not train_rounds(trainer, until=time.monotonic() + 600, after_round=rounds.append)
    assert [(line["round"], line["epochs"], line["is_whole"]) for line in rounds] == [(0, 1, False)]


def test_of_a_profile_only_the_work_of_the_gpu_counts():
    def event(device_type, **facts):
        return SimpleNamespace(device_type=device_type, **facts)

    cuda, cpu = torch.autograd.DeviceType.CUDA, torch.autograd.DeviceType.CPU
    assert is_kernel(event(cuda)) and is_kernel(event(cuda, is_user_annotation=False))
    assert not is_kernel(event(cpu)) and not is_kernel(event(cuda, is_user_annotation=True))


def test_the_largest_batch_follows_from_the_memory_of_two_small_ones(tmp_path, monkeypatch):
    setting = Setting(data=tmp_path, out=tmp_path, work=tmp_path, device="cuda", smoke=False, seconds=10)
    monkeypatch.setattr(speed, "_peak", lambda setting, name, batch_size: 2 + batch_size / 10)  # GiB
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=80 * 2**30))
    monkeypatch.setattr(speed, "free_memory", lambda _: None)
    monkeypatch.setattr(speed, "task_of", lambda setting, name, *, batch_size: batch_size)
    monkeypatch.setattr(speed, "our_step", lambda task: None)
    monkeypatch.setattr(speed, "rate_of", lambda setting, task, step: {"batch": task})
    measure = dict(speed.plan(setting))["step, unet, bf16, largest batch"]
    assert measure() == {"batch": 640, "MiB an image": pytest.approx(102.4)}  # of 68 GiB, 2 are taken
    monkeypatch.setattr(speed, "_peak", lambda setting, name, batch_size: 2 + batch_size / 1000)
    assert measure()["batch"] == 992  # an epoch of 1,000 rows has no larger one


def test_the_state_of_the_gpu_is_read_from_its_driver(monkeypatch):
    said = "NVIDIA H100 80GB HBM3, 580.1, 345 MHz, 1980 MHz, 2619 MHz, 81559 MiB, 4 MiB, 700.00 W, 31\n"
    monkeypatch.setattr(subprocess, "run", lambda command, **_: SimpleNamespace(stdout=said))
    state = facts.ask_driver()
    assert (state["name"], state["clocks.sm"], state["temperature.gpu"]) == ("NVIDIA H100 80GB HBM3", "345 MHz", "31")


def test_the_table_shows_what_is_there(tmp_path):
    for name, values in {
        "run": {"facts": {"outcome": "done", "seconds": 3.0}, "correct": {"outcome": "failed", "seconds": 40.0}},
        "facts": {"gpu": {"name": "NVIDIA H200"}, "rates": {"bf16 TFLOP/s": 788.123}},
        "correct": {"a": {"outcome": "passed"}, "b[cuda]": {"outcome": "failed"}},
        "paper": {"x, unet, paper": {"left out": "no time"}},
    }.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(values), encoding="utf-8")
    head, _, *lines = table(tmp_path).splitlines()
    assert head == "On NVIDIA H200:"
    assert lines[2:] == [
        "| stage facts | done, 3 s |",
        "| stage correct | failed, 40 s |",
        "| bf16 TFLOP/s | 788.1 |",
        "| tests of CUDA | 1 failed, 1 passed |",
        "| b[cuda] | failed |",
        "| x, unet, paper | left out no time |",
    ]


@pytest.mark.parametrize("name", ["step", "all", "gpu"])
def test_every_benchmark_has_a_command(name):
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0 and ("--turns" in result.stdout) == (name != "gpu")


def test_every_stage_has_a_module():
    for stage in STAGES.values():
        assert isinstance(stage, Stage)
        assert callable(__import__(stage.module, fromlist=["run"]).run)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The folder of all stages in smoke form, and what the command printed."""
    out = tmp_path_factory.mktemp("gpu") / "out"
    command = [sys.executable, "-m", "benchmarks", "gpu", "--smoke", "--out", str(out)]
    done = subprocess.run(command, cwd=REPOSITORY, env=ONE_THREAD, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, (out / "log.txt").read_text()[-5000:]
    return out, done.stdout


@pytest.mark.slow
def test_all_stages_run_in_smoke_form(smoke):
    out, said = smoke
    run = read(out / "run.json")
    assert {name: run[name]["outcome"] for name in NAMES} == dict.fromkeys(NAMES, "done")
    for name in NAMES:
        values = read(out / f"{name}.json")
        assert values and '"error":' not in json.dumps(values), name
    assert len([*out.iterdir()]) <= 8  # few enough to be carried back
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert said.count("\n| ") > 30 and "smoke form" in said


@pytest.mark.slow
def test_results_are_what_the_stages_promise(smoke):
    out, _ = smoke
    outcomes = {test["outcome"] for test in read(out / "correct.json").values()}
    assert outcomes == {"passed"}
    speed = read(out / "speed.json")
    assert {"forward", "backward", "optimiser", "memory"} <= speed["parts of a step, unet, bf16"]["parts, ms"].keys()
    assert all(value["images/s"] > 0 for name, value in speed.items() if name.startswith(("step", "loop")))
    paper = read(out / "paper.json")
    assert {name.rpartition(", ")[2] for name in paper} == {"paper", "released"}
    for training in paper.values():
        assert training["finished"] and [line["round"] for line in training["rounds"]] == [0, 1]
        for aucs in (*(line["auc"] for line in training["rounds"]), training["test"]):
            assert all(aucs[score]["low"] <= aucs[score]["value"] <= aucs[score]["high"] for score in SCORES)
    (strong,) = read(out / "strong.json").values()
    assert strong["finished"] and 0 <= strong["auc"]["value"] <= 1


def test_a_pack_holds_small_copies_of_all_splits_up_to_its_size(tmp_path):
    source, target = tmp_path / "data/kermany_dev", tmp_path / "pack"
    phantom.write_phantom(source, size=300, num_train=6, num_val=1, num_test=2)
    (source / "labels.csv").write_text("a,b\n", encoding="utf-8")
    done = CliRunner().invoke(pack.main, [str(tmp_path / "data"), str(target), "--mib", "1"])
    assert done.exit_code == 0 and done.stdout.startswith("kermany_dev: 12 images, 0.")
    copy = target / "kermany_dev"
    assert (copy / "labels.csv").read_text() == "a,b\n"
    files = [path.relative_to(copy).with_suffix(".png") for path in copy.rglob("*.jpg")]
    assert sorted(files) == sorted(path.relative_to(source) for path in source.rglob("*.png"))
    with Image.open(next(copy.rglob("*.jpg"))) as image:
        assert image.size == (256, 256)
    room = sum(path.stat().st_size for path in copy.rglob("*.jpg")) // 2
    taken = pack.pack(source, tmp_path / "half", room=room)
    halves = [*(tmp_path / "half").rglob("*.jpg")]
    assert taken <= room and 0 < len(halves) < 12
    assert {path.parent.parent.name for path in halves} >= {"val", "test"}


def test_a_setting_knows_its_time_and_sizes(tmp_path):
    folders = {"data": tmp_path, "out": tmp_path, "work": tmp_path}
    setting = Setting(**folders, device="cpu", smoke=True, seconds=10)
    assert 9 < setting.left <= 10 and setting.size(100, 3) == 3
    assert Setting(**folders, device="cpu", smoke=False, seconds=10).size(100, 3) == 100
