"""Fetch the authors' images from Google Drive, check and unpack them (`python -m salad fetch`)."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

from salad.datasets.folders import files_below
from salad.errors import InputError, StorageError, printable, say
from salad.images.read import IMAGE_SUFFIXES

DRIVE_ID = "1LmonDb_gNAbbsnyLCsj40rUxbwZZ1ZSp"
BROWSER_URL = f"https://drive.google.com/file/d/{DRIVE_ID}/view"
BY_HAND = f"open {BROWSER_URL} in a browser, save the file, and run again with --archive FILE"
QUOTA = re.compile(r"quota|too many users", re.IGNORECASE)
QUOTA_CAUSE = "quota exceeded: too many downloads of this file; try again in about 24 hours"
MAX_RATIO = 20  # unpacked over packed size: about 1 for images, which are compressed already, 3 for tiny ones
MIN_LIMIT_BYTES = 100 * 2**20  # the ratio of a very small archive is no sign of an attack
MAX_MEMBERS = 1_000_000  # ChestX-ray14 has 112,120 images


def fetch(out: Path, *, archive: Path | None = None, sha256: str | None = None) -> list[str]:
    """Unpack the authors' images into `out/author`, unless that folder exists.

    Args:
        out: folder of the data sets.
        archive: local copy of `author.tar.xz`; if None, `out/author.tar.xz`, downloaded if missing.
        sha256: SHA-256 that the archive must have, 64 hexadecimal digits; if None, it is only printed.

    Returns:
        Lines of text with the number of images of each class.

    Raises:
        InputError: the archive cannot be downloaded or is unfit; `out/author` then does not change.
        StorageError: the disk is full or cannot be written.
    """
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise InputError(f"--sha256 {printable(sha256)}: must be 64 hexadecimal digits")
    target, partial = out / "author", out / "author.partial"
    if target.exists():
        lines = count_images(target, way_out="move that folder away and run again")
        say(f"{target} is already there{', its archive not checked' if sha256 else ''}")
        return lines
    if archive is None:
        archive = out / "author.tar.xz"
        if not archive.exists():
            download(archive)
    check_archive(archive, sha256)
    shutil.rmtree(partial, ignore_errors=True)  # left by a run that was killed
    try:
        unpack(archive, partial)
        roots = [train.parent for pattern in ("train", "[!.]*/train") for train in sorted(partial.glob(pattern))]
        root = roots[0] if roots else partial
        lines = count_images(root, way_out=f"{archive} is not the authors' archive, or is incomplete")
        root.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return lines


def download(path: Path) -> None:
    """Download the authors' archive from Google Drive, and continue an interrupted download.

    Args:
        path: file to write.

    Raises:
        InputError: the download failed.
    """
    try:
        import gdown

        path.parent.mkdir(parents=True, exist_ok=True)
        gdown.download(id=DRIVE_ID, output=str(path), resume=True)
    except Exception as error:  # gdown's error classes differ by version, and it passes on those of its HTTP library
        reason = " ".join(str(error).split()) or type(error).__name__
        way_out = BY_HAND
        if any(path.parent.glob(f"{path.name}?*")):  # gdown's partial file
            way_out = f"run again to continue the download, or {BY_HAND}"
        reason = QUOTA_CAUSE if QUOTA.search(reason) else reason
        raise InputError(f"cannot download the authors' archive ({reason}); {way_out}") from error


def check_archive(path: Path, sha256: str | None) -> None:
    """Print the size and the SHA-256 of an archive, and refuse a wrong one.

    Args:
        path: the archive.
        sha256: expected digest in hexadecimal digits; None accepts any.

    Raises:
        InputError: the file cannot be read, is a web page, or has another SHA-256.
    """
    if not (path.is_file() and os.access(path, os.R_OK)):
        raise InputError(f"{printable(path)}: no such file, or it may not be read")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        page = file.read(2**20)
        if page.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
            cause = f" ({QUOTA_CAUSE})" if QUOTA.search(page.decode("utf-8", "replace")) else ""
            raise InputError(f"{printable(path)} is a web page, not an archive{cause}: delete it; {BY_HAND}")
        file.seek(0)
        while chunk := file.read(2**20):
            digest.update(chunk)
    digits = digest.hexdigest()
    say(f"{printable(path)}: {path.stat().st_size:,} bytes, SHA-256 {digits}")
    if sha256 is not None and digits != sha256.lower():
        wanted = sha256.lower()
        raise InputError(f"{printable(path)}: SHA-256 is {digits}, not {wanted}; delete the file and fetch it again")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar file (plain, gz or xz) into a new folder, with limits on its size.

    Args:
        archive: the tar file.
        folder: folder to create.

    Raises:
        InputError: the archive is damaged or exceeds a limit.
        StorageError: a file could not be written.
    """
    if not hasattr(tarfile, "data_filter"):
        raise InputError(f"Python {platform.python_version()} cannot unpack safely: use 3.10.12, 3.11.4 or later")
    try:
        folder.mkdir(parents=True)
        with tarfile.open(archive) as tar:
            limit = max(MIN_LIMIT_BYTES, MAX_RATIO * archive.stat().st_size)
            tar.extractall(folder, check_members(tar, limit), filter="data")
            # tarfile takes a broken header for the end, which is two blocks of zeros. Reading on verifies the checksum.
            if tar.fileobj is None or not tar.fileobj.read(2**20).startswith(bytes(tarfile.BLOCKSIZE)):
                raise tarfile.ReadError("it is truncated")
    except InputError as error:
        raise InputError(f"{printable(archive)}: {error}") from None
    except Exception as error:  # tarfile passes on the errors of lzma and zlib
        if isinstance(error, OSError) and error.errno:
            path = printable(error.filename or folder)
            raise StorageError(f"{path}: could not be written ({error.strerror})") from None
        reason = str(error).partition("\n")[0].rstrip(":") or type(error).__name__
        fault = f"cannot unpack {archive} ({reason}): if damaged, delete it and fetch it again"
        raise InputError(printable(fault)) from error


