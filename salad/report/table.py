"""Present a summary as sentences, tiles and a table of metrics."""

from __future__ import annotations

from dataclasses import dataclass

from salad.evaluation.calibration import shown_score
from salad.evaluation.localisation import Localisation, Mean
from salad.evaluation.metrics import Auc
from salad.evaluation.rates import Rate
from salad.evaluation.subgroups import Subgroup
from salad.evaluation.summary import Summary

MAX_SUBGROUPS = 40  # of a kind, in the table; metrics.json has all
NAMES = {
    "image_mean": "mean grey level",
    "image_std": "standard deviation of grey levels",
    "image_sharpness": "sharpness (Laplacian)",
}
UNIT_NAMES = {"study": "AUC of whole studies", "patient": "AUC of whole patients"}
AUC_ROW = "AUC of the model's score"
UNDEFINED = "undefined"  # value of a metric that lacks a class


@dataclass(frozen=True, kw_only=True)
class Row:
    """Row of the table of metrics.

    Attributes:
        name: of the metric.
        value: as text.
        interval: 95 % interval as text, or empty.
        note: method or counts behind the value, or empty.
        place: value, lower and upper end of its interval, each in [0, 1], to draw; None where nothing is drawn.
        kind: ``model``, ``baseline``, ``rate`` or ``subgroup``.
    """

    name: str
    value: str
    interval: str = ""
    note: str = ""
    place: tuple[float, float, float] | None = None
    kind: str = "rate"


@dataclass(frozen=True, kw_only=True)
class Tile:
    """Number at the top of the page.

    Attributes:
        name: of the number.
        value: as text.
        note: text below the number.
    """

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class Note:
    """Sentence about the numbers.

    Attributes:
        text: the sentence.
        is_good: whether it is good news; if not, the page shows it as a warning.
    """

    text: str
    is_good: bool = False


def strength(area: Auc) -> float:
    """Larger of AUC and 1 - AUC: the AUC of a baseline for the better choice of its sign."""
    return max(area.value, 1 - area.value)


def judge(summary: Summary) -> list[Note]:
    """Judge the AUC in sentences: against 0.5, against the baselines, and at the threshold."""
    area = summary.auc
    if area is None:
        return [Note("All images belong to one class, so there is no AUC and there are no curves.")]
    notes: list[Note] = []
    if area.value < 0.5:
        what = f"The AUC is {area.value:.3f}, below 0.5: abnormal images mostly score lower than normal ones."
        notes.append(Note(f"{what} The sign of the score has not been changed."))
    if area.low <= 0.5 <= area.high:
        notes.append(Note("The interval of the AUC contains 0.5: the model may be no better than chance."))
    known = {name: baseline for name, baseline in summary.baselines.items() if baseline}
    if known:
        notes.append(_compare_with_baseline(area, *max(known.items(), key=lambda item: strength(item[1]))))
    if summary.decision and summary.decision.confusion.specificity:
        wanted, rate = summary.decision.specificity_wanted, summary.decision.confusion.specificity
        low, high = rate.interval
        if not low <= wanted <= high:
            what = f"The threshold was set for a specificity of {100 * wanted:g} % on validation normals"
            here = f"reaches {100 * rate.value:.1f} % here: the normal images of both sets do not score alike"
            notes.append(Note(f"{what}, but {here}."))
    return notes


def _compare_with_baseline(area: Auc, name: str, best: Auc) -> Note:
    mirrored = f", 1 - AUC {strength(best):.3f}" if best.value < 0.5 else ""
    what = f"the {NAMES.get(name, name)} of an image alone (AUC {best.value:.3f}{mirrored})"
    if area.value <= strength(best):
        return Note(f"The model does not beat {what}, a number that needs no model.")
    upper = 1 - best.low if best.value < 0.5 else best.high
    if area.low <= upper:
        return Note(f"The model is above {what}, but their intervals overlap.")
    return Note(f"The model is above {what}, and their intervals do not overlap.", is_good=True)


def tiles(summary: Summary) -> list[Tile]:
    """Make the numbers at the top: the AUC, the best baseline, and the rates at the threshold."""
    shown = [Tile(name="AUC", value=UNDEFINED, note="one class only")]
    if summary.auc:
        note = f"95 % CI {summary.auc.low:.3f} to {summary.auc.high:.3f} (DeLong)"
        shown = [Tile(name="AUC", value=f"{summary.auc.value:.3f}", note=note)]
    known = {name: baseline for name, baseline in summary.baselines.items() if baseline}
    if known:
        name, best = max(known.items(), key=lambda item: strength(item[1]))
        note = ("1 - AUC of the " if best.value < 0.5 else "") + f"{NAMES.get(name, name)} alone"
        shown.append(Tile(name="Best AUC without a model", value=f"{strength(best):.3f}", note=note))
    confusion = summary.decision and summary.decision.confusion
    for name, rate in (
        ("Sensitivity", confusion and confusion.sensitivity),
        ("Specificity", confusion and confusion.specificity),
    ):
        if rate:
            note = f"{rate.count} of {rate.of}, at the validation threshold"
            shown.append(Tile(name=name, value=f"{100 * rate.value:.1f} %", note=note))
    return shown


