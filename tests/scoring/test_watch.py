"""A watched folder: each film once it stands still, again when it changes, and never half of one."""

import os
import shutil
from pathlib import Path

import pytest

from salad.errors import InputError
from salad.scoring.watch import AGAIN, Watch, film_stamp
from salad.scoring.watch_state import WatchState


class Folder:
    """A folder that a script changes between two looks; `films` are those that the watch has seen through.

    Args:
        path: the folder, which is made.
        steps: functions of this object, one for each wait; after the last one the watch ends.
        state: state file.
        while_read: function of this object and a film, called while the film is being read.
    """

    def __init__(self, path: Path, *steps, state: Path | None = None, while_read=lambda *_: None) -> None:
        path.mkdir(exist_ok=True)
        self.path, self.steps, self.while_read = path, iter([*steps, None]), while_read
        self.said: list[str] = []
        self.films: list[tuple[str, bytes, str | None]] = []
        self.watch = Watch(path, interval=3, state=WatchState(state, folder=path), say=self.said.append, wait=self.wait)

    def wait(self, seconds: float) -> None:
        assert seconds == 3
        step = next(self.steps)
        if step is None:
            raise KeyboardInterrupt
        step(self)

    def put(self, name: str, content: bytes) -> None:
        (self.path / name).write_bytes(content)

    def run(self) -> list[tuple[str, bytes, str | None]]:
        """Name, content and note of each film, in order."""
        try:
            for film in self.watch.films():
                if film is None:
                    continue
                content = film.read_bytes()
                self.while_read(self, film)
                if not self.watch.has_changed(film):
                    self.films.append((film.name, content, self.watch.note(film)))
                    self.watch.remember(film, is_bad=content == b"bad")
        except KeyboardInterrupt:
            pass
        return self.films


def still(_: Folder) -> None:
    """Nothing happens between two looks."""


def put(content: bytes, name: str = "a.png"):
    return lambda folder: folder.put(name, content)


def keep_times(folder: Folder) -> None:
    """Other content of the same size under the same modification time."""
    before = (folder.path / "a.png").stat()
    folder.put("a.png", b"else")
    os.utime(folder.path / "a.png", ns=(before.st_atime_ns, before.st_mtime_ns))


def remove(folder: Folder) -> None:
    (folder.path / "a.png").unlink()


def move_in(folder: Folder) -> None:
    """As rsync does: a hidden file, renamed once it is whole."""
    folder.put(".a.png.x7", b"film")
    (folder.path / ".a.png.x7").rename(folder.path / "a.png")


def preallocate(folder: Folder) -> None:
    """All of the size at once, and the content later."""
    folder.put("a.png", bytes(4))


FILM, TWICE = ("a.png", b"film", None), [("a.png", b"film", None), ("a.png", b"else", AGAIN)]


@pytest.mark.parametrize(
    ("steps", "films"),
    [
        ([put(b"film")], []),  # seen once only
        ([put(b"film"), still], [FILM]),
        ([put(b"film"), still, still, still], [FILM]),
        ([put(b""), still, put(b"film"), still], [FILM]),
        ([put(b"fi"), put(b"fil"), put(b"film"), still], [FILM]),
        ([preallocate, put(b"film"), still], [FILM]),
        ([move_in, still], [FILM]),
        ([put(b"film"), still, put(b"else"), still], TWICE),
        ([put(b"film"), still, keep_times, still], TWICE),
        ([put(b"film"), still, remove, still, put(b"else"), still], TWICE),
        ([put(b"film"), still, remove, put(b"film"), still], [FILM, ("a.png", b"film", AGAIN)]),
        ([put(b"bad"), still, put(b"film"), still], [("a.png", b"bad", None), ("a.png", b"film", AGAIN)]),
        ([put(b"film"), remove, still], []),
    ],
)
def test_a_film_is_given_once_it_stands_still_and_again_when_it_changes(tmp_path, steps, films):
    assert Folder(tmp_path / "in", *steps).run() == films


