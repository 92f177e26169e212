"""The state file of a watch: bounded, atomic, and no word is lost where it is damaged."""

import os

import pytest

from salad.errors import InputError, StorageError
from salad.images.stamp import Stamp
from salad.scoring import watch_state
from salad.scoring.watch_state import WatchState

STAMP = Stamp(1, 2, 3)


@pytest.fixture
def make(tmp_path):
    """A function that opens the state file of a folder."""
    (tmp_path / "in").mkdir()
    return lambda **facts: WatchState(tmp_path / "state", folder=tmp_path / "in", facts=facts)


def films(tmp_path, count, *, exist=True):
    paths = [tmp_path / "in" / f"{number}.png" for number in range(count)]
    for path in paths if exist else ():
        path.touch()
    return paths


def test_films_are_remembered_by_their_path_in_the_folder(make, tmp_path, monkeypatch):
    name = os.fsdecode(b"sub/\xff\n.png")
    make().remember(tmp_path / "in" / name, STAMP)
    monkeypatch.chdir(tmp_path)

    other = WatchState(tmp_path / "state", folder=(tmp_path / "in").relative_to(tmp_path))

    assert other.stamp_of((tmp_path / "in" / name).relative_to(tmp_path)) == STAMP
    assert other.stamp_of((tmp_path / "in" / "other.png").relative_to(tmp_path)) is None


@pytest.mark.parametrize(
    ("damage", "known", "said"),
    [
        (lambda text: text, 3, ""),
        (lambda text: text[:-4], 2, "the last line is not complete"),
        (lambda text: text.replace(b"1.png", b"1.png\xff"), 2, "1 of 3 lines are damaged"),
        (lambda text: text.replace(b'["1.png", 1, ', b'["1.png", "1", '), 2, "1 of 3 lines are damaged"),
        (lambda text: text.replace(b'["1.png", ', b"[[], "), 2, "1 of 3 lines are damaged"),
        (lambda text: text.replace(b", 3]", b", 3, 4]"), 0, "3 of 3 lines are damaged"),
        (lambda text: text.split(b"\n")[0] + b"\n" + b"[" * 10_000 + b"\n", 0, "1 of 1 lines are damaged"),
    ],
)
def test_a_damaged_line_is_said_and_its_film_scored_again(make, tmp_path, caplog, damage, known, said):
    state = make()
    for path in films(tmp_path, 3):
        state.remember(path, STAMP)
    (tmp_path / "state").write_bytes(damage((tmp_path / "state").read_bytes()))

    assert len(make().stamps) == known
    assert (said in caplog.text) if said else not caplog.text
    caplog.clear()
    assert len(make().stamps) == known and not caplog.text  # it has been written anew


@pytest.mark.parametrize("content", [b"", b"path,score\n", b"{}\n", b"\0" * 50, b"[1]\n"])
def test_another_file_is_refused_and_kept(make, tmp_path, content):
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(InputError, match="is no state file of --watch, or a damaged one: move it away"):
        make()
    assert (tmp_path / "state").read_bytes() == content


def test_other_kinds_of_files_are_refused(make, tmp_path):
    os.mkfifo(tmp_path / "state")
    with pytest.raises(InputError, match="state: cannot be read"):
        make()


def test_another_model_or_folder_is_refused(make, tmp_path):
    make(model="abc")
    with pytest.raises(InputError, match="is of a watch with another model .abc, now xyz.: give another --out"):
        make(model="xyz")
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="another watched"):
        WatchState(tmp_path / "state", folder=tmp_path / "other")


def test_the_file_does_not_grow_without_end(make, tmp_path, monkeypatch):
    monkeypatch.setattr(watch_state, "SPARE_LINES", 10)
    monkeypatch.setattr(watch_state, "MAX_GONE", 2)
    state = make()
    for path in films(tmp_path, 5, exist=False):
        state.remember(path, STAMP)
    for _ in range(100):
        state.remember(films(tmp_path, 1)[0], STAMP)

    assert len((tmp_path / "state").read_bytes().splitlines()) <= 30
    assert [*make().stamps] == ["0.png", "3.png", "4.png"]


def test_a_state_file_that_is_removed_meanwhile_is_made_again(make, tmp_path):
    state = make()
    first, second = films(tmp_path, 2)
    state.remember(first, STAMP)
    (tmp_path / "state").unlink()
    state.remember(second, STAMP)

    assert [*make().stamps] == ["0.png", "1.png"]


def test_a_full_disk_is_named():
    state = WatchState(None, folder=watch_state.Path("/"))
    state.path = watch_state.Path("/dev/full")
    if state.path.exists():
        with pytest.raises(StorageError, match="/dev/full: cannot be written .No space left"):
            state.remember(watch_state.Path("/a.png"), STAMP)