def metric_rows(summary: Summary) -> list[Row]:
    """Make the table: AUC of the model, AUCs of the baselines, rates, then subgroups."""
    rows = [_auc_row(AUC_ROW, summary.auc, note="DeLong interval", kind="model")]
    if summary.bootstrap:
        note = "bootstrap interval of the AUC, stratified by class"
        rows.append(_auc_row(f"{AUC_ROW}, bootstrap", summary.bootstrap, note=note, kind="model"))
    if summary.within_sharpness:
        note = "only pairs of images of similar sharpness"
        rows.append(_auc_row("AUC beyond sharpness", summary.within_sharpness, note=note, kind="model"))
    rows += [
        _auc_row(
            f"AUC of the {NAMES.get(name, name)}",
            baseline,
            note=f"no model; 1 - AUC {strength(baseline):.4f}" if baseline and baseline.value < 0.5 else "no model",
            kind="baseline",
        )
        for name, baseline in summary.baselines.items()
    ]
    if summary.average_precision is not None:
        value = summary.average_precision
        chance = f"by chance {summary.prevalence:.4f}, the share of abnormal images"
        rows.append(Row(name="Average precision", value=f"{value:.4f}", note=chance, place=(value, value, value)))
    rows += [_rate_row(_words(name), rate) for name, rate in summary.operating_points.items()]
    rows += _decision_rows(summary)
    rows += [_subgroup_row(UNIT_NAMES.get(unit, unit), subgroup) for unit, subgroup in summary.units.items()]
    for kind, of_kind in summary.subgroups.items():
        first = [*of_kind.items()][:MAX_SUBGROUPS]
        rows += [_subgroup_row(f"AUC, {kind} {name}", subgroup) for name, subgroup in first]
        if len(of_kind) > MAX_SUBGROUPS:
            rows.append(Row(name=f"{len(of_kind) - MAX_SUBGROUPS} more by {kind}", value="", note="see metrics.json"))
    return rows


def located_rows(located: Localisation) -> list[Row]:
    """Make the rows of the localisation: each kind of map over all marked images, then by finding and view."""
    rows = []
    for name, score in located.maps.items():
        if score.pixel_auc:
            note = f"mean over {score.pixel_auc.of} marked images, bootstrap interval"
            rows.append(_mean_row(f"Pixel AUC of the {name} map", score.pixel_auc, note=note))
        rows.append(_pointing_row(f"Pointing game of the {name} map", located, name))
        groups = [(group, of) for group, of in located.of_groups() if name in of.maps]
        rows += [_pointing_row(f"Pointing game, {group}", of, name) for group, of in groups[:MAX_SUBGROUPS]]
    return rows


def _pointing_row(title: str, located: Localisation, name: str) -> Row:
    note = f"by chance {located.chance:.4f}; {located.num_images} marked images"
    return _mean_row(title, located.maps[name].pointing, note=note)


def _mean_row(name: str, mean: Mean, *, note: str) -> Row:
    ends = mean.value, mean.low, mean.high
    return Row(name=name, value=f"{mean.value:.4f}", interval=_interval(*ends[1:]), note=note, place=ends)


def _words(name: str) -> str:
    """Turn ``sensitivity_at_90_specificity`` into words."""
    what, _, share, of = name.split("_")
    return f"{what.capitalize()} at {share} % {of}"


def _decision_rows(summary: Summary) -> list[Row]:
    decision = summary.decision
    if decision is None:
        return []
    rates = {"Sensitivity": decision.confusion.sensitivity, "Specificity": decision.confusion.specificity}
    singles = {"F1": decision.confusion.f1, "Balanced accuracy": decision.confusion.balanced_accuracy}
    rows = [Row(name="Threshold", value=shown_score(decision.threshold), note=decision.rule)]
    rows += [_rate_row(f"{name} at the threshold", rate) for name, rate in rates.items()]
    rows += [
        Row(name=f"{name} at the threshold", value=f"{value:.4f}", place=(value, value, value))
        for name, value in singles.items()
        if value is not None
    ]
    return rows


def _auc_row(name: str, area: Auc | None, *, note: str, kind: str) -> Row:
    if area is None:
        return Row(name=name, value=UNDEFINED, note=note, kind=kind)
    ends = area.value, area.low, area.high
    return Row(name=name, value=f"{area.value:.4f}", interval=_interval(*ends[1:]), note=note, place=ends, kind=kind)


def _rate_row(name: str, rate: Rate | None) -> Row:
    if rate is None:
        return Row(name=name, value=UNDEFINED)
    low, high = rate.interval
    note = f"{rate.count} of {rate.of}, Wilson interval"
    ends = rate.value, low, high
    return Row(name=name, value=f"{rate.value:.4f}", interval=_interval(low, high), note=note, place=ends)


def _subgroup_row(name: str, subgroup: Subgroup) -> Row:
    note = f"{subgroup.num_normal} normal, {subgroup.num_abnormal} abnormal"
    return _auc_row(name, subgroup.auc, note=note, kind="subgroup")


def _interval(low: float, high: float) -> str:
    return f"{low:.4f} to {high:.4f}"
