"""Do jobs in processes of their own, several at a time, and say on stderr how far they are."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple, Protocol

from salad.errors import cut, printable, say

IMPORTS = Path(__file__).resolve().parent.parent.parent  # folder that holds the package
LOADS_IMAGES = ("train", "test")  # commands that take --n_jobs_dataloader
MAX_TAIL = 2**14  # bytes of a log that are searched for its last line
CLEAR_LINE = "\r\x1b[K"

Call = Callable[[Sequence[str], Path], bool]
"""Function of the words after `salad` and a log file that runs the command; returns True on success."""


class Job(Protocol):
    """Work that is done by commands, and needs not be done twice."""

    @property
    def name(self) -> str:
        """Name in messages."""

    @property
    def kind(self) -> str:
        """Name that jobs share which take about as long."""

    @property
    def log(self) -> Path:
        """File with the output of its commands."""

    @property
    def is_done(self) -> bool:
        """True if nothing is left to do."""

    @property
    def seconds(self) -> float | None:
        """Time that it took; None if it is not known."""

    def do(self, call: Call) -> bool:
        """Do what is left; return True on success."""


class Failure(NamedTuple):
    """Job that failed, and the last line of its log."""

    job: Job
    reason: str


class Programs:
    """Commands of `salad`, each run in a process of its own; they share the threads, and end together.

    There are as many threads as OMP_NUM_THREADS says, or else as there are cores.

    Args:
        at_once: number of commands at a time.
    """

    def __init__(self, *, at_once: int) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        asked = os.environ.get("OMP_NUM_THREADS", "")
        self.num_threads = max(1, (int(asked) if asked.isdecimal() else cores) // at_once)
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._is_ended = False

    def __call__(self, words: Sequence[str], log: Path) -> bool:
        """Run a command with its output appended to a log file; return True on success."""
        command, *rest = words
        shares = ["--n_jobs_dataloader", str(self.num_threads)] if command in LOADS_IMAGES else []
        places = os.pathsep.join(filter(None, [str(IMPORTS), os.environ.get("PYTHONPATH")]))
        env = {**os.environ, "OMP_NUM_THREADS": str(self.num_threads), "PYTHONPATH": places}
        started = [sys.executable, "-m", "salad", command, *shares, *rest]
        with log.open("a", encoding="utf-8") as file:
            with self._lock:
                if self._is_ended:
                    return False
                # a session of its own, so that Ctrl-C reaches it once, by `end`
                process = subprocess.Popen(started, stdout=file, stderr=file, env=env, start_new_session=True)
                self._running.add(process)
            status = process.wait()
        with self._lock:
            self._running.remove(process)
        return status == 0

    def end(self) -> None:
        """Ask the running commands to save and end, and start no other."""
        with self._lock:
            self._is_ended = True
            for process in self._running:
                process.terminate()


class Progress:
    """Lines on stderr: jobs done, and time left; on a terminal also those that are running.

    Args:
        jobs: all jobs, done or not.
        at_once: number of jobs at a time.
    """

    def __init__(self, jobs: Sequence[Job], *, at_once: int) -> None:
        self.jobs, self.at_once = jobs, at_once
        self.is_over = False  # True once the study is interrupted, of which each job would only say that it failed
        self._left = [job for job in jobs if not job.is_done]
        self._num_failed = 0
        self._running: dict[str, float] = {}  # start of a job by its name, in seconds
        self._lock = threading.Lock()

    def start(self, job: Job) -> None:
        """Note that a job begins."""
        with self._lock:
            self._running[job.name] = time.monotonic()
            self._show()

    def end(self, job: Job, *, is_well: bool) -> None:
        """Note that a job is over, and say so."""
        with self._lock:
            seconds = time.monotonic() - self._running.pop(job.name)
            self._left.remove(job)
            self._num_failed += not is_well
            over = f"{job.name}: {'done' if is_well else f'failed, see {job.log}'} after {shown_time(seconds)}"
            self._clear()
            if not self.is_over:
                say(f"{over}; {self._count()}")
                self._show()

    def seconds_left(self) -> float | None:
        """Estimate the time left, in seconds, from the jobs done of the same kind, or else of any; None before."""
        known: dict[str, list[float]] = {}
        for job in self.jobs:
            if job not in self._left and job.seconds is not None:
                known.setdefault(job.kind, []).append(job.seconds)
        every = [seconds for of_kind in known.values() for seconds in of_kind]
        if not every:
            return None
        now, total = time.monotonic(), 0.0
        for job in self._left:
            of_kind = known.get(job.kind, every)
            gone = now - self._running.get(job.name, now)
            total += max(0.0, sum(of_kind) / len(of_kind) - gone)
        return total / min(self.at_once, max(1, len(self._left)))

    def _count(self) -> str:
        left = self.seconds_left() if self._left else None
        count = f"{len(self.jobs) - len(self._left) - self._num_failed} of {len(self.jobs)} runs done"
        count += f", {self._num_failed} failed" if self._num_failed else ""
        return count if left is None else f"{count}, about {shown_time(left)} left"

    def _clear(self) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(CLEAR_LINE)

    def _show(self) -> None:
        """Show on a terminal, in a line that the next one replaces, how far the jobs are and which are running."""
        if sys.stderr.isatty() and self._running:
            width = (os.get_terminal_size(sys.stderr.fileno()).columns or 80) - 1  # 0 if it is not known
            line = printable(f"{self._count()}; running: {', '.join(self._running)}")[:width]
            sys.stderr.write(f"{CLEAR_LINE}{line}")
            sys.stderr.flush()


def shown_time(seconds: float) -> str:
    """Write a time in the unit that suits it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def do_all(jobs: Sequence[Job], programs: Programs, *, at_once: int) -> list[Failure]:
    """Do the jobs that are not done, several at a time; one that fails does not end the others.

    Args:
        jobs: all jobs, done or not.
        programs: to run their commands with.
        at_once: number of jobs at a time.

    Returns:
        The jobs that failed.
    """
    missing = [job for job in jobs if not job.is_done]
    progress = Progress(jobs, at_once=at_once)

    def do(job: Job) -> bool:
        progress.start(job)
        is_well = False
        try:
            is_well = job.do(programs)
        finally:
            progress.end(job, is_well=is_well)
        return is_well

    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(do, job) for job in missing]
        try:
            wait(futures)
        except BaseException:  # an interruption
            progress.is_over = True
            pool.shutdown(wait=False, cancel_futures=True)
            programs.end()
            raise
    return [
        Failure(job, last_line(job.log)) for job, future in zip(missing, futures, strict=True) if not future.result()
    ]


def last_line(log: Path) -> str:
    """Read the last line of a log; empty without one."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - MAX_TAIL))
        lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        return cut(printable(lines[-1])) if lines else ""
    return ""
