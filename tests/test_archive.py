"""salad.archive: what it accepts, what it refuses, and what it leaves behind."""

import hashlib
import io
import os
import random
import subprocess
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import gdown
import pytest
from click.testing import CliRunner

from salad import archive
from salad.errors import InputError

GOOD = {
    "train/0/a.png": b"a" * 3000,
    "train/0/b.PNG": b"b",
    "train/0/notes.txt": b"no image",
    "train/1/c.jpg": b"c" * 700,
    "test/0/d.png": b"d",
    "test/1/e.tiff": b"e" * 5000,
}
GOOD_LAYOUT = {"train": {"0": 2, "1": 1}, "test": {"0": 1, "1": 1}}


def make_tar(path, files=GOOD, *, mode="w:xz", extra=(), tar_format=tarfile.PAX_FORMAT):
    with tarfile.open(path, mode, format=tar_format) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in extra:
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    return path


def prefixed(prefix, files=GOOD):
    return {prefix + name: content for name, content in files.items()}


def special(name, kind=tarfile.REGTYPE, target="", size=0):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    return info


def names_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("mode", ["w:xz", "w:gz", "w:"])
@pytest.mark.parametrize("prefix", ["", "author/", "./", "./author/"])
def test_good_archives_land_in_author(tmp_path, mode, prefix):
    path = make_tar(tmp_path / "images.tar", prefixed(prefix), mode=mode)
    out = tmp_path / "data"
    assert archive.fetch(out, archive=path) == GOOD_LAYOUT
    for name, content in GOOD.items():
        assert (out / "author" / name).read_bytes() == content
    assert [entry.name for entry in out.iterdir()] == ["author"]


