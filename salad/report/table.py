"""What a summary means, in plain sentences and in a table, good news or bad."""

from __future__ import annotations

from dataclasses import dataclass

from salad.evaluation.metrics import Auc
from salad.evaluation.rates import Rate
from salad.evaluation.subgroups import Subgroup
from salad.evaluation.summary import Summary

MAX_PARTS = 40  # of a kind, in the table; metrics.json has all
NAMES = {
    "image_mean": "mean grey level",
    "image_std": "standard deviation of grey levels",
    "image_sharpness": "sharpness (Laplacian)",
}
UNIT_NAMES = {"study": "AUC of whole studies", "patient": "AUC of whole patients"}
AUC_ROW = "AUC of the model's score"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table of metrics.

    Attributes:
        name: of the metric.
        value: as text.
        interval: its 95 % interval as text, or empty.
        note: how it came about, or empty.
        place: value and both ends, each in [0, 1], where it can be drawn.
        kind: ``model``, ``baseline``, ``rate`` or ``part``.
    """

    name: str
    value: str
    interval: str = ""
    note: str = ""
    place: tuple[float, float, float] | None = None
    kind: str = "rate"


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A number to be read first.

    Attributes:
        name: of the number.
        value: as text.
        note: below it.
    """

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class Note:
    """A sentence on the numbers.

    Attributes:
        text: the sentence.
        is_good: whether it is good news; if not, it is shown as a warning.
    """

    text: str
    is_good: bool = False


def strength(found: Auc) -> float:
    """The AUC, turned round where it is below 0.5: what a value without a model can tell, if one knew its sign."""
    return max(found.value, 1 - found.value)


def judge(summary: Summary) -> list[Note]:
    """What has to be said beside the AUC, a sentence each."""
    found = summary.auc
    if found is None:
        return [Note("All images belong to one class, so there is no AUC and there are no curves.")]
    said: list[Note] = []
    if found.value < 0.5:
        what = f"The AUC is {found.value:.3f}, below 0.5: abnormal images mostly score lower than normal ones."
        said.append(Note(f"{what} The sign of the score is left as it is."))
    if found.low <= 0.5 <= found.high:
        said.append(Note("The interval of the AUC holds 0.5: the model may be no better than chance."))
    known = {name: one for name, one in summary.baselines.items() if one}
    if known:
        said.append(_beside_baselines(found, *max(known.items(), key=lambda item: strength(item[1]))))
    if summary.decision and summary.decision.confusion.specificity:
        wanted, rate = summary.decision.specificity_wanted, summary.decision.confusion.specificity
        low, high = rate.interval
        if not low <= wanted <= high:
            what = f"The threshold was set for a specificity of {100 * wanted:g} % on validation normals"
            here = f"reaches {100 * rate.value:.1f} % here: the normal images of both sets do not score alike"
            said.append(Note(f"{what}, but {here}."))
    return said


def _beside_baselines(found: Auc, name: str, best: Auc) -> Note:
    turned = f", which is {strength(best):.3f} turned round" if best.value < 0.5 else ""
    what = f"the {NAMES.get(name, name)} of an image alone (AUC {best.value:.3f}{turned})"
    if found.value <= strength(best):
        return Note(f"The model does not beat {what}, a number that needs no model.")
    reach = 1 - best.low if best.value < 0.5 else best.high
    if found.low <= reach:
        return Note(f"The model is above {what}, but their intervals overlap.")
    return Note(f"The model is above {what}, and their intervals do not overlap.", is_good=True)


def tiles(summary: Summary) -> list[Tile]:
    """The numbers at the top: the AUC, the best baseline beside it, and what the threshold gives."""
    shown = [Tile(name="AUC", value="undefined", note="one class only")]
    if summary.auc:
        note = f"95 % CI {summary.auc.low:.3f} to {summary.auc.high:.3f} (DeLong)"
        shown = [Tile(name="AUC", value=f"{summary.auc.value:.3f}", note=note)]
    known = {name: one for name, one in summary.baselines.items() if one}
    if known:
        name, best = max(known.items(), key=lambda item: strength(item[1]))
        note = f"{NAMES.get(name, name)} alone" + (", turned round" if best.value < 0.5 else "")
        shown.append(Tile(name="Best AUC without a model", value=f"{strength(best):.3f}", note=note))
    confusion = summary.decision and summary.decision.confusion
    for name, rate in (
        ("Sensitivity", confusion and confusion.sensitivity),
        ("Specificity", confusion and confusion.specificity),
    ):
        if rate:
            note = f"{rate.count} of {rate.of}, at the threshold of validation"
            shown.append(Tile(name=name, value=f"{100 * rate.value:.1f} %", note=note))
    return shown


