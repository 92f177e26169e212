import logging

import pytest
import torch
from running import SHORT, TINY, invoke, read_lines, stopped, train

from salad import cli, evaluate
from salad.datasets import phantom
from salad.errors import DivergedError
from salad.guards import check_loss, check_spread, check_weights
from salad.trainer import Trainer


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "data"
    phantom.write_phantom(root, size=32, num_train=8, num_val=3, num_test=2)
    return root


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite(value):
    with pytest.raises(DivergedError, match="rec = .*a.png, b.png"):
        check_loss(torch.tensor(value), torch.ones(2, 3), {"rec": torch.tensor(value)}, ["a.png", "b.png"])
    with pytest.raises(DivergedError, match="an embedding is not finite.*a.png"):
        check_loss(torch.tensor(1.0), torch.tensor([[0.0, value]]), {}, ["a.png"])
    check_loss(torch.tensor(1.0), torch.ones(2, 3), {}, [])


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
    real = Trainer.step

    def step(self, batch):
        terms, z = real(self, batch)
        return terms, torch.eye(z.shape[1])[:1].expand_as(z)

    monkeypatch.setattr(Trainer, "step", step)


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

    def choose(*_, **__):
        return lambda images, _: torch.zeros(len(images)) if scores == "same" else -torch.arange(len(images))

    monkeypatch.setattr(evaluate, "choose_score", choose)
    result = invoke(cli.test, "CXR_author", "unet", tmp_path, data, *TINY)
    assert result.exit_code == 0 and said in result.stderr
    assert result.stdout.strip() == ("AUC score = 0.50000" if scores == "same" else "AUC score = 0.00000")


def test_a_validation_auc_below_half_is_said(data, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "validate", lambda self: evaluate.Auc(0.3, 0.2, 0.4))
    train(tmp_path, data)
    result = invoke(cli.test, "CXR_author", "unet", tmp_path, data, *TINY)
    assert "on the validation images the AUC is 0.3000" in result.stderr


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
    assert isinstance(result.exception, ZeroDivisionError)
