"""Images of one content: all are found, and little is read."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salad.checks.duplicates import PROBE_BYTES, file_sizes, find_duplicates
from salad.images import npz
from salad.samples import Sample

CONTENTS = [*(bytes([a]) * 5000 + bytes([b]) * 5000 for a in (0, 1) for b in (0, 1)), b"x"]


def samples_of(folder, contents):
    folder.mkdir(exist_ok=True)
    samples = []
    for number, content in enumerate(contents):
        path = folder / f"{number}.png"
        path.write_bytes(content)
        samples.append(Sample(path, path.name, 0))
    return samples


def find(samples, *, num_threads=0, max_bytes=None):
    return find_duplicates(samples, num_threads=num_threads, max_bytes=max_bytes)


@pytest.fixture
def read(monkeypatch):
    """The names of files that were probed, and of those that were read to their ends."""
    probed, whole, plain = [], [], Path.open

    class Watched(io.FileIO):
        def read(self, size=-1):
            found = super().read(size)
            if size == PROBE_BYTES:
                probed.append(Path(self.name).name)
            elif not found:
                whole.append(Path(self.name).name)
            return found

    def watching(path, mode="r", *words, **options):
        return Watched(path) if mode == "rb" else plain(path, mode, *words, **options)

    monkeypatch.setattr(Path, "open", watching)
    return probed, whole


@pytest.mark.parametrize("num_threads", [0, 3])
def test_groups_in_order(tmp_path, num_threads):
    samples = samples_of(tmp_path, [b"one", b"two", b"one", b"three", b"two", b"one", b""])
    assert find(samples, num_threads=num_threads).groups == [[0, 2, 5], [1, 4]]


@settings(max_examples=30, deadline=None)
@given(contents=st.lists(st.sampled_from(CONTENTS)))
def test_same_as_comparing_all_with_all(tmp_path_factory, contents):
    found = find(samples_of(tmp_path_factory.mktemp("files"), contents)).groups
    expected = {content: [i for i, other in enumerate(contents) if other == content] for content in contents}
    assert found == sorted(group for group in expected.values() if len(group) > 1)


def test_files_of_sizes_of_their_own_are_not_opened(tmp_path, read):
    assert find(samples_of(tmp_path, [bytes(n) for n in range(1, 40)])).groups == []
    assert read == ([], [])


def test_files_that_differ_in_the_middle_are_not_read(tmp_path, read):
    ends = bytes(3 * PROBE_BYTES)
    assert find(samples_of(tmp_path, [ends + bytes([n]) + ends for n in range(9)])).groups == []
    assert len(read[0]) == 9 and read[1] == []


def test_files_that_differ_elsewhere_are_told_apart(tmp_path, read):
    ends = bytes(3 * PROBE_BYTES)
    assert find(samples_of(tmp_path, [ends + b"1", ends + b"2", ends + b"1"])).groups == [[0, 2]]
    assert sorted(read[1]) == ["0.png", "1.png", "2.png"]


def test_bound_on_what_is_read(tmp_path, read):
    samples = samples_of(tmp_path, [b"a" * 1000] * 2 + [b"b" * 10] * 2 + [b"c" * 500] * 2)
    found = find(samples, max_bytes=1100)
    assert found.groups == [[2, 3], [4, 5]] and found.num_unread == 2
    assert sorted(read[1]) == ["2.png", "3.png", "4.png", "5.png"]
    assert find(samples, max_bytes=3020).num_unread == 0


def test_what_cannot_be_read_equals_nothing(tmp_path, monkeypatch):
    samples = samples_of(tmp_path, [b"one", b"one"])
    os.mkfifo(tmp_path / "pipe.png")  # reading it would wait for ever
    (tmp_path / "folder.png").mkdir()
    samples += [Sample(tmp_path / name, name, 0) for name in ("absent.png", "pipe.png", "folder.png")]
    assert file_sizes(samples, num_threads=0) == [3, 3, None, None, None]
    assert find(samples).groups == [[0, 1]]

    def refuse(path, *_, **__):
        raise PermissionError(13, "no", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    assert find(samples).groups == []


def test_links_are_duplicates(tmp_path):
    (sample,) = samples_of(tmp_path, [b"one"])
    link, hard = tmp_path / "link.png", tmp_path / "hard.png"
    link.symlink_to(sample.path)
    os.link(sample.path, hard)
    assert find([sample, Sample(link, "link", 0), Sample(hard, "hard", 0)]).groups == [[0, 1, 2]]


@pytest.fixture
def rows(tmp_path):
    """Three rows of one array, of which the first and the last are the same, and one of another."""
    images = np.stack([np.full((8, 8), number, np.uint8) for number in (1, 2, 1)])
    np.savez(tmp_path / "set.npz", train_images=images, val_images=images[:1], test_images=images[:1].reshape(1, 16, 4))
    path = tmp_path / "set.npz"
    samples = [Sample(path, f"{row}", 0, row=row, array="train_images") for row in range(3)]
    return [*samples, *(Sample(path, name, 0, row=0, array=f"{name}_images") for name in ("val", "test"))]


def test_rows_of_arrays_are_compared_by_their_pixels(rows):
    assert file_sizes(rows, num_threads=0) == [None] * 5
    assert find(rows).groups == [[0, 2, 3]]
    assert find(rows, num_threads=3).groups == [[0, 2, 3]]


def test_large_arrays_are_not_loaded_for_it(rows):
    npz.forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "load", lambda *_, **__: pytest.fail("loaded"))
        found = find(rows, max_bytes=63)
    assert found.groups == [] and found.num_unread == 5
    assert find(rows, max_bytes=3 * 64).num_unread == 2


def test_rows_of_a_damaged_file_equal_nothing(rows):
    rows[0].path.write_bytes(b"no archive")
    assert find(rows).groups == []
