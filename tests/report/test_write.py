"""What the report is made of, without a browser."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import CPU, REPOSITORY, TINY, invoke, train
from sklearn.metrics import auc as area
from sklearn.metrics import precision_recall_curve, roc_curve

from salad import cli
from salad.build import RunContext
from salad.config import Config
from salad.errors import StorageError
from salad.evaluation.calibration import Calibration
from salad.evaluation.metrics import auc
from salad.evaluation.rates import Confusion
from salad.evaluation.result import Result
from salad.evaluation.summary import Summary, summarise
from salad.memory import MemoryBank
from salad.report import compose, curves, details, history, write
from salad.report.cases import choose_cases, draw_others, members
from salad.report.details import Detail, data_uri
from salad.report.table import judge, metric_rows, tiles
from salad.runs.folder import RunFolder
from salad.samples import Sample, Split

LABELS_AND_SCORES = st.lists(st.tuples(st.integers(0, 1), st.integers(-3, 3)), min_size=1, max_size=30)


def draw(num_normal: int, num_abnormal: int, *, shift: float = 1.0) -> tuple[list[int], np.ndarray]:
    generator = np.random.default_rng(0)
    labels = [0] * num_normal + [1] * num_abnormal
    return labels, generator.normal(size=len(labels)) + shift * np.array(labels)


class Noise:
    """Images that no codec makes small."""

    isize = 320

    def __len__(self):
        return 100_000

    def read(self, index, out):
        out[:] = np.random.default_rng(index[0]).integers(0, 256, out.shape, dtype=np.uint8)


def result_of(labels, scores, *, baseline=None, val=None, images=None) -> Result:
    samples = [Sample(Path(f"{i}.png"), f"test/{i}.png", label, patient=f"p{i}") for i, label in enumerate(labels)]
    split = Split(samples=samples, normal_class="0", classes=("0", "1"), images=images)
    values = np.arange(len(labels), dtype=float) if baseline is None else baseline
    return Result(
        split=split,
        scores=np.asarray(scores, dtype=float),
        z=np.random.default_rng(0).normal(size=(len(labels), 8)).astype(np.float32),
        image_mean=values,
        image_std=values,
        image_sharpness=values,
        seconds=1.0,
        calibration=None if val is None else Calibration.of(val),
    )


# Curves ----------------------------------------------------------------------------------------------------------


@given(LABELS_AND_SCORES, st.floats(-4, 4))
def test_levels_count_as_a_confusion_does_at_any_threshold(pairs, threshold):
    labels, scores = zip(*pairs, strict=True)
    levels = curves.Levels.of(labels, scores, extra=[0.5])
    assert levels.is_complete
    place = np.searchsorted(levels.thresholds, threshold, "right") - 1
    normal, abnormal = (0, 0) if place < 0 else (levels.normal[place], levels.abnormal[place])
    found = Confusion(normal, levels.num_normal - normal, abnormal, levels.num_abnormal - abnormal)
    assert found == Confusion.at(threshold, labels, scores)


def test_levels_of_many_images_are_few_and_exact():
    labels, scores = draw(3000, 2000)
    levels = curves.Levels.of(labels, scores, extra=[0.123], most=100)
    assert len(levels.thresholds) == 101 and not levels.is_complete and 0.123 in levels.thresholds
    for threshold, normal, abnormal in zip(levels.thresholds, levels.normal, levels.abnormal, strict=True):
        found = Confusion.at(threshold, labels, scores)
        assert (normal, abnormal) == (found.true_negatives, found.false_negatives)


@pytest.mark.parametrize("ties", [False, True])
def test_curves_are_those_of_scikit_learn(ties):
    labels, scores = draw(60, 40)
    scores = scores.round(1) if ties else scores
    levels = curves.Levels.of(labels, scores)
    path = curves.roc(levels)
    assert area(*path.T) == pytest.approx(auc(labels, scores).value, abs=1e-12)
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert np.unique(path, axis=0) == pytest.approx(np.unique(np.stack([false, true], axis=1), axis=0))
    precision, recall, _ = precision_recall_curve(labels, scores)
    ours = curves.precision_recall(levels)[1:]
    theirs = np.stack([recall, precision], axis=1)[:-1][::-1]  # without its made-up last point
    assert ours[: len(theirs)] == pytest.approx(theirs)


def test_the_band_holds_the_curve_and_depends_on_the_seed_alone():
    labels, scores = draw(80, 70)
    band = curves.roc_band(labels, scores, seed=3)
    assert (band == curves.roc_band(labels, scores, seed=3)).all()
    assert not (band == curves.roc_band(labels, scores, seed=4)).all()
    path = curves.roc(curves.Levels.of(labels, scores))
    true = path[np.searchsorted(path[:, 0], band[:, 0] + 1e-12, "right") - 1, 1]
    assert (band[:, 1] <= true).all() and (true <= band[:, 2]).all()


def test_the_band_is_that_of_drawing_images_with_replacement():
    labels, scores = draw(60, 50)
    generator, at_rates, drawn = np.random.default_rng(1), np.linspace(0, 1, 101), []
    for _ in range(600):
        normal, abnormal = generator.choice(scores[:60], 60), generator.choice(scores[60:], 50)
        # the largest true-positive rate among the thresholds whose false-positive rate is at most so large
        false, true, _ = roc_curve(labels, np.concatenate([normal, abnormal]), drop_intermediate=False)
        drawn.append([true[false <= rate + 1e-12].max() for rate in at_rates])
    band = curves.roc_band(labels, scores, seed=0)
    assert np.abs(band[:, 1:].T - np.quantile(drawn, [0.025, 0.975], axis=0)).mean() < 0.012


def test_a_band_of_half_the_images_is_wider():
    widths = [np.ptp(curves.roc_band(*draw(n, n), seed=0)[20:80, 1:], axis=1).mean() for n in (400, 100)]
    assert widths[1] / widths[0] == pytest.approx(2, rel=0.3)


def test_a_thinned_path_is_short_and_stays_near():
    labels, scores = draw(4000, 4000)
    path = curves.roc(curves.Levels.of(labels, scores))
    thin = curves.thin(path, most=200)
    assert len(thin) <= 200 and (thin[[0, -1]] == path[[0, -1]]).all()
    assert area(*thin.T) == pytest.approx(area(*path.T), abs=0.003)


def test_histograms_share_bins_and_add_up_to_one():
    found = curves.histogram(
        {"normal": np.array([1.0, 2]), "abnormal": np.array([2.0, 9]), "none": np.array([])}, must_show=-3
    )
    assert found.shares.keys() == {"normal", "abnormal"}
    assert all(one.sum() == pytest.approx(1) for one in found.shares.values())
    assert found.edges[0] < -3 and found.edges[-1] > 9
    assert np.ptp(curves.histogram({"normal": np.zeros(3)}, must_show=0.0).edges) > 0  # all alike


# Cases and the map -----------------------------------------------------------------------------------------------


@given(LABELS_AND_SCORES, st.integers(-3, 3), st.integers(1, 5))
def test_cases_are_ends_and_mistakes_each_once(pairs, threshold, each):
    labels, scores = (np.array(one) for one in zip(*pairs, strict=True))
    cases = choose_cases(labels.tolist(), scores, threshold=threshold, each=each)
    assert (np.diff(scores[list(cases)]) <= 0).all()
    for name, right in (
        ("hit", (labels == 1) & (scores > threshold)),
        ("usual", (labels == 0) & (scores <= threshold)),
    ):
        far = np.abs(scores - np.median(scores[right])) if right.any() else np.zeros(0)
        places = [place for place, groups in cases.items() if name in groups]
        assert len(places) == min(-(-each // 2), right.sum()) and right[places].all()
        assert sorted(far[places]) == sorted(far[right])[: len(places)] if places else True
    for name, wrong in (
        ("miss", (labels == 1) & (scores <= threshold)),
        ("alarm", (labels == 0) & (scores > threshold)),
    ):
        places = [place for place, groups in cases.items() if name in groups]
        assert len(places) == min(each, wrong.sum()) and wrong[places].all()
        worst = np.sort(scores[wrong])[: len(places)] if name == "miss" else np.sort(scores[wrong])[::-1][: len(places)]
        assert sorted(scores[places]) == sorted(worst)


def test_members_of_a_group_begin_with_the_worst():
    labels, scores = [0, 0, 1, 1, 1, 0], np.array([9, 5, 1, 0, 7, 2.0])
    cases = choose_cases(labels, scores, threshold=4, each=3)
    assert members(cases, most=2) == {
        "anomalous": [0, 4],
        "hit": [4],
        "miss": [3, 2],
        "alarm": [0, 1],
        "usual": [5],
        "normal": [3, 2],
    }


def test_others_are_drawn_besides_the_known():
    places = draw_others(1000, known=[7, 3], most=50, seed=1)
    assert places[:2] == [7, 3] and len(set(places)) == 50 and max(places) < 1000
    assert draw_others(4, known=[2], most=50, seed=1) == [2, 0, 1, 3]


# History ---------------------------------------------------------------------------------------------------------


def test_history_takes_what_it_can_read(tmp_path):
    lines = [
        '{"epoch": 1, "round": null, "loss": 3, "rec": 1, "val_auc": null, "val_auc_ci95": null}',
        "no JSON",
        "[1]",
        '{"epoch": 2, "round": 0, "loss": NaN, "rec": 0.5, "syn": 0.2, "val_auc": 0.6, "val_auc_ci95": [0.5, 0.7]}',
        '{"epoch": 3, "round": 0, "loss": 1, "rec": "</script>", "val_auc": 0.7, "val_auc_ci95": 4}',
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    found = history.read_history([tmp_path / "absent", tmp_path])
    assert found.epochs == [1, 2, 3] and found.rounds == {"pre-training": 1, "round 0": 2}
    assert found.series["Loss, weighted sum"] == [3, None, 1]
    assert found.series["Reconstruction loss"] == [1, 0.5, None]
    assert found.series["Loss of synthetic anomalies"] == [None, 0.2, None]
    assert found.series["Validation AUC"] == [None, [0.6, 0.5, 0.7], [0.7, None, None]]
    assert "Deep SVDD loss" not in found.series
    assert history.read_history([tmp_path / "absent"]) is None


def test_a_long_history_is_thinned(tmp_path):
    text = "".join(json.dumps({"epoch": i + 1, "round": i // 30, "loss": 1.0}) + "\n" for i in range(5000))
    (tmp_path / "metrics.jsonl").write_text(text)
    found = history.read_history([tmp_path])
    assert len(found.epochs) == history.MAX_EPOCHS and found.epochs[-1] == 5000 and found.rounds == {}


# Verdicts --------------------------------------------------------------------------------------------------------


def summary_of(*, shift: float, baseline: float, val=None, n: int = 200) -> Summary:
    labels, scores = draw(n, n, shift=shift)
    _, values = draw(n, n, shift=baseline)
    return summarise(result_of(labels, scores, baseline=values, val=val), specificity=0.9, seed=0)


@pytest.mark.parametrize(
    ("shift", "baseline", "said", "good"),
    [
        (2.0, 0.5, ["do not overlap"], True),
        (1.0, 0.9, ["but their intervals overlap"], False),
        (0.5, 1.5, ["does not beat"], False),
        (0.5, -1.5, ["does not beat", ", 1 - AUC 0.8"], False),
        (-1.0, 0.1, ["below 0.5", "does not beat"], False),
        (0.0, 0.1, ["may be no better than chance"], False),
    ],
)
def test_what_is_said_of_a_model_is_honest(shift, baseline, said, good):
    notes = judge(summary_of(shift=shift, baseline=baseline))
    text = " ".join(note.text for note in notes)
    assert all(words in text for words in said), text
    assert any(note.is_good for note in notes) == good


def test_a_threshold_that_misses_its_specificity_is_named():
    _, val = draw(500, 0)
    assert "score alike" not in str(judge(summary_of(shift=1.0, baseline=0.1, val=val)))
    assert "score alike" in str(judge(summary_of(shift=1.0, baseline=0.1, val=val - 1)))


def test_one_class_has_a_table_without_an_auc():
    summary = summarise(result_of([0, 0], [1, 2]), specificity=0.9, seed=0)
    assert "one class" in judge(summary)[0].text
    assert metric_rows(summary)[0].value == tiles(summary)[0].value == "undefined"


def test_the_table_on_the_screen_has_the_bootstrap_interval_of_the_auc_below_the_auc():
    summary = summary_of(shift=1.0, baseline=0.1)
    names, values = zip(*summary.rows()[:4], strict=True)
    assert names == ("AUC of score", "  bootstrap interval of AUC", "  AUC beyond sharpness", "AUC of image mean")
    assert values[1] == f"{summary.bootstrap.low:.4f} to {summary.bootstrap.high:.4f}"


def test_the_table_has_baselines_beside_the_model():
    rows = metric_rows(summary_of(shift=1.0, baseline=0.1, val=[0.0, 1.0]))
    assert [row.kind for row in rows[:6]] == ["model"] * 3 + ["baseline"] * 3
    assert [row.name for row in rows[1:3]] == ["AUC of the model's score, bootstrap", "AUC beyond sharpness"]
    assert {"Average precision", "Sensitivity at 95 % specificity", "F1 at the threshold"} <= {row.name for row in rows}
    assert all(0 <= low <= value <= high <= 1 for value, low, high in (row.place for row in rows if row.place))


# Files -----------------------------------------------------------------------------------------------------------


def noise(side: int, *colours: int) -> np.ndarray:
    return np.random.default_rng(side).integers(0, 256, (side, side, *colours), dtype=np.uint8)


def noisy_detail(number: int) -> Detail:
    uri = data_uri(noise(320, 3), most=details.MAX_SIDE)
    near = [(f"train/{number}-{i}.png", 0.1, data_uri(noise(320), most=details.NEIGHBOUR_SIDE)) for i in range(5)]
    pictures = dict.fromkeys(("input", "recon", "error", "memory"), uri)
    return Detail(input=noise(8), heat=noise(8, 3), pictures=pictures, neighbours=near, scales={})


def page_of(result: Result, *, explained: list[Detail], tmp_path: Path) -> str:
    summary = Summary(
        auc=result.auc,
        bootstrap=None,
        seed=0,
        average_precision=None,
        prevalence=0.5,
        operating_points={},
        decision=None,
        baselines={},
        within_sharpness=None,
        units={},
        subgroups={},
    )
    checkpoint = SimpleNamespace(
        template=None,
        path=tmp_path / "model.tar",
        bank=MemoryBank(5000, 8, temperature=0.1, momentum=0.5),
        row_labels=None,
        training={},
        reconstructs=True,
        embeds=True,
        trained=frozenset({"embeddings", "reconstruction"}),
    )
    config = Config.of(
        {
            "dataset_name": "CXR_author",
            "net_name": "unet",
            "xp_path": tmp_path,
            "data_path": tmp_path,
            "n_jobs_dataloader": 2,
        }
    )
    cases = choose_cases(result.labels, result.scores, threshold=0.5)
    scoring = compose.Scoring(
        result=result,
        summary=summary,
        model=SimpleNamespace(config=config, context=RunContext(config=config, device=CPU), memories={}, kinds={}),
        checkpoint=checkpoint,
        folder=RunFolder(tmp_path),
        command="python test.py",
    )
    details = explained[: len(cases)]
    return compose.make_page(scoring, compose.Gallery(cases=cases, details=details, threshold=0.5, threshold_note=""))


@pytest.mark.slow
def test_a_page_of_a_hundred_thousand_images_of_noise_is_bounded(tmp_path):
    labels, scores = draw(60_000, 40_000)
    result = result_of(labels, scores, images=Noise())
    long = [replace(sample, name=f"{sample.name}{'<' * 4000}") for sample in result.split.samples]
    result = replace(result, split=replace(result.split, samples=long))
    text = page_of(result, explained=[noisy_detail(i) for i in range(48)], tmp_path=tmp_path)
    assert 5e6 < len(text.encode()) < 15e6  # of radiographs, which are no noise, it is far less


def test_a_page_of_one_class_and_one_image_is_made(tmp_path):
    class Black(Noise):
        isize = 32

        def read(self, index, out):
            out[:] = 0

    text = page_of(result_of([1], [0.3], images=Black()), explained=[], tmp_path=tmp_path)
    assert 'id="roc"' not in text and "undefined" in text


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    xp = tmp_path_factory.mktemp("run") / "xp"
    train(xp, data, "--cache", "off")
    return xp


def scored(run: Path, data: Path, xp: Path, *options: object):
    words = [xp, data, *TINY, "--cache", "off", "--load_model", run / "model.tar", *options]
    result = invoke(cli.test, "CXR_author", "unet", *words)
    assert result.exit_code == 0, result.stderr
    return result


@pytest.mark.slow
def test_figures_for_papers_have_text_and_can_be_made_again(run, data, tmp_path):
    for name in ("first", "second"):
        result = scored(run, data, tmp_path / name, "--report")
        assert "report: " in result.stderr
        assert result.output.splitlines()[-1] == result.stdout.strip()  # of both streams, as on a terminal
        assert result.stdout.startswith("AUC score = ") and result.stdout.count("\n") == 1
    files = sorted(path.name for path in (tmp_path / "first/figures").iterdir())
    assert files == [f"{name}.{kind}" for name in ("gallery", "histogram", "roc") for kind in ("png", "svg")]
    for name in ("roc", "histogram"):
        text = (tmp_path / f"first/figures/{name}.svg").read_text()
        assert "<text" in text and text == (tmp_path / f"second/figures/{name}.svg").read_text()
    assert "sensitivity" in (tmp_path / "first/figures/roc.svg").read_text()
    gallery = (tmp_path / "first/figures/gallery.svg").read_text()
    assert "Colours: distance to the 5 nearest normal images, 1 - cosine" in gallery and " and more<" in gallery
    page = (tmp_path / "first/report.html").read_text()
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")


def test_no_report_means_none(run, data, tmp_path):
    scored(run, data, tmp_path, "--no_report")
    assert not (tmp_path / "report.html").exists() and not (tmp_path / "figures").exists()


def test_without_its_packages_the_report_is_left_out_in_one_line(run, data, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "NEEDS", ("jinja2", "no_such_package"))
    result = scored(run, data, tmp_path, "--report")
    assert "no report: it needs  pip install no_such_package" in result.stderr.splitlines()
    assert not (tmp_path / "report.html").exists() and (tmp_path / "metrics.json").exists()


def test_the_auc_is_printed_even_if_the_report_cannot_be_written(run, data, tmp_path, monkeypatch):
    def fail(_):
        raise StorageError("report.html: no room")

    monkeypatch.setattr(write, "write_report", fail)
    words = [tmp_path, data, *TINY, "--cache", "off", "--load_model", run / "model.tar", "--report"]
    result = invoke(cli.test, "CXR_author", "unet", *words)
    assert result.exit_code == 1 and "Error: report.html: no room" in result.stderr
    assert result.stdout.startswith("AUC score = ")


def test_a_new_training_removes_the_report_of_the_old(run, tmp_path):
    folder = RunFolder(tmp_path)
    (tmp_path / "figures").mkdir()
    for name in ("report.html", "figures/roc.svg"):
        (tmp_path / name).write_text("old")
    folder.clear()
    assert not (tmp_path / "report.html").exists() and not (tmp_path / "figures/roc.svg").exists()


@pytest.mark.slow
def test_training_and_scoring_load_nothing_of_the_report():
    loaded = "print({'jinja2', 'matplotlib'} & set(sys.modules))"
    code = f"import sys, salad.training.run, salad.scoring.evaluate, salad.evaluation.summary; {loaded}"
    words = [sys.executable, "-c", code]
    result = subprocess.run(words, capture_output=True, text=True, cwd=REPOSITORY, check=True)
    assert result.stdout.strip() == "set()"
