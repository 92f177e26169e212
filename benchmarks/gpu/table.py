"""Table of the results of the benchmark `gpu`, for the terminal and docs/gpu.md."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.gpu.stages import RUN_FILE, STAGES
from benchmarks.gpu.training import SCORES


def table(out: Path) -> str:
    """Format the results in a folder as Markdown."""
    read = {name: _read(out / f"{name}.json") for name in STAGES}
    run, gpu = _read(out / RUN_FILE), read["facts"].get("gpu") or {}
    card = gpu.get("name") or (read["facts"].get("machine") or {}).get("cpu", "unknown")
    lines = [f"On {card}{', smoke form' if run.get('smoke') else ''}:", "", "| what | result |", "|---|---|"]
    for name in STAGES:
        if name in run:
            lines.append(f"| stage {name} | {run[name]['outcome']}, {run[name]['seconds']:.0f} s |")
    rows = [*_rates(read["facts"]), *_outcomes(read["correct"]), *_plain(read["speed"])]
    rows += [*_trainings(read["paper"]), *_plain(read["strong"])]
    return "\n".join([*lines, *(f"| {name} | {value} |" for name, value in rows)])


def _read(path: Path) -> dict[str, Any]:
    """Read results; empty if the stage did not run."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _rates(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Rows of the rates of matrix products and copies."""
    for name, value in (facts.get("rates") or {}).items():
        yield name, _short(value)


def _outcomes(tests: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Rows of the tests: the number of each outcome, and each test that failed."""
    outcomes = [test["outcome"] for test in tests.values()]
    if outcomes:
        yield "tests of CUDA", ", ".join(f"{outcomes.count(word)} {word}" for word in sorted(set(outcomes)))
    for name, test in tests.items():
        if test["outcome"] == "failed":
            yield name, "failed"


def _plain(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Rows of results that are dicts of numbers."""
    for name, value in values.items():
        yield name, _short(value)


def _trainings(trainings: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Rows of the trainings: how far they came, and the AUCs of the last round and of the test images."""
    for name, value in trainings.items():
        rounds = value.get("rounds")
        if not rounds:
            yield name, _short({key: value[key] for key in ("error", "left out") if key in value})
            continue
        for line in rounds:
            aucs = {score: (line["auc"].get(score) or {}).get("value") for score in SCORES}
            yield f"{name}, round {line['round']}, {value['curve of']}", _short(aucs)
        yield f"{name}, {rounds[-1]['epochs']} epochs, test", _short(value.get("test") or {})


def _short(value: Any) -> str:
    """Format a value in one cell."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict) and value.keys() == {"value", "low", "high"}:
        return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_short(part)}" for name, part in value.items() if name not in ("options", "largest"))
    return str(value).replace("|", "/")
