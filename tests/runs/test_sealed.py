import multiprocessing
import os
import resource
import signal
import stat
import subprocess
from pathlib import Path

import pytest
import torch

from salad.errors import InputError, StorageError
from salad.runs import sealed
from salad.runs.sealed import SEAL_BYTES, read_sealed, remove_leftovers, write_sealed

CONTENT = {"weights": torch.arange(20_000.0), "name": "x", "numbers": [1, 2.5, None]}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_round_trip_under_several_names(tmp_path):
    paths = [tmp_path / name for name in ("model.tar", "model_round0.tar", "last.tar")]
    write_sealed(paths, CONTENT)
    assert names(tmp_path) == sorted(path.name for path in paths)
    for path in paths:
        found = read_sealed(path)
        assert torch.equal(found["weights"], CONTENT["weights"]) and found["numbers"] == [1, 2.5, None]


def test_a_later_write_leaves_the_other_names_alone(tmp_path):
    write_sealed([tmp_path / "a", tmp_path / "last"], {"number": 1})
    write_sealed([tmp_path / "last"], {"number": 2})
    assert (read_sealed(tmp_path / "a")["number"], read_sealed(tmp_path / "last")["number"]) == (1, 2)


def test_without_hard_links_names_are_copies(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)
    write_sealed([tmp_path / "a", tmp_path / "last"], CONTENT)
    assert torch.equal(read_sealed(tmp_path / "a")["weights"], CONTENT["weights"])
    assert names(tmp_path) == ["a", "last"]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.8, 0.99])
def test_a_flipped_bit_anywhere_is_found(tmp_path, share):
    path = tmp_path / "last.tar"
    write_sealed([path], CONTENT)
    content = bytearray(path.read_bytes())
    content[int(share * (len(content) - SEAL_BYTES))] ^= 4
    path.write_bytes(content)
    with pytest.raises(InputError, match="last.tar: damaged"):
        read_sealed(path)


def test_a_flipped_digest_is_found(tmp_path):
    path = tmp_path / "last.tar"
    write_sealed([path], CONTENT)
    content = bytearray(path.read_bytes())
    content[-SEAL_BYTES] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        read_sealed(path)


@pytest.mark.parametrize("tenth", range(10))
def test_a_truncated_file_is_refused(tmp_path, tenth):
    path = tmp_path / "last.tar"
    write_sealed([path], CONTENT)
    os.truncate(path, path.stat().st_size * tenth // 10)
    with pytest.raises(InputError, match="last.tar"):
        read_sealed(path)


def test_files_without_a_seal_are_read(tmp_path):
    torch.save(CONTENT, tmp_path / "published.tar")
    assert read_sealed(tmp_path / "published.tar")["name"] == "x"


def test_what_is_moved_into_place_is_on_the_disk_and_stays_there(tmp_path, monkeypatch):
    """Also when the machine stops: the content is synced before the first name, the names after the last."""
    events, sync, move = [], os.fsync, Path.replace

    def synced(handle):
        events.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else f"{os.fstat(handle).st_size} bytes")
        sync(handle)

    def moved(path, target):
        events.append(target.name)
        return move(path, target)

    monkeypatch.setattr("os.fsync", synced)
    monkeypatch.setattr("pathlib.Path.replace", moved)
    write_sealed([tmp_path / "model.tar", tmp_path / "last.tar"], CONTENT)
    size = (tmp_path / "last.tar").stat().st_size
    assert events == [f"{size} bytes", "model.tar", "last.tar", "folder"]


def die_at(step: int, folder: Path) -> None:
    """Write two names anew and be killed, as by kill -9, at a step: halfway through a block, or before a call."""
    count = 0

    def counted(real, *, halfway=None):
        def call(*words, **options):
            nonlocal count
            count += 1
            if count == step:
                if halfway:
                    halfway(*words)
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*words, **options)

        return call

    hashing = sealed._Hashing
    hashing.write = counted(hashing.write, halfway=lambda self, data: self.file.write(data[: len(data) // 2]))
    Path.replace, Path.hardlink_to = counted(Path.replace), counted(Path.hardlink_to)
    os.fsync = counted(os.fsync)
    write_sealed([folder / "model.tar", folder / "last.tar"], {**CONTENT, "name": "new"})


@pytest.mark.slow
def test_killed_at_any_step_of_a_write_every_name_shows_an_old_or_a_new_file(tmp_path):
    model, last = tmp_path / "model.tar", tmp_path / "last.tar"
    context, step, seen = multiprocessing.get_context("fork"), 0, []
    while True:
        step += 1
        write_sealed([model, last], {**CONTENT, "name": "old"})
        process = context.Process(target=die_at, args=(step, tmp_path))
        process.start()
        process.join()
        found = [read_sealed(path) for path in (model, last)]
        assert all(torch.equal(one["weights"], CONTENT["weights"]) for one in found)
        seen.append("".join(one["name"][0] for one in found))
        remove_leftovers(tmp_path)
        assert names(tmp_path) == ["last.tar", "model.tar"]
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert step > 10 and sorted(set(seen)) == ["nn", "no", "oo"] and seen == sorted(seen, key=["oo", "no", "nn"].index)


def test_leftovers_of_killed_processes_go(tmp_path):
    for name in (".writing.123", ".linking.9", "model.tar"):
        (tmp_path / name).write_bytes(b"x")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["model.tar"]


def test_a_full_disk_leaves_the_former_file(small_disk):
    path = small_disk / "last.tar"
    write_sealed([path], {"number": 1})
    with pytest.raises(StorageError, match="No space left on device.*--resume"):
        write_sealed([path], {"number": 2, "big": torch.zeros(2**21)})
    assert read_sealed(path)["number"] == 1
    assert names(small_disk) == ["last.tar"]


def test_a_read_only_disk_leaves_the_former_file(small_disk):
    path = small_disk / "last.tar"
    write_sealed([path], {"number": 1})
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StorageError, match="Read-only file system"):
        write_sealed([path], {"number": 2})
    assert read_sealed(path)["number"] == 1


def test_a_write_error_of_torch_save_is_told_as_what_it_is(tmp_path):
    """torch.save raises a RuntimeError of its own where the file below it fails."""
    path = tmp_path / "last.tar"
    write_sealed([path], {"number": 1})
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, former[1]))  # less than CONTENT takes
    try:
        with pytest.raises(StorageError, match="File too large"):
            write_sealed([path], CONTENT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert read_sealed(path)["number"] == 1
