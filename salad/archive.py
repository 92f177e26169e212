"""The authors' images: download, check and unpack `author.tar.xz` (`python -m salad.archive`)."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import tarfile
from pathlib import Path, PureWindowsPath
from typing import IO, cast

import click

from salad.errors import InputError

DRIVE_ID = "1LmonDb_gNAbbsnyLCsj40rUxbwZZ1ZSp"
BROWSER_URL = f"https://drive.google.com/file/d/{DRIVE_ID}/view"
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".dcm", ".dicom", ".dic")
REQUIRED_SPLITS = ("train", "test")
SPLITS = (*REQUIRED_SPLITS, "val", "valid")
MAX_BYTES = 100 * 10**9  # unpacked; the whole of ChestX-ray14 at full size is about 45 GB
MAX_RATIO = 100  # unpacked over packed; PNG and JPEG are packed already: about 1, and 3 for icons, of tar's headers
MIN_LIMIT_BYTES = 100 * 2**20  # the ratio of an archive of a few kilobytes says nothing, and harms nobody
MAX_MEMBERS = 1_000_000  # ChestX-ray14 has 112 120 images
MAX_READ_BYTES = 2**20  # tarfile reads a long name whole into memory, as long as its header says
QUOTA = re.compile(r"quota|too many users", re.IGNORECASE)
QUOTA_CAUSE = "quota exceeded, it says: too many downloads of this file, which passes within about 24 hours"
SHA256_HELP = "Stop before unpacking unless the archive has this SHA-256. None is built in: the authors publish none."

PATH = click.Path(path_type=Path)
Layout = dict[str, dict[str, int]]  # split -> class -> number of images


def count_images(folder: Path) -> Layout:
    """Count the images of `folder/split/class`, hidden files apart, for the splits that are there."""
    layout: Layout = {}
    for split in filter(Path.is_dir, (folder / name for name in SPLITS)):
        labels = [path for path in sorted(split.iterdir()) if path.is_dir() and not path.name.startswith(".")]
        layout[split.name] = {label.name: count_images_below(label) for label in labels}
    return layout


def count_images_below(folder: Path) -> int:
    """Count the images of a class folder as the data set does: neither hidden files nor those of hidden folders."""
    num_images = 0
    for _, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        num_images += sum(name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".") for name in files)
    return num_images


def find_fault(layout: Layout) -> str | None:
    """Say what keeps a layout from being used, or None where it is whole."""
    for split in REQUIRED_SPLITS:
        if not any(layout.get(split, {}).values()):
            return f"{split}/ is missing or has no class folder with images ({' '.join(IMAGE_SUFFIXES)})"
    return None


def format_table(layout: Layout) -> str:
    """Lay out split, class and number of images as a small table."""
    rows = [(split, label, num) for split, labels in layout.items() for label, num in labels.items()]
    lines = [f"{split:<6} {label:<20} {num:>7}" for split, label, num in [("split", "class", "images"), *rows]]
    return "\n".join(lines)


def read_web_page(path: Path) -> str | None:
    """Say what a web page saved in place of an archive tells, or None where the file is no web page."""
    with path.open("rb") as file:
        page = file.read(2**20).removeprefix(b"\xef\xbb\xbf").lstrip().decode("utf-8", "replace")
    if not re.match(r"<(!doctype|html|head|\?xml)", page, re.IGNORECASE):
        return None
    page = re.sub(r"<(script|style)\b.*?(</\1>|\Z)", "", page, flags=re.IGNORECASE | re.DOTALL)
    if QUOTA.search(page):
        return QUOTA_CAUSE
    title = re.search(r"<title>(.*?)</title>", page, re.IGNORECASE | re.DOTALL)
    return f"its title is {title[1].strip()!r}" if title else "it has no title"


def download(path: Path) -> None:
    """Fetch the authors' archive from Google Drive to `path`, from where an interrupted download stopped."""
    way_out = f"open {BROWSER_URL} in a browser, save the file, and run again with --archive FILE"
    try:
        import gdown

        path.parent.mkdir(parents=True, exist_ok=True)
        gdown.download(id=DRIVE_ID, output=str(path), resume=True)
    except Exception as exc:  # gdown's own classes differ by version, and those of its HTTP library come through
        reason = " ".join(str(exc).split()) or type(exc).__name__
        if QUOTA.search(reason):
            reason = f"Drive answered with a web page: {QUOTA_CAUSE}"
        if any(path.parent.glob(f"{path.name}?*")):  # gdown's partial file
            way_out = f"run again to go on from where it stopped, or {way_out}"
        raise InputError(f"cannot download the authors' archive ({reason}); {way_out}") from exc
    if not path.is_file():
        raise InputError(f"the download left no file {path}; {way_out}")
    if page := read_web_page(path):
        path.unlink()  # else the next run would take it for a finished download
        raise InputError(f"Drive answered with a web page: {page}; {way_out}")