@pytest.mark.parametrize("tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_are_plain_members(tmp_path, tar_format):
    name = f"train/0/{'x' * 180}é.png"
    path = make_tar(tmp_path / "images.tar.xz", GOOD | {name: b"1"}, tar_format=tar_format)
    archive.fetch(tmp_path / "data", archive=path)
    assert (tmp_path / "data/author" / name).is_file()


def test_folder_members_and_odd_modes(tmp_path):
    folders = [special(name, tarfile.DIRTYPE) for name in (".", "train", "train/0")]
    for folder in folders:
        folder.mode = 0
    path = make_tar(tmp_path / "images.tar.gz", mode="w:gz", extra=folders)
    archive.fetch(tmp_path / "data", archive=path)
    assert (tmp_path / "data/author/train/0").stat().st_mode & 0o700 == 0o700


def test_optional_split_and_hidden_files(tmp_path):
    files = GOOD | {
        "valid/0/f.png": b"f",
        "train/0/._a.png": b"",
        "train/.DS_Store": b"",
        "extra/0/g.png": b"",
        "train/0/.thumbnails/h.png": b"",
        "train/0/deep/.old/er/i.png": b"",
        "train/0/j.png/notes.txt": b"a folder with the name of an image",
        "train/.cache/k.png": b"",
        ".trash/train/0/l.png": b"",
    }
    layout = archive.fetch(tmp_path, archive=make_tar(tmp_path / "images.tar.xz", files))
    assert layout == GOOD_LAYOUT | {"valid": {"0": 1}}
    assert not (tmp_path / "author/train/0/._a.png").exists()
    assert not (tmp_path / "author/train/.DS_Store").exists()


def test_count_agrees_with_the_data_set(tmp_path):
    from salad.datasets import read_split

    more = ["train/0/in/ner.tif", "train/0/.hid/den.png", "train/1/.h.png", "train/1/i.WEBP"]
    files = GOOD | dict.fromkeys(more, b"")
    layout = archive.fetch(tmp_path, archive=make_tar(tmp_path / "images.tar.xz", files))
    for split, labels in layout.items():
        assert len(read_split("CXR_author", tmp_path / "author", split).samples) == sum(labels.values())


def test_hidden_top_folder_is_not_taken_for_the_images(tmp_path):
    files = prefixed("author/") | {".trash/train/0/l.png": b"", ".trash/test/0/l.png": b""}
    assert archive.fetch(tmp_path, archive=make_tar(tmp_path / "images.tar.xz", files)) == GOOD_LAYOUT


@pytest.mark.parametrize(
    "bad",
    [
        special("/etc/salad.png", size=1),
        special("../salad.png", size=1),
        special("train/../../salad.png", size=1),
        special("C:/salad.png", size=1),
        special("..\\salad.png", size=1),
        special("../outside", tarfile.DIRTYPE),
        special("train/link.png", tarfile.SYMTYPE, "../../secret.png"),
        special("train/inner.png", tarfile.SYMTYPE, "0/a.png"),
        special("train/hard.png", tarfile.LNKTYPE, "train/0/a.png"),
        special("train/pipe.png", tarfile.FIFOTYPE),
        special("train/char.png", tarfile.CHRTYPE),
        special("train/block.png", tarfile.BLKTYPE),
    ],
    ids=lambda info: f"{info.name}-{info.type.decode()}",
)
def test_unsafe_member_is_named_before_anything_is_written(tmp_path, monkeypatch, bad):
    path = make_tar(tmp_path / "images.tar.xz", extra=[bad])
    monkeypatch.setattr(tarfile.TarFile, "extractall", lambda *args: pytest.fail("extraction began"))
    before = names_below(tmp_path)
    with pytest.raises(InputError, match="refused") as caught:
        archive.fetch(tmp_path / "data", archive=path)
    assert repr(bad.name) in str(caught.value)
    assert names_below(tmp_path) == before


@pytest.mark.parametrize(
    ("limit", "bound", "message"),
    [
        ("MAX_BYTES", 25_000, "unpacks to over 25,000 bytes at 'train/0/huge.png'; .* nor this one to 25,000 bytes"),
        ("MAX_MEMBERS", 5, "over 5 members at 'test/1/e.tiff'"),
    ],
)
def test_total_limits(tmp_path, monkeypatch, limit, bound, message):
    path = make_tar(tmp_path / "images.tar.xz", extra=[special("train/0/huge.png", size=30_000)])
    monkeypatch.setattr(archive, limit, bound)
    with pytest.raises(InputError, match=f"refused: .*{message}"):
        archive.fetch(tmp_path / "data", archive=path)
    assert not list((tmp_path / "data").glob("*"))


def test_bomb_is_refused_by_its_header_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_BYTES", 10_000)
    header = special("train/0/huge.png", size=9_000_000_000).tobuf()
    path = tmp_path / "images.tar"
    path.write_bytes(header)  # the 9 GB themselves never come
    with pytest.raises(InputError, match="refused: it unpacks to over 10,000 bytes at .*huge.png"):
        archive.fetch(tmp_path / "data", archive=path)


@pytest.mark.parametrize("mode", ["w:xz", "w:gz"])
def test_compression_ratio(tmp_path, monkeypatch, mode):
    monkeypatch.setattr(archive, "MIN_LIMIT_BYTES", 0)
    noise = {name: random.Random(name).randbytes(3000) for name in GOOD}  # as compressed as an image
    assert archive.fetch(tmp_path / "good", archive=make_tar(tmp_path / "good.tar", noise, mode=mode)) == GOOD_LAYOUT
    path = make_tar(tmp_path / "bomb.tar", noise, mode=mode, extra=[special("train/0/zeros.png", size=20_000_000)])
    limit = 100 * path.stat().st_size
    with pytest.raises(InputError, match=f"over {limit:,} bytes at 'train/0/zeros.png'; .* 100 times its own size"):
        archive.fetch(tmp_path / "data", archive=path)
    assert not list((tmp_path / "data").glob("*"))


def test_ratio_leaves_small_archives_alone(tmp_path):
    extra = [special("train/0/zeros.png", size=1_000_000)]
    path = make_tar(tmp_path / "images.tar.xz", extra=extra)
    assert path.stat().st_size * 1000 < 1_000_000
    assert archive.fetch(tmp_path / "data", archive=path)["train"]["0"] == 3


@pytest.mark.parametrize("tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_header_cannot_ask_for_memory(tmp_path, tar_format):
    path = make_tar(tmp_path / "images.tar.xz", extra=[special("x" * 2_000_000)], tar_format=tar_format)
    with pytest.raises(InputError, match=r"refused: a header of 2,000,\d+ bytes, over 1,048,576"):
        archive.fetch(tmp_path / "data", archive=path)


class Watched(io.BytesIO):
    """Bytes that remember how far they were read or skipped."""

    furthest = 0

    def read(self, size=-1):
        content = super().read(size)
        self.furthest = max(self.furthest, self.tell())
        return content

    def seek(self, position, whence=0):
        self.furthest = max(self.furthest, position)
        return super().seek(position, whence)


@pytest.mark.parametrize("content", ["100000\n" + "1\n" * 200_000, "0\n" + "x" * 400_000], ids=["map", "data"])
def test_a_sparse_file_is_not_read_beyond_the_limit(tmp_path, monkeypatch, content):
    info = special("train/0/sparse.png", size=len(content))
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "1"}
    path = tmp_path / "images.tar"
    with tarfile.open(path, "w:") as tar:
        tar.addfile(info, io.BytesIO(content.encode()))
    watched = Watched(path.read_bytes())
    monkeypatch.setattr(archive, "open_unpacked", lambda path: watched)
    monkeypatch.setattr(archive, "MAX_BYTES", 50_000)
    with pytest.raises(InputError, match="refused: it unpacks to over 50,000 bytes"):
        archive.unpack(path, tmp_path / "data")
    assert watched.furthest <= 50_000


def test_nothing_from_the_archive_can_be_run(tmp_path):
    odd = [special("train/0/run.png", size=1), special("train/0/setup.sh", size=1), special("train", tarfile.DIRTYPE)]
    for info in odd:
        info.mode = 0o6777
    archive.fetch(tmp_path / "data", archive=make_tar(tmp_path / "images.tar.xz", extra=odd))
    for path in (tmp_path / "data/author").rglob("*"):
        assert path.stat().st_mode & 0o7000 == 0
        assert path.is_dir() or path.stat().st_mode & 0o111 == 0


@pytest.mark.parametrize("right", [True, False])
def test_checksum_is_compared_before_anything_is_unpacked(tmp_path, monkeypatch, right):
    path = make_tar(tmp_path / "images.tar.xz")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if right:
        assert archive.fetch(tmp_path / "data", archive=path, sha256=found.upper()) == GOOD_LAYOUT
        return
    monkeypatch.setattr(archive, "unpack", lambda *args: pytest.fail("unpacking began"))
    with pytest.raises(InputError, match=f"SHA-256 is {found}, not {'ab' * 32}"):
        archive.fetch(tmp_path / "data", archive=path, sha256="AB" * 32)
    assert names_below(tmp_path) == ["images.tar.xz"]


def test_checksum_option(tmp_path):
    path, out = make_tar(tmp_path / "images.tar.xz"), tmp_path / "data"
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    arguments = ["--archive", str(path), "--out", str(out), "--sha256"]
    for value, message in [("0" * 64, f"{found}, not {'0' * 64}"), (found[1:], "64 hexadecimal digits")]:
        result = CliRunner().invoke(archive.main, [*arguments, value])
        assert result.exit_code == 2
        assert message in result.output
        assert not out.exists()
    assert CliRunner().invoke(archive.main, [*arguments, found]).exit_code == 0
    again = CliRunner().invoke(archive.main, [*arguments, "0" * 64])
    assert again.exit_code == 0
    assert "already there, its archive not checked" in again.output
    help_text = " ".join(CliRunner().invoke(archive.main, ["--help"]).output.split())
    assert "None is built in: the authors publish none." in help_text


def test_python_without_lzma_is_named(tmp_path, monkeypatch):
    path = make_tar(tmp_path / "images.tar.xz")
    monkeypatch.setitem(sys.modules, "lzma", None)
    with pytest.raises(InputError, match="images.tar.xz: this Python was built without lzma"):
        archive.fetch(tmp_path / "data", archive=path)


@pytest.mark.parametrize("mode", ["w:xz", "w:gz", "w:"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated_archive(tmp_path, mode, share):
    path = make_tar(tmp_path / "images.tar", mode=mode)
    content = path.read_bytes()
    if mode == "w:":  # without its padding: a plain tar has no checksum, only the zero blocks that end it
        content = content.rstrip(b"\0") + bytes(100)
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError) as caught:
        archive.fetch(tmp_path / "data", archive=path)
    assert "\n" not in str(caught.value)
    assert names_below(tmp_path) == ["images.tar"]


def test_truncated_between_two_members(tmp_path):
    path = make_tar(tmp_path / "images.tar", mode="w:")
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    path.write_bytes(path.read_bytes()[: last.offset])
    with pytest.raises(InputError, match="stops in the middle"):
        archive.fetch(tmp_path / "data", archive=path)


def test_broken_header_is_not_taken_for_the_end(tmp_path):
    path = make_tar(tmp_path / "images.tar", mode="w:")
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    content = bytearray(path.read_bytes())
    content[last.offset] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="stops in the middle"):
        archive.fetch(tmp_path / "data", archive=path)


@pytest.mark.parametrize("mode", ["w:xz", "w:gz"])
def test_wrong_checksum(tmp_path, mode):
    path = make_tar(tmp_path / "images.tar", mode=mode)
    content = bytearray(path.read_bytes())
    position = len(content) - (8 if mode == "w:gz" else 20)  # gzip's CRC-32; the index of xz
    content[position] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot unpack .*images.tar"):
        archive.fetch(tmp_path / "data", archive=path)


QUOTA_PAGE = b"""<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body>
<p class="uc-error-caption">Sorry, you can&#39;t view or download this file at this time.</p>
<p class="uc-error-subcaption">Too many users have viewed or downloaded this file recently. Please try later.</p>
</body></html>"""


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (QUOTA_PAGE, r"\(quota exceeded, it says: too many downloads"),
        (b"<!doctype html><p>Too many users have viewed or downloaded this file", r"\(quota exceeded"),
        (b"\xef\xbb\xbf\n <HTML><head><title>\nSign in</title>", r"\(its title is 'Sign in'\)"),
        (b"<html><script>storage_quota = 1</script><title>Image</title>", r"\(its title is 'Image'\)"),
        (b"<html><script>storage_quota = 1", r"\(it has no title\)"),
    ],
)
def test_web_page_in_place_of_an_archive(tmp_path, page, message):
    path = tmp_path / "author.tar.xz"
    path.write_bytes(page)
    with pytest.raises(InputError, match=f"is a web page, not an archive {message}"):
        archive.fetch(tmp_path / "data", archive=path)
    assert path.exists()  # the user's file


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train/0/a.png": b""}, "test/ is missing"),
        ({"test/0/a.png": b""}, "train/ is missing"),
        ({"train/a.png": b"", "test/0/a.png": b""}, "train/ is missing or has no class folder"),
        ({"train/0/a.txt": b"", "test/0/a.png": b""}, "train/ is missing or has no class folder"),
        ({"readme.txt": b""}, "train/ is missing"),
    ],
)
def test_wrong_layout_never_becomes_author(tmp_path, files, message):
    path = make_tar(tmp_path / "images.tar.xz", files)
    with pytest.raises(InputError, match=message):
        archive.fetch(tmp_path / "data", archive=path)
    assert not list((tmp_path / "data").iterdir())


