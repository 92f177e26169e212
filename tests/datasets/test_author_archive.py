"""salad.datasets.author_archive: what it accepts, what it refuses, and what it leaves behind."""

import hashlib
import inspect
import io
import subprocess
import sys
import tarfile
from pathlib import Path

import gdown
import pytest
from click.testing import CliRunner
from running import REPOSITORY

from salad.cli import main
from salad.datasets import author_archive, read_split
from salad.errors import InputError, StorageError

GOOD = {
    "train/0/a.png": b"a" * 3000,
    "train/0/b.PNG": b"b",
    "train/0/notes.txt": b"no image",
    "train/1/c.jpg": b"c" * 700,
    "test/0/d.png": b"d",
    "test/1/e.tiff": b"e" * 5000,
}
COUNTS = [("test/0", 1), ("test/1", 1), ("train/0", 2), ("train/1", 1)]
QUOTA_PAGE = b"\xef\xbb\xbf\n<!DOCTYPE html><title>Google Drive - Quota exceeded</title>Too many users have viewed"


def make_tar(path, files=GOOD, *, mode="w:xz", extra=()):
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in extra:
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    return path


def special(name, kind=tarfile.REGTYPE, target="", size=0):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    return info


def counts_of(lines):
    return [(name, int(number)) for name, number, _ in map(str.split, lines)]


def refused(path, message, *, error=InputError, **options):
    """Whether fetching ends with this message, in one line, and leaves nothing."""
    out = path.parent / "data"
    with pytest.raises(error, match=message) as caught:
        author_archive.fetch(out, archive=path, **options)
    assert "\n" not in str(caught.value)
    assert not out.exists() or not list(out.iterdir())


@pytest.mark.parametrize("mode", ["w:xz", "w:gz", "w:"])
@pytest.mark.parametrize("prefix", ["", "author/", "./", "./author/"])
def test_good_archives_land_in_author(tmp_path, mode, prefix):
    files = {prefix + name: content for name, content in GOOD.items()} | {".trash/train/0/l.png": b""}
    path = make_tar(tmp_path / "images.tar", files, mode=mode)
    assert counts_of(author_archive.fetch(tmp_path / "data", archive=path)) == COUNTS
    for name, content in GOOD.items():
        assert (tmp_path / "data/author" / name).read_bytes() == content
    assert [entry.name for entry in (tmp_path / "data").iterdir()] == ["author"]


def test_counts_are_those_of_the_data_set(tmp_path):
    more = ["valid/0/f.png", "train/0/in/ner.tif", "train/0/.hid/den.png", "train/1/.h.png", "train/1/i.WEBP"]
    more += ["extra/0/g.png", "train/.cache/k.png", "train/0/j.png/notes.txt", "train/loose.png"]
    path = make_tar(tmp_path / "images.tar.xz", GOOD | dict.fromkeys(more, b""))
    counts = counts_of(author_archive.fetch(tmp_path, archive=path))
    assert counts == [("test/0", 1), ("test/1", 1), ("train/0", 3), ("train/1", 2), ("valid/0", 1)]
    for split, number in [("train", 5), ("val", 1), ("test", 2)]:
        assert len(read_split("CXR_author", tmp_path / "author", split).samples) == number


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (special("../salad.png", size=1), "outside the destination"),
        (special("train/../../salad.png", size=1), "outside the destination"),
        (special("train/link.png", tarfile.SYMTYPE, "../../secret.png"), "'train/link.png': a link"),
        (special("train/hard.png", tarfile.LNKTYPE, "train/0/a.png"), "'train/hard.png': a link"),
        (special("train/pipe.png", tarfile.FIFOTYPE), "'train/pipe.png': a link or a device"),
    ],
)
def test_unsafe_member_is_named(tmp_path, bad, message):
    refused(make_tar(tmp_path / "images.tar.xz", extra=[bad]), message)
    assert [entry.name for entry in tmp_path.rglob("*.png")] == []


@pytest.mark.parametrize("mode", ["w:xz", "w:gz"])
def test_bomb_is_refused_before_it_unpacks(tmp_path, monkeypatch, mode):
    monkeypatch.setattr(author_archive, "MIN_LIMIT_BYTES", 20_000)
    path = make_tar(tmp_path / "bomb.tar", mode=mode, extra=[special("train/0/zeros.png", size=20_000_000)])
    limit = max(20_000, 20 * path.stat().st_size)
    assert limit < 10_000_000
    refused(path, f"bomb.tar: refused at member 'train/0/zeros.png': it unpacks to over {limit:,} bytes")


