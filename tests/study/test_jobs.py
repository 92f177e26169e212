import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from salad.study.jobs import Programs, Progress, do_all, last_line, shown_time


@dataclass
class FakeJob:
    name: str
    folder: Path
    kind: str = "a"
    is_done: bool = False
    seconds: float | None = None
    fails: bool = False
    waits_for: threading.Barrier | None = None
    calls: list = field(default_factory=list)

    @property
    def log(self):
        return self.folder / f"{self.name}.txt"

    def do(self, call):
        self.calls.append(call)
        if self.waits_for:
            self.waits_for.wait(timeout=20)
        self.log.write_text("it began\nError: no such \x1b file\n\n" if self.fails else "fine\n")
        return not self.fails


def test_what_failed_is_named_with_its_reason_and_ends_no_other(tmp_path, capsys):
    jobs = [FakeJob("done", tmp_path, is_done=True), FakeJob("bad", tmp_path, fails=True), FakeJob("good", tmp_path)]
    programs = Programs(at_once=1)
    failures = do_all(jobs, programs, at_once=1)
    assert [(failure.job.name, failure.reason) for failure in failures] == [("bad", r"Error: no such \x1b file")]
    assert [job.calls for job in jobs] == [[], [programs], [programs]]
    bad, good = capsys.readouterr().err.splitlines()
    assert bad.startswith(f"bad: failed, see {jobs[1].log} after") and bad.endswith("; 1 of 3 runs done, 1 failed")
    assert good.startswith("good: done after") and good.endswith("; 2 of 3 runs done, 1 failed")


@pytest.mark.parametrize(("asked", "at_once", "expected"), [("6", 2, 3), ("1", 2, 1), ("6", 9, 1)])
def test_threads_are_shared(monkeypatch, asked, at_once, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert Programs(at_once=at_once).num_threads == expected


def test_several_run_at_once(tmp_path):
    together = threading.Barrier(3)  # broken, and an error, if they came one after the other
    jobs = [FakeJob(f"{i}", tmp_path, waits_for=together) for i in range(3)]
    assert do_all(jobs, Programs(at_once=3), at_once=3) == []


def test_an_error_of_the_program_itself_is_not_swallowed(tmp_path):
    job = FakeJob("a", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        do_all([job], Programs(at_once=1), at_once=1)


def test_time_left_is_that_of_runs_of_the_same_kind_shared_by_those_at_once(tmp_path):
    of_a = [FakeJob("a1", tmp_path, is_done=True, seconds=10), FakeJob("a2", tmp_path, is_done=True, seconds=20)]
    left = [FakeJob("a3", tmp_path), FakeJob("b1", tmp_path, kind="b"), FakeJob("b2", tmp_path, kind="b")]
    of_b = FakeJob("b0", tmp_path, kind="b", is_done=True, seconds=60)
    assert Progress([*of_a, of_b, *left], at_once=1).seconds_left() == pytest.approx(15 + 60 + 60)
    assert Progress([*of_a, *left], at_once=2).seconds_left() == pytest.approx(15 * 3 / 2)
    assert Progress([*of_a, left[0]], at_once=2).seconds_left() == pytest.approx(15)
    assert Progress(left, at_once=1).seconds_left() is None


def test_times_are_in_the_unit_that_suits_them():
    assert [shown_time(seconds) for seconds in (4.4, 100, 6000)] == ["4 s", "2 min", "1.7 h"]


def test_the_last_line_of_a_log_is_read_and_a_missing_log_has_none(tmp_path):
    (tmp_path / "log").write_bytes(b"x\n" * 20_000 + b"Error: \xff\n \n")
    assert last_line(tmp_path / "log") == "Error: \ufffd"
    assert last_line(tmp_path / "none") == ""


@pytest.mark.slow
def test_commands_run_in_processes_of_their_own_and_end_together(tmp_path):
    programs, log = Programs(at_once=1), tmp_path / "log"
    assert programs(["--version"], log) and not programs(["no_such_command"], log)
    text = log.read_text()
    assert text.startswith("salad ") and "No such command 'no_such_command'" in text

    (tmp_path / "films").mkdir()
    words = ["predict", "--watch", str(tmp_path / "films"), "--load_model", str(tmp_path / "none.tar")]
    ended = threading.Timer(0.2, programs.end)
    ended.start()
    start = time.monotonic()
    assert not programs(words, log) and time.monotonic() - start < 60
    ended.join()
    assert not programs(["--version"], log) and log.read_text().count("salad 0") == 1  # none is started any more