def test_second_run_needs_nothing(tmp_path, monkeypatch):
    archive.fetch(tmp_path / "data", archive=make_tar(tmp_path / "images.tar.xz"))
    monkeypatch.setattr(archive, "download", lambda path: pytest.fail("downloaded again"))
    monkeypatch.setattr(archive, "unpack", lambda *args: pytest.fail("unpacked again"))
    assert archive.fetch(tmp_path / "data") == GOOD_LAYOUT


def test_author_folder_of_the_user_is_kept(tmp_path):
    mine = tmp_path / "author/train/mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(InputError, match="move that folder away"):
        archive.fetch(tmp_path, archive=make_tar(tmp_path / "images.tar.xz"))
    assert mine.read_text() == "mine"


KILLED = """
import os, sys, tarfile
from pathlib import Path
from salad import archive
real = tarfile.TarFile.makefile
def makefile(self, member, target):
    if member.name.startswith("test"):
        os._exit(9)
    real(self, member, target)
tarfile.TarFile.makefile = makefile
archive.fetch(Path(sys.argv[1]), archive=Path(sys.argv[2]))
"""


def test_killed_extraction_leaves_no_author_and_is_cleaned_up(tmp_path):
    path, out = make_tar(tmp_path / "images.tar.xz"), tmp_path / "data"
    root = Path(archive.__file__).parents[1]
    command = [sys.executable, "-c", KILLED, str(out), str(path)]
    assert subprocess.run(command, cwd=root, check=False).returncode == 9
    assert (out / "author.partial/train/0/a.png").exists()
    assert not (out / "author").exists()
    (out / "author.partial/train/0/stale.png").touch()
    assert archive.fetch(out, archive=path) == GOOD_LAYOUT
    assert not (out / "author.partial").exists()
    assert not (out / "author/train/0/stale.png").exists()


