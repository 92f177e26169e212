"""Stage `correct`: the tests of CUDA, with the outcome and the numbers of each; in smoke form the same on a CPU."""

from __future__ import annotations

import importlib.util
from typing import Any

from benchmarks.gpu.notes import Notes, Setting
from benchmarks.gpu.stages import ROOT

QUICK = "objectives or memory or anchors or views or batches or registration"  # in smoke form
FILES = ("tests/test_cuda.py", "tests/test_golden.py")


class Recorder:
    """Plugin of pytest that writes the outcome of each test at once.

    Args:
        notes: results of the stage.
    """

    def __init__(self, notes: Notes) -> None:
        self.notes = notes

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Write the outcome of a test, and the numbers that it has measured."""
        if report.when != "call" and report.outcome == "passed":
            return  # what precedes and follows a test counts only if it fails or leaves the test out
        name = report.nodeid.rpartition("::")[2]
        said = {} if report.outcome == "passed" else {"said": str(report.longrepr)[-1500:]}
        numbers = dict(report.user_properties)
        self.notes.add(name, {"outcome": report.outcome, "seconds": round(report.duration, 2), **numbers, **said})


def run(setting: Setting, notes: Notes) -> None:
    """Run the tests.

    Raises:
        SystemExit: a test failed.
    """
    import pytest

    chosen = ["-m", "cuda" if setting.device == "cuda" else "not cuda and not slow"]
    chosen += ["-k", QUICK] if setting.smoke else []
    xdist = ["-p", "no:xdist"] if importlib.util.find_spec("xdist") else []
    words = ["-x"] if setting.smoke else []
    files = FILES[:1] if setting.smoke else FILES
    paths = [str(ROOT / name) for name in files]
    status = pytest.main(
        [*paths, *chosen, *words, *xdist, "-p", "no:cacheprovider", f"--rootdir={ROOT}"], plugins=[Recorder(notes)]
    )
    if status != 0:
        raise SystemExit(int(status))