def check_members(tar: tarfile.TarFile, limit: int) -> Iterator[tarfile.TarInfo]:
    """Yield the files and folders of an archive, and refuse links, devices and archives that are too large.

    Args:
        tar: open archive.
        limit: bytes that it may unpack to.

    Raises:
        InputError: a member is refused.
    """
    num_bytes = 0
    for num_members, member in enumerate(tar, start=1):
        num_bytes += abs(member.size)  # damaged sizes may be negative
        refused = f"refused at member '{printable(member.name)}'"
        if num_bytes > limit or num_members > MAX_MEMBERS:
            raise InputError(
                f"{refused}: it unpacks to over {limit:,} bytes or {MAX_MEMBERS:,} files, too many for images"
            )
        if not (member.isreg() or member.isdir()):
            raise InputError(f"{refused}: a link or a device, not a file or folder")
        yield member


def count_images(folder: Path, *, way_out: str) -> list[str]:
    """Count the images in each class folder of train/, val/ or valid/, and test/, as `CXR_author` lists them.

    Args:
        folder: folder of the data set.
        way_out: advice for the message of an error.

    Returns:
        Lines of text, one per class folder.

    Raises:
        InputError: train/ or test/ holds no image.
    """
    lines, splits = [], set()
    for label in sorted(path for path in folder.glob("[tv]*/[!.]*") if path.is_dir()):
        split = label.parent.name
        num_images = sum(Path(file).suffix.lower() in IMAGE_SUFFIXES for file in files_below(label))
        if num_images and split in ("train", "val", "valid", "test"):
            splits.add(split)
            lines.append(f"{split + '/' + label.name:<30} {num_images:>7,} images")
    for split in ("train", "test"):
        if split not in splits:
            raise InputError(f"{printable(folder)}: holds no {split}/CLASS/ with images; {way_out}")
    return lines