def test_full_disk_is_one_line(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "makefile", fail)
    with pytest.raises(InputError, match="No space left on device"):
        archive.fetch(tmp_path / "data", archive=make_tar(tmp_path / "images.tar.xz"))
    assert not list((tmp_path / "data").iterdir())


def test_works_without_the_data_filter(tmp_path, monkeypatch):
    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    monkeypatch.setattr(tarfile.TarFile, "extraction_filter", staticmethod(lambda member, path: member), raising=False)
    odd = special("train/0/odd.png", size=1)
    odd.mode = 0o4000
    path = make_tar(tmp_path / "images.tar.xz", extra=[odd])
    assert archive.fetch(tmp_path / "data", archive=path)["train"]["0"] == 3
    assert (tmp_path / "data/author/train/0/odd.png").stat().st_mode & 0o7777 == 0o644


def test_author_appears_in_one_step(tmp_path, monkeypatch):
    def fail(path, target):
        assert archive.count_images(path) == GOOD_LAYOUT
        raise PermissionError(f"no rename to {target.name}")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(PermissionError, match="no rename to author"):
        archive.fetch(tmp_path / "data", archive=make_tar(tmp_path / "images.tar.xz"))
    assert not list((tmp_path / "data").iterdir())


def fake_download(content, calls):
    def download(*, id, output, resume):  # noqa: A002 - gdown's own name
        calls.append((id, output, resume))
        if isinstance(content, Exception):
            raise content
        if content is not None:
            Path(output).write_bytes(content)

    return download


