import errno
import os
import signal
import socket
import subprocess
import sys

import pytest
from running import REPOSITORY, SHORT, invoke, stopped

from salad import cli
from salad.errors import InputError, StorageError
from salad.runs.lock import only_one

HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom salad.runs.lock import only_one\n"
    "with only_one(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)"
)


@pytest.fixture
def lock(tmp_path):
    return tmp_path / "lock"


@pytest.fixture
def holder(lock):
    """Another process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, lock], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_training_is_refused_and_told_who_holds_the_folder(holder, tmp_path):
    for _ in range(2):  # who was refused leaves the name of the holder
        line = stopped(invoke(cli.train, "CXR_phantom", "unet", tmp_path, tmp_path / "data", *SHORT))
        assert f"{tmp_path}: process {holder.pid} on {socket.gethostname()} is at work here" in line
    assert not (tmp_path / "config.json").exists()


def test_a_killed_holder_blocks_nobody(holder, lock):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert lock.exists()
    with only_one(lock):
        assert lock.read_text() == f"process {os.getpid()} on {socket.gethostname()}"
    assert not lock.exists()


@pytest.mark.parametrize("content", [b"[" * 100_000, b"", b"\xff\x00", b"process 1 on \x1b[31m\n"])
def test_a_damaged_lock_file_is_no_obstacle_and_no_name(lock, content):
    lock.write_bytes(content)
    with only_one(lock):
        lock.write_bytes(content)
        with pytest.raises(InputError, match=f"^{lock.parent}: another process is at work here"), only_one(lock):
            pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_a_training_goes_on_and_says_so(lock, monkeypatch, caplog, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    with only_one(lock), only_one(lock):
        assert [message.count("this file system has no locks") for message in caplog.messages] == [1, 1]


def test_a_full_disk_is_said_and_leaves_no_lock(small_disk, fill):
    fill()
    message = r"lock: could not be written \(No space left"
    with pytest.raises(StorageError, match=message), only_one(small_disk / "lock"):
        pass
    assert not (small_disk / "lock").exists()


def test_a_link_is_not_written_through(lock, tmp_path):
    for target in ("precious", "absent"):
        (tmp_path / "precious").write_text("text")
        lock.symlink_to(target)
        message = "lock: is a link, whose target would be written over: remove it"
        with pytest.raises(InputError, match=message), only_one(lock):
            pass
        lock.unlink()
    assert (tmp_path / "precious").read_text() == "text" and not (tmp_path / "absent").exists()


def test_a_folder_that_cannot_be_written_is_said(lock):
    lock.mkdir()
    with pytest.raises(StorageError, match=r"lock: could not be written \(Is a directory"), only_one(lock):
        pass