def check_archive(path: Path, sha256: str | None) -> None:
    """Refuse a file that is a web page or has another SHA-256 than the one asked for; print what it is.

    Raises:
        InputError: with both checksums, where they differ.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if page := read_web_page(path):
        raise InputError(f"{path} is a web page, not an archive ({page}): save the file behind {BROWSER_URL}")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    found = digest.hexdigest()
    click.echo(f"{path}: {path.stat().st_size:,} bytes, SHA-256 {found}", err=True)
    if sha256 is not None and found != sha256.lower():
        raise InputError(f"{path}: SHA-256 is {found}, not {sha256.lower()}; delete the file and fetch it again")


class BoundedReader:
    """The unpacked bytes of an archive, up to a limit: tarfile believes whatever length a header claims."""

    def __init__(self, file: IO[bytes], *, archive_bytes: int) -> None:
        self.file, self.tell = file, file.tell
        self.limit = min(MAX_BYTES, max(MIN_LIMIT_BYTES, MAX_RATIO * archive_bytes))

    def check(self, num_bytes: int, where: str = "") -> int:
        """Hand a number of unpacked bytes through, unless it is over the limit."""
        if num_bytes > self.limit:
            raise InputError(
                f"refused: it unpacks to over {self.limit:,} bytes{where}; a tar of images, which are compressed "
                f"already, never comes to {MAX_RATIO} times its own size, nor this one to {MAX_BYTES:,} bytes"
            )
        return num_bytes

    def seek(self, position: int) -> int:
        """Move to a position within the limit."""
        return self.file.seek(self.check(position))

    def read(self, size: int) -> bytes:
        """Read at most `MAX_READ_BYTES`, within the limit."""
        if size > MAX_READ_BYTES:
            raise InputError(f"refused: a header of {size:,} bytes, over {MAX_READ_BYTES:,}")
        self.check(self.tell() + size)
        return self.file.read(size)


def open_unpacked(path: Path) -> IO[bytes]:
    """Open a plain, gz or xz file for reading what is in it."""
    with path.open("rb") as file:
        head = file.read(6)
    if head.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.open(path))
    if head != b"\xfd7zXZ\0":
        return path.open("rb")
    try:
        import lzma
    except ImportError as exc:
        raise InputError("this Python was built without lzma, which an xz archive needs") from exc
    return lzma.open(path)


def check_member(member: tarfile.TarInfo) -> None:
    """Refuse a member that is no plain file or folder, or whose name leads out of the target."""
    path = PureWindowsPath(member.name)  # it knows both kinds of slash, and drives
    if path.anchor or ".." in path.parts or "\0" in member.name:
        raise InputError(f"refused: member {member.name!r} leads out of the target folder")
    if not (member.isreg() or member.isdir()) or member.size < 0:
        raise InputError(f"refused: member {member.name!r} is a link or a device, not a file or folder")


def check_members(tar: tarfile.TarFile) -> list[tarfile.TarInfo]:
    """Read an archive to its end, writing nothing, and list the members to extract.

    Raises:
        InputError: for an unsafe member, too many bytes or members, a missing end.
    """
    reader = cast(BoundedReader, tar.fileobj)
    kept, num_bytes = [], 0
    for num_members, member in enumerate(tar, start=1):
        check_member(member)
        num_bytes += member.size
        reader.check(num_bytes, f" at {member.name!r}")  # more than the reader sees, where a file is sparse
        if num_members > MAX_MEMBERS:
            raise InputError(f"refused: over {MAX_MEMBERS:,} members at {member.name!r}")
        name = PureWindowsPath(member.name).name
        if not name.startswith("._") and name != ".DS_Store":  # what macOS adds; `._x.png` is no image
            member.mode = 0o755 if member.isdir() else 0o644  # no file of it can be run
            kept.append(member)
    # tarfile takes a broken header for the end; the true end is a zero block. Reading on checks the checksum.
    reader.seek(tar.offset)
    if not reader.read(MAX_READ_BYTES).startswith(bytes(tarfile.BLOCKSIZE)):
        raise InputError("the archive stops in the middle")
    return kept


def open_tar(reader: BoundedReader) -> tarfile.TarFile:
    """Open what is unpacked already: tarfile asks for no more than a BoundedReader has."""
    return tarfile.open(fileobj=cast(IO[bytes], reader), mode="r:")


def unpack(archive: Path, folder: Path) -> None:
    """Extract a tar file (plain, gz or xz) into a new folder, once all its members are found safe."""
    try:
        size = archive.stat().st_size
        with open_unpacked(archive) as file, open_tar(BoundedReader(file, archive_bytes=size)) as tar:
            members = check_members(tar)
            if hasattr(tarfile, "data_filter"):  # Python's own checks on top, from 3.10.12, 3.11.4 and 3.12
                tar.extraction_filter = tarfile.data_filter
            folder.mkdir(parents=True)
            tar.extractall(folder, members)
    except InputError as exc:
        raise InputError(f"{archive}: {exc}") from exc
    except Exception as exc:  # tarfile lets the errors of lzma, zlib and the disk through
        reason = str(exc).partition("\n")[0].rstrip(":") or type(exc).__name__
        raise InputError(f"cannot unpack {archive} ({reason}): if damaged, delete it and fetch it again") from exc


def fetch(out: Path, *, archive: Path | None = None, sha256: str | None = None) -> Layout:
    """Put the authors' images at `out/author`, unless they are there.

    Args:
        out: folder of the data sets.
        archive: a local copy of `author.tar.xz`; where None, `out/author.tar.xz`, downloaded if need be.
        sha256: what the archive must have, 64 hexadecimal digits; where None, it is only printed.

    Raises:
        InputError: where the archive cannot be had or is unfit; `out/author` then stays as it was.
    """
    target, partial = out / "author", out / "author.partial"
    shutil.rmtree(partial, ignore_errors=True)  # a killed run's
    if target.exists():
        layout = count_images(target)
        if fault := find_fault(layout):
            raise InputError(f"{target}: {fault}; move that folder away and run again")
        click.echo(f"{target} is already there{', its archive not checked' if sha256 else ''}.", err=True)
        return layout
    if archive is None:
        archive = out / "author.tar.xz"
        if not archive.is_file():
            download(archive)
    check_archive(archive, sha256)
    try:
        unpack(archive, partial)
        tops = [partial, *sorted(path for path in partial.iterdir() if path.is_dir() and path.name[0] != ".")]
        root = next((top for top in tops if (top / "train").is_dir()), partial)
        layout = count_images(root)
        if fault := find_fault(layout):
            raise InputError(f"{archive} has not the authors' layout: {fault}")
        root.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return layout


def check_sha256(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Refuse an option that is no SHA-256, before anything is downloaded."""
    if value is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise click.BadParameter(f"{value!r} is not 64 hexadecimal digits")
    return value


@click.command()
@click.option("--archive", type=PATH, help="Local copy of author.tar.xz; else downloaded.")
@click.option("--out", type=PATH, default="data", show_default=True, help="Data folder.")
@click.option("--sha256", metavar="HEX", callback=check_sha256, help=SHA256_HELP)
@click.option("--debug", is_flag=True, help="Show the traceback of an internal error.")
def main(archive: Path | None, out: Path, sha256: str | None, debug: bool) -> None:
    """Put the authors' X-ray images at OUT/author and print what is there."""
    from salad.cli import exit_status

    with exit_status(debug=debug):
        try:
            layout = fetch(out, archive=archive, sha256=sha256)
        except OSError as exc:
            raise InputError(str(exc)) from exc
        click.echo(format_table(layout))


if __name__ == "__main__":
    main()