def test_download_goes_to_out_and_is_not_repeated(tmp_path, monkeypatch):
    calls, out = [], tmp_path / "new/data"
    content = make_tar(tmp_path / "images.tar.xz").read_bytes()
    monkeypatch.setattr(gdown, "download", fake_download(content, calls))
    assert archive.fetch(out) == GOOD_LAYOUT
    assert calls == [("1LmonDb_gNAbbsnyLCsj40rUxbwZZ1ZSp", str(out / "author.tar.xz"), True)]
    (out / "author").rename(tmp_path / "elsewhere")
    assert archive.fetch(out) == GOOD_LAYOUT
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (RuntimeError("Failed to retrieve:\n\n\tmany accesses\n"), r"\(Failed to retrieve: many accesses\)"),
        (ConnectionError(), r"\(ConnectionError\)"),
        (None, "left no file"),
        (RuntimeError("Failed:\n\tToo many users have"), r"\(Drive answered with a web page: quota exceeded.*\)"),
        (QUOTA_PAGE, "Drive answered with a web page: quota exceeded"),
        (b"<html>Sign in</html>", "Drive answered with a web page: it has no title"),
    ],
)
def test_failed_download_is_one_line_with_the_way_out(tmp_path, monkeypatch, content, message):
    monkeypatch.setattr(gdown, "download", fake_download(content, []))
    with pytest.raises(InputError, match=message) as caught:
        archive.fetch(tmp_path / "data")
    assert "\n" not in str(caught.value)
    assert archive.BROWSER_URL in str(caught.value)
    assert "--archive FILE" in str(caught.value)
    assert not list((tmp_path / "data").iterdir())  # the next run starts afresh


