import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from running import REPOSITORY, SHORT, invoke, stopped

from salad import cli
from salad.errors import InputError, StorageError
from salad.runs.lock import STALE_SECONDS, only_one

HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom salad.runs.lock import only_one\n"
    "with only_one(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)"
)


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_process_is_refused_and_told_who_holds_the_folder(holder, tmp_path):
    with (
        pytest.raises(InputError, match=f"process {holder.pid} on {socket.gethostname()}"),
        only_one(tmp_path / "lock"),
    ):
        pass


def test_a_second_training_in_a_folder_is_refused(holder, tmp_path):
    line = stopped(invoke(cli.train, "CXR_phantom", "unet", tmp_path, tmp_path / "data", *SHORT))
    assert str(holder.pid) in line
    assert not (tmp_path / "config.json").exists()


def test_a_killed_holder_blocks_nobody(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "lock").exists()
    with only_one(tmp_path / "lock"):
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
    assert not (tmp_path / "lock").exists()


@pytest.mark.parametrize(("age", "free"), [(0, False), (STALE_SECONDS + 60, True)])
def test_a_holder_on_another_machine_counts_as_long_as_its_heart_beats(tmp_path, age, free):
    lock = tmp_path / "lock"
    lock.write_text(json.dumps({"pid": 7, "host": "elsewhere"}))
    os.utime(lock, (time.time() - age,) * 2)
    if free:
        with only_one(lock):
            pass
    else:
        with pytest.raises(InputError, match="process 7 on elsewhere.*delete"), only_one(lock):
            pass


@pytest.fixture
def _no_locks(monkeypatch):
    """As on a parallel file system that is mounted without locks."""

    def refuse(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("salad.runs.lock.fcntl.flock", refuse)


@pytest.mark.usefixtures("_no_locks")
def test_without_locks_a_process_of_this_machine_counts_while_it_runs(holder, tmp_path):
    with pytest.raises(InputError, match=f"process {holder.pid} on"), only_one(tmp_path / "lock"):
        pass
    holder.kill()
    holder.wait()
    with only_one(tmp_path / "lock"):
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
    assert not (tmp_path / "lock").exists()


@pytest.mark.usefixtures("_no_locks")
@pytest.mark.parametrize("pid", [-(10**30), 10**30, "one", None, "my own"])
def test_without_locks_a_holder_that_cannot_run_is_no_obstacle(tmp_path, pid):
    pid = os.getpid() if pid == "my own" else pid
    (tmp_path / "lock").write_text(json.dumps({"pid": pid, "host": socket.gethostname()}))
    with only_one(tmp_path / "lock"):
        pass


def test_a_full_disk_is_said_and_leaves_no_lock(small_disk, fill):
    fill()
    with (
        pytest.raises(StorageError, match=r"lock: could not be written \(No space left"),
        only_one(small_disk / "lock"),
    ):
        pass
    assert not (small_disk / "lock").exists()


def test_the_heart_beats(tmp_path, monkeypatch):
    monkeypatch.setattr("salad.runs.lock.HEARTBEAT_SECONDS", 0.05)
    with only_one(tmp_path / "lock"):
        os.utime(tmp_path / "lock", (0, 0))
        deadline = time.monotonic() + 5
        while (tmp_path / "lock").stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert (tmp_path / "lock").stat().st_mtime > 0


def test_a_damaged_lock_file_is_no_obstacle(tmp_path):
    (tmp_path / "lock").write_text("{half")
    with only_one(tmp_path / "lock"):
        pass
