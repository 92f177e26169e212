import json
import os
import stat

import pytest

from salad.errors import StorageError
from salad.images.scan import write_skipped
from salad.runs.atomic import atomic_file
from salad.runs.folder import RunFolder
from salad.samples import Skipped


def test_a_file_appears_once_it_is_whole(tmp_path):
    path = tmp_path / "a.csv"
    for content in ("old", "new"):
        with atomic_file(path) as temporary:
            temporary.write_text(content)
            assert not path.exists() if content == "old" else path.read_text() == "old"
        assert path.read_text() == content and [*tmp_path.iterdir()] == [path]


def test_whatever_stops_the_writing_the_former_file_stands(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("old")

    def write():
        with atomic_file(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert path.read_text() == "old" and [*tmp_path.iterdir()] == [path]


def test_its_content_is_on_the_disk_before_its_name(tmp_path, monkeypatch):
    events = []
    monkeypatch.setattr("os.fsync", lambda handle: events.append(stat.S_ISDIR(os.fstat(handle).st_mode)))
    with atomic_file(tmp_path / "a") as temporary:
        temporary.write_text("x")
    assert events == [False, True]


def test_a_line_of_metrics_is_on_the_disk_before_the_checkpoint_that_follows_it(tmp_path, monkeypatch):
    folder, synced = RunFolder(tmp_path), []
    monkeypatch.setattr("os.fsync", lambda handle: synced.append(os.fstat(handle).st_size))
    folder.append_metrics({"epoch": 1})
    assert synced == [(tmp_path / "metrics.jsonl").stat().st_size]


def large(folder: RunFolder) -> None:
    folder.write_config({"option": "x" * 2**22})


def many(folder: RunFolder) -> None:
    write_skipped(folder.path, (Skipped("x" * 2**22, "why", "test"),), scanned=("test",))


def line(folder: RunFolder) -> None:
    folder.append_metrics({"epoch": 2, "loss": "x" * 2**22})


@pytest.mark.parametrize(
    ("write", "name"),
    [(large, "config.json"), (many, "skipped.csv"), (line, "metrics.jsonl")],
    ids=["config", "skipped", "metrics"],
)
def test_a_full_disk_leaves_the_files_of_a_run(small_disk, fill, write, name):
    folder = RunFolder(small_disk / "xp")
    folder.write_config({"lr": 1})
    write_skipped(folder.path, (Skipped("a.png", "empty", "train"),), scanned=("train",))
    folder.append_metrics({"epoch": 1})
    before = {path.name: path.read_bytes() for path in folder.path.iterdir()}
    filler = fill()
    with pytest.raises(StorageError, match=f"{name}: .*No space left on device"):
        write(folder)
    after = {path.name: path.read_bytes() for path in folder.path.iterdir()}
    assert after.keys() == before.keys()
    assert all(content.startswith(before[name]) for name, content in after.items())
    assert json.loads(after["config.json"])["lr"] == 1
    filler.unlink()
    folder.cut_metrics(1)  # a line that was not finished goes
    assert (folder.path / "metrics.jsonl").read_bytes() == before["metrics.jsonl"]