# The real gdown, whose requests to Drive all end at a server on the loopback.
LOOPBACK = """
import sys, urllib.parse, requests, requests.adapters
class Loopback(requests.adapters.HTTPAdapter):
    def send(self, request, **options):
        parts = urllib.parse.urlsplit(request.url)
        assert parts.hostname.endswith("google.com"), request.url
        request.url = parts._replace(scheme="http", netloc=sys.argv[1]).geturl()
        return super().send(request, **options | {"proxies": {}})
requests.Session.get_adapter = lambda self, url: Loopback()
from salad import archive
archive.main(["--out", *sys.argv[2:]])
"""
CONFIRM_PAGE = b"""<html><form id="download-form" action="https://drive.usercontent.google.com/download">
<input type="hidden" name="id" value="1"></form></html>"""


class Drive(ThreadingHTTPServer):
    """As Drive answers for a large file: a page with a form, behind it the file; `fault` is cut, stall or quota."""

    daemon_threads = True

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), DriveHandler)
        self.content, self.fault, self.ranges, self.done = content, "", [], threading.Event()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def command(self, out):
        return [sys.executable, "-c", LOOPBACK, f"127.0.0.1:{self.server_port}", str(out)]

    def fetch(self, out):
        environment = os.environ | {"HOME": str(out.parent)}  # gdown keeps cookies there
        root = Path(archive.__file__).parents[1]
        return subprocess.run(
            self.command(out), cwd=root, env=environment, capture_output=True, text=True, timeout=60, check=False
        )