def test_bomb_of_many_files(tmp_path, monkeypatch):
    path = make_tar(tmp_path / "images.tar.xz")
    monkeypatch.setattr(author_archive, "MAX_MEMBERS", 5)
    refused(path, "refused at member 'test/1/e.tiff': it unpacks to .* or 5 files")
    monkeypatch.setattr(author_archive, "MAX_MEMBERS", 6)
    assert author_archive.fetch(tmp_path / "data", archive=path)


@pytest.mark.parametrize("mode", ["w:xz", "w:gz", "w:"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_cut_archive(tmp_path, mode, share):
    path = make_tar(tmp_path / "images.tar", mode=mode)
    content = path.read_bytes()
    if mode == "w:":  # without its padding: a plain tar has no checksum, only the zero blocks that end it
        content = content.rstrip(b"\0") + bytes(100)
    path.write_bytes(content[: int(share * len(content))])
    refused(path, r"cannot unpack .*images.tar \(.+\): if damaged, delete it and fetch it again")


@pytest.mark.parametrize("fault", ["cut between two members", "a broken header"])
def test_what_tarfile_takes_for_the_end_is_not_the_end(tmp_path, fault):
    path = make_tar(tmp_path / "images.tar", mode="w:")
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    content = bytearray(path.read_bytes())
    content[last.offset] ^= 1
    path.write_bytes(content[: last.offset] if fault.startswith("cut") else content)
    refused(path, "it is truncated")


@pytest.mark.parametrize("mode", ["w:xz", "w:gz"])
def test_damaged_archive(tmp_path, mode):
    path = make_tar(tmp_path / "images.tar", mode=mode)
    content = bytearray(path.read_bytes())
    content[len(content) - (8 if mode == "w:gz" else 20)] ^= 0xFF  # gzip's CRC-32; the index of xz
    path.write_bytes(content)
    refused(path, "cannot unpack .*images.tar .*if damaged")


def test_web_pages_other_files_and_checksums(tmp_path):
    path = tmp_path / "author.tar.xz"
    refused(path, "author.tar.xz: no such file")
    path.write_bytes(QUOTA_PAGE)
    refused(path, r"is a web page, not an archive \(quota exceeded.*24 hours\): delete it; open https://drive")
    path.write_bytes(b"<html>Sign in</html>")
    refused(path, "is a web page, not an archive: delete it")
    path.write_bytes(b"no archive at all")
    refused(path, "cannot unpack")
    digits = hashlib.sha256(make_tar(path).read_bytes()).hexdigest()
    refused(path, f"SHA-256 is {digits}, not {'ab' * 32}", sha256="AB" * 32)
    refused(path, "--sha256 .*: must be 64 hexadecimal digits", sha256=digits[1:])
    assert author_archive.fetch(tmp_path / "data", archive=path, sha256=digits.upper())


@pytest.mark.parametrize("missing", ["train", "test"])
def test_another_layout_never_becomes_author(tmp_path, missing):
    files = {name: content for name, content in GOOD.items() if not name.startswith(missing)}
    path = make_tar(tmp_path / "images.tar.xz", files | {f"{missing}/0/a.txt": b"", f"{missing}/b.png": b""})
    refused(path, f"holds no {missing}/CLASS/ with images; .*images.tar.xz is not the authors'")


def test_author_folder_that_is_there_is_kept(tmp_path, monkeypatch, capsys):
    path = make_tar(tmp_path / "images.tar.xz")
    first = author_archive.fetch(tmp_path, archive=path)
    monkeypatch.setattr(author_archive, "check_archive", lambda *args: pytest.fail("fetched again"))
    assert author_archive.fetch(tmp_path, sha256="0" * 64) == first
    assert "already there, its archive not checked" in capsys.readouterr().err
    for image in (tmp_path / "author/test").glob("*/*"):
        image.unlink()
    with pytest.raises(InputError, match="holds no test/CLASS/ with images; move that folder away"):
        author_archive.fetch(tmp_path, archive=path)
    assert (tmp_path / "author/train/0/a.png").exists()


KILLED = """
import os, sys, tarfile
from pathlib import Path
from salad.datasets import author_archive
real = tarfile.TarFile.makefile
def makefile(self, member, target):
    if member.name.startswith("test"):
        os._exit(9)
    real(self, member, target)
tarfile.TarFile.makefile = makefile
author_archive.fetch(Path(sys.argv[1]), archive=Path(sys.argv[2]))
"""


def test_killed_unpacking_leaves_no_author_and_is_cleaned_up(tmp_path):
    path, out = make_tar(tmp_path / "images.tar.xz"), tmp_path / "data"
    command = [sys.executable, "-c", KILLED, out, path]
    assert subprocess.run(command, cwd=REPOSITORY, check=False).returncode == 9
    assert (out / "author.partial/train/0/a.png").exists() and not (out / "author").exists()
    (out / "author.partial/train/0/stale.png").touch()
    assert counts_of(author_archive.fetch(out, archive=path)) == COUNTS
    assert [entry.name for entry in out.iterdir()] == ["author"]


def test_full_disk(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "makefile", fail)
    refused(make_tar(tmp_path / "images.tar.xz"), r"could not be written \(No space left", error=StorageError)


def test_python_without_the_data_filter(tmp_path, monkeypatch):
    monkeypatch.delattr(tarfile, "data_filter")
    refused(make_tar(tmp_path / "images.tar.xz"), r"Python \S+ cannot unpack safely: use 3.10.12, 3.11.4 or later")


def fake_download(content, calls):
    real = inspect.signature(gdown.download)

    def download(**options):
        real.bind(**options)
        calls.append(options)
        if isinstance(content, Exception):
            raise content
        Path(options["output"]).write_bytes(content)

    return download


def test_download_goes_to_out_and_is_not_repeated(tmp_path, monkeypatch):
    calls, out = [], tmp_path / "new/data"
    content = make_tar(tmp_path / "images.tar.xz").read_bytes()
    monkeypatch.setattr(gdown, "download", fake_download(content, calls))
    assert counts_of(author_archive.fetch(out)) == COUNTS
    (out / "author").rename(tmp_path / "elsewhere")
    assert counts_of(author_archive.fetch(out)) == COUNTS
    assert calls == [{"id": "1LmonDb_gNAbbsnyLCsj40rUxbwZZ1ZSp", "output": str(out / "author.tar.xz"), "resume": True}]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("Failed to retrieve:\n\n\tmany accesses\n"), r"\(Failed to retrieve: many accesses\)"),
        (ConnectionError(), r"\(ConnectionError\)"),
        (RuntimeError("Failed:\n\tToo many users have"), r"\(quota exceeded: too many downloads.*24 hours\)"),
    ],
)
@pytest.mark.parametrize("part", [False, True])
def test_failed_download_is_one_line_with_the_way_out(tmp_path, monkeypatch, error, message, part):
    if part:  # of the file, as gdown keeps it
        (tmp_path / "author.tar.xzab12.part").touch()
    monkeypatch.setattr(gdown, "download", fake_download(error, []))
    with pytest.raises(InputError, match=f"{message}; .*open https://drive.* --archive FILE$") as caught:
        author_archive.fetch(tmp_path)
    assert "\n" not in str(caught.value)
    assert ("run again to continue the download" in str(caught.value)) == part


def test_download_without_gdown(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(InputError, match="gdown.*--archive FILE"):
        author_archive.fetch(tmp_path / "data")


def test_command(tmp_path):
    path, words = tmp_path / "images.tar.xz", ["fetch", "--out", str(tmp_path / "data"), "--archive"]
    result = CliRunner().invoke(main, [*words, str(path)])
    assert (result.exit_code, result.output) == (2, f"Error: {path}: no such file, or it may not be read\n")
    digits = hashlib.sha256(make_tar(path).read_bytes()).hexdigest()
    result = CliRunner().invoke(main, [*words, str(path), "--sha256", "0" * 64])
    assert result.exit_code == 2 and f"not {'0' * 64}" in result.stderr
    result = CliRunner().invoke(main, [*words, str(path), "--sha256", digits])
    assert result.exit_code == 0 and counts_of(result.stdout.splitlines()) == COUNTS
    assert result.stderr == f"{path}: {path.stat().st_size:,} bytes, SHA-256 {digits}\n"
