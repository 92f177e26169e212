import numpy as np
import pytest

from salad.evaluation.comparison import Run
from salad.study.roc import COLOURS, mean_roc, style_of, write_roc


def run_of(scores, *, seed):
    labels = dict(zip("abcd", (0, 0, 1, 1), strict=True))
    scores = dict(zip("abcd", scores, strict=True))
    return Run(name=f"seed{seed}", method="m", labels=labels, scores=scores, baselines={}, seed=f"{seed}")


def test_curves_are_averaged_at_each_false_positive_rate_as_by_hand():
    first, second = run_of([1, 3, 2, 4], seed=1), run_of([10, 30, 40, 50], seed=2)  # AUC 3/4 and 1, scales of their own
    curve, spread = mean_roc([first, second])
    rates = np.linspace(0, 1, 201)
    by_hand = np.where(rates < 0.5, 0.5, 1.0)  # of the first: one of two abnormal images is above all normal ones
    assert curve[0].tolist() == [0, 0]
    assert curve[1:, 0] == pytest.approx(rates)
    assert curve[1:, 1] == pytest.approx((by_hand + 1) / 2)
    assert spread[1:] == pytest.approx(np.std([by_hand, np.ones(201)], axis=0, ddof=1))
    assert np.trapezoid(curve[:, 1], curve[:, 0]) == pytest.approx((0.75 + 1) / 2, abs=0.01)


def test_a_single_run_has_no_band():
    assert mean_roc([run_of([1, 3, 2, 4], seed=1)])[1] is None


def test_each_method_has_a_style_of_its_own():
    assert len({style_of(number) for number in range(28)}) == 28
    assert style_of(8)[0] == COLOURS[1]


def test_the_figure_is_written_thrice_the_same_each_time(tmp_path):
    methods = {
        "a_b": [run_of([1, 3, 2, 4], seed=1), run_of([1, 2, 3, 4], seed=2)],
        "c": [run_of([4, 3, 2, 1], seed=1)],
    }
    url = write_roc(methods, tmp_path, order=["a_b", "absent", "c"])
    svg = (tmp_path / "roc.svg").read_text(encoding="utf-8")
    assert "a_b, AUC 0.875" in svg and "c, AUC 0.000" in svg
    assert COLOURS[0] in svg and COLOURS[2] in svg and COLOURS[1] not in svg
    assert url.startswith("data:image/svg+xml;base64,")
    assert (tmp_path / "roc.pdf").read_bytes()[:4] == b"%PDF" and (tmp_path / "roc.png").read_bytes()[1:4] == b"PNG"
    before = svg
    write_roc(methods, tmp_path, order=["a_b", "absent", "c"])
    assert (tmp_path / "roc.svg").read_text(encoding="utf-8") == before