def test_a_film_that_changes_while_it_is_read_is_waited_for(tmp_path):
    def write_on(folder, film):
        folder.while_read = lambda *_: None
        folder.put(film.name, b"film")

    folder = Folder(tmp_path / "in", put(b"ha"), still, still, still, while_read=write_on)

    assert folder.run() == [FILM]


def test_a_film_that_is_removed_while_it_is_read_has_no_line(tmp_path):
    folder = Folder(tmp_path / "in", put(b"film"), still, still, while_read=lambda folder, _: remove(folder))

    assert folder.run() == []


def test_it_says_what_it_watches_and_sums_up(tmp_path):
    steps = [put(b"film", "b.png"), put(b"bad"), still, put(b"film"), put(b"x", "c.png")]
    folder = Folder(tmp_path / "in", *steps)
    folder.run()

    assert folder.said == [f"watching {folder.path} every 3 s: 0 images are there; Ctrl-C ends it"]
    expected = f"watched {folder.path}: 3 images, 1 of them cannot be read, 1 scored again; 1 were still arriving"
    assert folder.watch.summary() == expected


def test_a_folder_that_goes_and_comes_back_is_not_scored_again(tmp_path):
    away = tmp_path / "away"
    folder = Folder(
        tmp_path / "in",
        put(b"film"),
        still,
        lambda folder: folder.path.rename(away),
        still,
        lambda folder: away.rename(folder.path),
        still,
    )

    assert folder.run() == [FILM]
    assert folder.said[1:] == [f"{folder.path}: is gone; waiting for it to come back"]


def test_a_restarted_watch_goes_on_where_it_was(tmp_path):
    state = tmp_path / "state"
    Folder(tmp_path / "in", put(b"film"), put(b"old", "b.png"), still, state=state).run()
    (tmp_path / "in/b.png").write_bytes(b"new")
    (tmp_path / "in/c.png").write_bytes(b"came meanwhile")

    folder = Folder(tmp_path / "in", still, state=state)

    assert folder.run() == [("b.png", b"new", AGAIN), ("c.png", b"came meanwhile", None)]
    assert "3 images are there, 1 of them scored before" in folder.said[0]


def test_a_film_that_cannot_be_read_is_tried_again_by_the_next_watch(tmp_path):
    for _ in range(2):
        assert Folder(tmp_path / "in", put(b"bad"), still, still, state=tmp_path / "state").run() == [
            ("a.png", b"bad", None)
        ]
    put(b"film")(folder := Folder(tmp_path / "in", still, put(b"bad"), still, still, state=tmp_path / "state"))
    assert folder.run() == [FILM, ("a.png", b"bad", AGAIN)]


def test_a_folder_to_watch_must_be_there(tmp_path):
    (tmp_path / "file").touch()
    state = WatchState(None, folder=tmp_path)
    for name, reason in [("absent", "no such folder"), ("file", "is a file, not a folder")]:
        with pytest.raises(InputError, match=f"--watch .*{name}: {reason}"):
            Watch(tmp_path / name, interval=1, state=state, say=print)


def test_films_that_are_named_besides_are_given_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.png").write_bytes(b"out")
    folder = Folder(Path("in"), still, still)
    folder.put("a.png", b"film")
    named = [Path("in/a.png"), tmp_path / "in/../in/a.png", None, Path("b.png"), Path("in/absent.png")]

    assert [*folder.watch.also(named)] == [Path("in/a.png"), None, Path("b.png"), Path("in/absent.png")]
    folder.watch.remember(Path("in/a.png"), is_bad=False)
    assert folder.run() == [] and [*folder.watch.also(named[:1])] == []
    folder.put("a.png", b"else")
    assert [*folder.watch.also(named[:1])] == [Path("in/a.png")] and folder.watch.note(Path("in/a.png")) == AGAIN


def test_only_files_with_content_have_a_stamp(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "film.png").write_bytes(b"film")
    shutil.copy(tmp_path / "film.png", tmp_path / "copy.png")

    assert [film_stamp(tmp_path / name) for name in ("pipe.png", "empty.png", "absent.png", "a\0")] == [None] * 4
    assert film_stamp(tmp_path / "film.png") not in (None, film_stamp(tmp_path / "copy.png"))
