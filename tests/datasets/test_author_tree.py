"""The paper's folders from a download of ChestX-ray14, on a miniature of it."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from salad.cli import main
from salad.datasets import author_tree, read_split
from salad.datasets.author_tree import build_tree
from salad.errors import InputError, StorageError

LISTS = {
    "train.txt": "a.png 0\nb.png 1\nc.png 0\n",
    "val.txt": "d.png 0\n\ne.png 1\n",
    "test_attending_rad.txt": "f.png 0\ng.png 1\n",
}
COUNTS = {"train": (2, 1), "val": (1, 1), "test": (1, 1)}
IMAGES = [f"{letter}.png" for letter in "abcdefg"]
TREE = [
    "test/0.normal/f.png", "test/1.abnormal/g.png", "train/0.normal/a.png", "train/0.normal/c.png",
    "train/1.abnormal/b.png", "val/0.normal/d.png", "val/1.abnormal/e.png",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _counts(monkeypatch):
    monkeypatch.setattr(author_tree, "TANG_COUNTS", COUNTS)


@pytest.fixture
def nih(tmp_path, write_image):
    """A download with images in every place where they may be, and one that no list names."""
    places = ["", "images/", "images_001/images/", "images_002/"]
    for number, name in enumerate([*IMAGES, "unlisted.png"]):
        write_image(tmp_path / "nih" / f"{places[number % len(places)]}{name}")
    return tmp_path / "nih"


@pytest.fixture
def lists(tmp_path):
    (tmp_path / "lists").mkdir()
    for name, content in LISTS.items():
        (tmp_path / "lists" / name).write_text(content)
    return tmp_path / "lists"


def files_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_tree_of_hard_links(nih, lists, tmp_path):
    out = tmp_path / "data/author"
    lines = build_tree(nih, lists, out=out)
    assert files_below(out) == TREE
    assert all((out / name).samefile(next(nih.rglob(Path(name).name))) for name in TREE)
    assert lines[:3] == [f"{split:<5}  {normal} normal, {ill} abnormal" for split, (normal, ill) in COUNTS.items()]
    assert lines[3] == "0 images are missing; these are the counts of the paper"
    assert "7 hard links" in lines[4] and "0 copies" in lines[4]
    assert [path.name for path in out.parent.iterdir()] == ["author"]
    train = read_split("CXR_author", out, "train")
    assert (train.normal_class, train.num_normal, len(train.samples)) == ("0.normal", 2, 3)


def test_links_in_the_download_are_followed(nih, lists, tmp_path):
    (nih / "a.png").rename(tmp_path / "elsewhere.png")
    (nih / "a.png").symlink_to(tmp_path / "elsewhere.png")
    build_tree(nih, lists, out=tmp_path / "out")
    target = tmp_path / "out/train/0.normal/a.png"
    assert not target.is_symlink() and target.samefile(tmp_path / "elsewhere.png")


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_copies_where_links_cannot_be(nih, lists, tmp_path, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, "no")

    monkeypatch.setattr(os, "link", refuse)
    lines = build_tree(nih, lists, out=tmp_path / "out")
    assert files_below(tmp_path / "out") == TREE and "7 copies" in lines[-1]
    copied = tmp_path / "out/train/0.normal/a.png"
    assert not copied.samefile(nih / "a.png") and copied.read_bytes() == (nih / "a.png").read_bytes()


def test_missing_images(nih, lists, tmp_path):
    (nih / "a.png").unlink()
    (nih / "images_001/images/c.png").unlink()
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"2 of 7 images are missing, the first a.png, c.png: .*--allow_missing"):
        build_tree(nih, lists, out=out)
    assert not out.exists()
    lines = build_tree(nih, lists, out=out, allow_missing=True)
    assert files_below(out) == [name for name in TREE if name not in ("train/0.normal/a.png", "train/0.normal/c.png")]
    assert lines[0] == "train  0 normal, 1 abnormal"
    assert lines[3] == "2 images are missing; the counts were not checked"


@pytest.mark.parametrize("allow_missing", [False, True])
def test_a_download_without_any_image_is_refused(lists, tmp_path, allow_missing):
    (tmp_path / "nih").mkdir()
    with pytest.raises(InputError, match="none of the 7 images"):
        build_tree(tmp_path / "nih", lists, out=tmp_path / "out", allow_missing=allow_missing)
    with pytest.raises(InputError, match="--nih .*no such folder"):
        build_tree(tmp_path / "absent", lists, out=tmp_path / "out", allow_missing=allow_missing)


def test_cut_lists_of_tang_are_refused_and_others_are_not(nih, lists, tmp_path):
    (lists / "train.txt").write_text("a.png 0\nb.png 1\n")
    with pytest.raises(InputError, match="train has 1 normal and 1 abnormal images, but 2 and 1"):
        build_tree(nih, lists, out=tmp_path / "out")
    (lists / "test_attending_rad.txt").rename(lists / "test.txt")
    lines = build_tree(nih, lists, out=tmp_path / "out")
    assert lines[3] == "0 images are missing; the counts were not checked"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("train.txt", "a.png 2\n", "train.txt, line 1: 'a.png 2' must be an image and 0"),
        ("train.txt", "a.png 0\na.png\n", "train.txt, line 2"),
        ("train.txt", "a.png 0 1\n", "line 1"),
        ("train.txt", "../a.png 0\n", "must be a file name without a folder"),
        ("train.txt", ".. 0\n", "must be a file name without a folder"),
        ("train.txt", "/etc/passwd 0\n", "must be a file name without a folder"),
        ("train.txt", "a.png 0\na.png 1\n", "line 2: a.png is in .*line 1, too"),
        ("val.txt", "b.png 1\n", "val.txt, line 1: b.png is in .*train.txt, line 2, too"),
        ("val.txt", "\n", "names no image"),
        ("val.txt", None, "--lists .*holds no val.txt"),
        ("test_attending_rad.txt", None, "holds no test.txt or test_attending_rad.txt"),
    ],
)
def test_faulty_lists(nih, lists, tmp_path, name, content, said):
    (lists / name).unlink()
    if content is not None:
        (lists / name).write_text(content)
    with pytest.raises(InputError, match=said):
        build_tree(nih, lists, out=tmp_path / "out", allow_missing=True)
    assert not (tmp_path / "out").exists()


def test_binary_list(nih, lists, tmp_path):
    (lists / "val.txt").write_bytes(b"a.png 0\n\x00")
    with pytest.raises(InputError, match="val.txt: holds NUL characters"):
        build_tree(nih, lists, out=tmp_path / "out")


def test_out_must_be_free(nih, lists, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    build_tree(nih, lists, out=out)  # an empty one may be there
    with pytest.raises(InputError, match="--out .*already exists"):
        build_tree(nih, lists, out=out)
    shutil.rmtree(out)
    out.touch()
    with pytest.raises(InputError, match="--out .*already exists"):
        build_tree(nih, lists, out=out)


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_left_of_a_build_that_fails(nih, lists, tmp_path, monkeypatch, failure):
    link, targets = os.link, []

    def fail(source, target):
        targets.append(target)
        if len(targets) == 3:
            raise failure
        link(source, target)

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(StorageError if isinstance(failure, OSError) else KeyboardInterrupt):
        build_tree(nih, lists, out=tmp_path / "data/out")
    assert len(targets) == 3 and list((tmp_path / "data").iterdir()) == []


def test_command(nih, lists, tmp_path):
    words = ["prepare", "CXR_author", "--nih", nih, "--lists", lists, "--out", tmp_path / "out"]
    result = CliRunner().invoke(main, list(map(str, words)))
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 5
    again = CliRunner().invoke(main, list(map(str, words)))
    assert again.exit_code == 2 and again.stdout == ""
    assert again.stderr.startswith("Error: --out ") and len(again.stderr.splitlines()) == 1