class DriveHandler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def answer(self, status, body, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = len(body) * 2 // 3 if self.server.fault and "Content_Disposition" in headers else len(body)
        self.wfile.write(body[:cut])
        if self.server.fault == "stall" and cut < len(body):
            self.wfile.flush()
            self.server.done.wait(60)

    def do_GET(self):  # noqa: N802 - the name that http.server calls
        if not self.path.startswith("/download"):
            page = QUOTA_PAGE if self.server.fault == "quota" else CONFIRM_PAGE
            return self.answer(200, page, Content_Type="text/html; charset=utf-8")
        content, asked = self.server.content, self.headers["Range"]
        headers = {"Content_Type": "application/x-xz", "Content_Disposition": 'attachment; filename="author.tar.xz"'}
        if asked is None:
            return self.answer(200, content, **headers)
        self.server.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        headers["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return self.answer(206, content[start:], **headers)


@pytest.fixture
def drive(tmp_path):
    noise = GOOD | {"train/0/a.png": random.Random(0).randbytes(2_000_000)}
    server = Drive(make_tar(tmp_path / "images.tar.xz", noise).read_bytes())
    yield server
    server.done.set()
    server.shutdown()
    server.server_close()


def test_broken_download_is_resumed(tmp_path, drive):
    out = tmp_path / "data"
    drive.fault = "cut"
    first = drive.fetch(out)
    assert first.returncode == 2, first.stderr
    assert "run again to go on from where it stopped" in first.stderr
    (part,) = out.iterdir()
    kept = part.read_bytes()
    assert len(kept) >= 1_000_000
    assert drive.content.startswith(kept)
    drive.fault = "quota"
    second = drive.fetch(out)
    assert second.returncode == 2
    assert "Drive answered with a web page: quota exceeded" in second.stderr
    assert part.read_bytes() == kept
    drive.fault = ""
    third = drive.fetch(out)
    assert third.returncode == 0, third.stderr
    assert drive.ranges == [f"bytes={len(kept)}-"]
    assert (out / "author.tar.xz").read_bytes() == drive.content
    assert names_below(out / "author/test") == ["0", "0/d.png", "1", "1/e.tiff"]


def test_killed_download_is_resumed(tmp_path, drive):
    out = tmp_path / "data"
    drive.fault = "stall"
    root, environment = Path(archive.__file__).parents[1], os.environ | {"HOME": str(tmp_path)}
    process = subprocess.Popen(drive.command(out), cwd=root, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (sizes := [path.stat().st_size for path in out.glob("*")]) or sizes[0] < 1_000_000:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    (part,) = out.iterdir()
    size, drive.fault = part.stat().st_size, ""
    result = drive.fetch(out)
    assert result.returncode == 0, result.stderr
    assert drive.ranges == [f"bytes={size}-"]
    assert (out / "author.tar.xz").read_bytes() == drive.content


def test_download_without_gdown(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(InputError, match="gdown.*--archive FILE"):
        archive.fetch(tmp_path / "data")


def test_command_prints_the_table_and_the_checksum(tmp_path):
    path = make_tar(tmp_path / "images.tar.xz")
    command = [sys.executable, "-m", "salad.archive", "--archive", path, "--out", tmp_path / "data"]
    root = Path(archive.__file__).parents[1]
    first = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    table = [line.split() for line in first.stdout.splitlines()]
    assert table == [["split", "class", "images"]] + [
        [split, label, str(num)] for split, labels in GOOD_LAYOUT.items() for label, num in labels.items()
    ]
    assert hashlib.sha256(path.read_bytes()).hexdigest() in first.stderr
    assert f"{path.stat().st_size:,} bytes" in first.stderr
    second = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert second.stdout == first.stdout
    assert "already there" in second.stderr


@pytest.mark.parametrize("kind", ["missing", "folder", "damaged"])
def test_command_turns_errors_into_one_line_and_status_2(tmp_path, kind):
    path = tmp_path / "images.tar.xz"
    if kind == "folder":
        path.mkdir()
    elif kind == "damaged":
        path.write_bytes(b"no archive at all")
    result = CliRunner().invoke(archive.main, ["--archive", str(path), "--out", str(tmp_path / "data")])
    assert result.exit_code == 2
    errors = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert "images.tar.xz" in errors[0]
    assert "Traceback" not in result.output


def test_an_internal_error_is_one_line_and_debug_shows_the_traceback(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("a fault of the program")

    monkeypatch.setattr(archive, "fetch", broken)
    result = CliRunner().invoke(archive.main, ["--out", str(tmp_path)])
    assert result.exit_code == 1 and result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and "--debug" in result.stderr and "report" in result.stderr
    assert isinstance(CliRunner().invoke(archive.main, ["--debug"]).exception, ZeroDivisionError)


def test_what_counts_is_what_can_be_read():
    from salad.datasets.images import IMAGE_SUFFIXES  # it imports numpy, which salad.archive must not

    assert set(archive.IMAGE_SUFFIXES) == IMAGE_SUFFIXES


def test_import_is_light():
    code = "import sys, salad.archive; sys.exit(int(any(m in sys.modules for m in ('torch', 'gdown', 'numpy'))))"
    root = Path(archive.__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
