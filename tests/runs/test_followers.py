import importlib.util
import json
import math
import sys

import pytest
from running import SHORT, invoke, read_lines, stopped, train

from salad import cli
from salad.errors import InputError
from salad.packages import install_command
from salad.runs.folder import METRICS_FILE, RunFolder, read_metrics
from salad.runs.followers import TensorBoard, numbers

pytestmark = pytest.mark.slow


def events(xp) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(xp / "tensorboard"))
    found.Reload()
    return {name: [(one.step, one.value) for one in found.Scalars(name)] for name in found.Tags()["scalars"]}


def runs(folder) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """What MLflow shows: of each run, by id, every metric."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=folder.as_uri())
    found = client.search_runs([client.get_experiment_by_name("salad").experiment_id])
    return {
        run.info.run_id: {
            name: [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, name)]
            for name in run.data.metrics
        }
        for run in found
    }


def check_same(found, lines) -> None:
    assert found.keys() == {name for line in lines for name in numbers(line)}
    for name in found:
        expected = [(line["epoch"], line[name]) for line in lines if line[name] is not None]
        assert [step for step, _ in found[name]] == [step for step, _ in expected], name
        assert [value for _, value in found[name]] == pytest.approx([value for _, value in expected], rel=1e-6), name


@pytest.mark.parametrize("from_the_start", [True, False])
def test_tensorboard_has_each_epoch_once(data, tmp_path, from_the_start):
    pytest.importorskip("tensorboard")
    train(tmp_path, data, *(["--tensorboard"] if from_the_start else []))
    if from_the_start:
        check_same(events(tmp_path), read_lines(tmp_path / METRICS_FILE))
        TensorBoard(RunFolder(tmp_path)).log({"epoch": 3, "loss": 99.0})  # a kill came before the epoch was saved
    lines = train(tmp_path, data, "--resume", "--n_epochs", 2, "--tensorboard")
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    check_same(events(tmp_path), lines)


def test_a_replaced_run_leaves_no_events(data, tmp_path):
    pytest.importorskip("tensorboard")
    train(tmp_path, data, "--tensorboard")
    train(tmp_path, data, "--overwrite")
    assert not RunFolder(tmp_path).event_files()


def test_mlflow_has_each_epoch_once(data, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    folder, xp = tmp_path / "runs", tmp_path / "xp"
    train(xp, data, "--mlflow", folder.as_uri())
    ((run, found),) = runs(folder).items()
    check_same(found, read_lines(xp / METRICS_FILE))
    client = mlflow.MlflowClient(tracking_uri=folder.as_uri())
    kept = client.get_run(run)
    assert kept.info.status == "FINISHED" and kept.info.run_name == "xp"
    assert kept.data.params["net_name"] == "unet" and kept.data.params["ans_size"] == "3"
    client.log_metric(run, "loss", 99.0, step=3)  # a kill came before the epoch was saved
    lines = train(xp, data, "--resume", "--n_epochs", 2)  # goes on with MLflow by itself
    ((again, found),) = runs(folder).items()
    assert again == run and [step for step, _ in found["loss"]] == [1, 2, 3]
    assert len(lines) == 3
    train(xp, data, "--overwrite", "--mlflow", folder.as_uri())
    assert len(runs(folder)) == 2


class Client:
    """A server that goes down after it has got the options."""

    def __init__(self, *, tracking_uri):
        assert tracking_uri == "http://somewhere"
        self.calls = 0

    def get_experiment_by_name(self, name):
        return None

    def create_experiment(self, name):
        return "1"

    def create_run(self, experiment, *, run_name):
        return type("Run", (), {"info": type("Info", (), {"run_id": "abc"})})

    def log_batch(self, run, *, params=(), metrics=()):
        self.calls += 1
        if self.calls > 1:
            raise RuntimeError("connection refused\nand much more")

    def set_terminated(self, run, status):
        raise AssertionError("it is no longer followed")


@pytest.fixture
def fake_mlflow(monkeypatch):
    entities = type(sys)("mlflow.entities")
    entities.Metric = entities.Param = lambda *values: values
    module = type(sys)("mlflow")
    module.MlflowClient, module.entities, module.__spec__ = Client, entities, importlib.util.find_spec("json")
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    return module


def test_a_server_that_goes_down_does_not_stop_the_training(data, tmp_path, fake_mlflow):
    words = ["CXR_author", "unet", tmp_path, data, *SHORT, "--mlflow", "http://somewhere"]
    result = invoke(cli.train, *words)
    assert result.exit_code == 0, result.stderr
    assert len(read_lines(tmp_path / METRICS_FILE)) == 2
    assert result.stderr.count("no longer follows") == 1
    assert "MLflow no longer follows this run: connection refused\n" in result.stderr


def test_a_server_that_is_not_there(data, tmp_path, fake_mlflow, monkeypatch):
    def refuse(self, name):
        raise OSError("connection refused\nand much more")

    monkeypatch.setattr(Client, "get_experiment_by_name", refuse)
    words = ["CXR_author", "unet", tmp_path, data, *SHORT, "--mlflow", "http://somewhere"]
    line = stopped(invoke(cli.train, *words))
    assert "--mlflow http://somewhere: cannot be reached (connection refused); correct it or leave it out" in line


@pytest.mark.parametrize(("package", "words"), [("tensorboard", []), ("mlflow", ["file:runs"])])
def test_a_missing_package_is_named_before_anything_starts(tmp_path, monkeypatch, package, words):
    monkeypatch.setitem(sys.modules, package, None)
    words = ["CXR_author", "unet", tmp_path / "xp", tmp_path / "nowhere", f"--{package}", *words]
    line = stopped(invoke(cli.train, *words))
    assert line == f"Error: --{package} needs a package that is not installed: {install_command(package)}"
    assert not (tmp_path / "xp").exists()


def test_a_password_is_not_written_into_the_folder(data, tmp_path, fake_mlflow):
    words = ["CXR_author", "unet", tmp_path / "xp", data, *SHORT, "--mlflow", "https://me:secret@somewhere"]
    line = stopped(invoke(cli.train, *words))
    assert "MLFLOW_TRACKING_PASSWORD" in line and "secret" not in line
    assert not (tmp_path / "xp").exists()


def test_numbers_of_a_line():
    line = {"epoch": 3, "round": None, "loss": 1.5, "svdd": math.nan, "val_auc_ci95": [0.1, 0.2], "num_anchors": 4}
    assert numbers(line) == {"loss": 1.5, "num_anchors": 4.0}


def test_reading_metrics(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"epoch": 1}) + "\n" + '{"epoch": 2, "lo')  # the run was killed
    assert read_metrics(path) == [{"epoch": 1}]
    for text, message in (
        ("{\n", "damaged"),
        ("[]\n", "not a metrics.jsonl of a run"),
        ('{"loss": 1}\n', "not a metrics.jsonl of a run"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_metrics(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_metrics(tmp_path)