def metric_rows(summary: Summary) -> list[Row]:
    """The table: the model's AUC, those of the baselines, rates, then parts."""
    rows = [_auc_row(AUC_ROW, summary.auc, note="DeLong", kind="model")]
    if summary.bootstrap:
        rows.append(_auc_row("the same", summary.bootstrap, note="stratified bootstrap", kind="model"))
    if summary.within_sharpness:
        note = "pairs of images of like sharpness only"
        rows.append(_auc_row("AUC beyond sharpness", summary.within_sharpness, note=note, kind="model"))
    rows += [
        _auc_row(
            f"AUC of the {NAMES.get(name, name)}",
            one,
            note=f"no model; turned round {strength(one):.4f}" if one and one.value < 0.5 else "no model",
            kind="baseline",
        )
        for name, one in summary.baselines.items()
    ]
    if summary.average_precision is not None:
        value = summary.average_precision
        chance = f"by chance {summary.prevalence:.4f}, the share of abnormal images"
        rows.append(Row(name="Average precision", value=f"{value:.4f}", note=chance, place=(value, value, value)))
    rows += [_rate_row(_words(name), rate) for name, rate in summary.operating_points.items()]
    rows += _decision_rows(summary)
    rows += [_part_row(UNIT_NAMES.get(unit, unit), part) for unit, part in summary.units.items()]
    for kind, parts in summary.subgroups.items():
        rows += [_part_row(f"AUC, {kind} {name}", part) for name, part in [*parts.items()][:MAX_PARTS]]
        if len(parts) > MAX_PARTS:
            rows.append(Row(name=f"{len(parts) - MAX_PARTS} more by {kind}", value="", note="see metrics.json"))
    return rows


def _words(name: str) -> str:
    """``sensitivity_at_90_specificity`` as words."""
    what, _, share, of = name.split("_")
    return f"{what.capitalize()} at {share} % {of}"


def _decision_rows(summary: Summary) -> list[Row]:
    found = summary.decision
    if found is None:
        return []
    how = f"at or below it lie {100 * found.specificity_wanted:g} % of {found.num_val_normals} validation normals"
    rates = {"Sensitivity": found.confusion.sensitivity, "Specificity": found.confusion.specificity}
    singles = {"F1": found.confusion.f1, "Balanced accuracy": found.confusion.balanced_accuracy}
    rows = [Row(name="Threshold", value=f"{found.threshold:.6g}", note=how)]
    rows += [_rate_row(f"{name} at the threshold", rate) for name, rate in rates.items()]
    rows += [
        Row(name=f"{name} at the threshold", value=f"{value:.4f}", place=(value, value, value))
        for name, value in singles.items()
        if value is not None
    ]
    return rows


def _auc_row(name: str, found: Auc | None, *, note: str, kind: str) -> Row:
    if found is None:
        return Row(name=name, value="undefined", note=note, kind=kind)
    place = found.value, found.low, found.high
    return Row(name=name, value=f"{found.value:.4f}", interval=_interval(*place[1:]), note=note, place=place, kind=kind)


def _rate_row(name: str, rate: Rate | None) -> Row:
    if rate is None:
        return Row(name=name, value="undefined")
    low, high = rate.interval
    note = f"{rate.count} of {rate.of}, Wilson"
    place = rate.value, low, high
    return Row(name=name, value=f"{rate.value:.4f}", interval=_interval(low, high), note=note, place=place)


def _part_row(name: str, part: Subgroup) -> Row:
    return _auc_row(name, part.auc, note=f"{part.num_normal} normal, {part.num_abnormal} abnormal", kind="part")


def _interval(low: float, high: float) -> str:
    return f"{low:.4f} to {high:.4f}"
