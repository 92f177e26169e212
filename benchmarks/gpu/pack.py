"""Pack data sets for the benchmark `gpu`: small copies of their images, up to a size."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
from PIL import Image

from benchmarks.gpu.stages import DATA_SETS

SIDE = 256  # pixels of the longer side, at most
QUALITY = 92
SPLITS = ("val", "test", "train")  # first those that are few; training images as far as the room goes
SUFFIXES = {".jpg", ".jpeg", ".png"}


def images_of(folder: Path) -> Iterator[Path]:
    """List the images of a data set, split by split; of a split, classes in turn, so that a part holds all of them."""
    for split in SPLITS:
        classes = [sorted(cls.iterdir()) for cls in sorted((folder / split).glob("*/"))]
        files = [[path for path in paths if path.suffix.lower() in SUFFIXES] for paths in classes]
        for number in range(max(map(len, files), default=0)):
            yield from (paths[number] for paths in files if number < len(paths))


def shrunk(path: Path) -> tuple[bytes, str]:
    """Read an image with a longer side of 256 pixels at most; return the content of its file and the suffix."""
    with Image.open(path) as image:
        if max(image.size) <= SIDE:
            return path.read_bytes(), path.suffix
        small = image.convert("L")
        small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    small.save(content, "JPEG", quality=QUALITY)
    return content.getvalue(), ".jpg"


def pack(source: Path, target: Path, *, room: int) -> int:
    """Copy a data set with its tables, image by image, as long as there is room.

    Args:
        source: folder of the data set.
        target: folder to write.
        room: bytes that the copies may take.

    Returns:
        Bytes that they take.
    """
    target.mkdir(parents=True, exist_ok=True)
    taken = 0
    for table in sorted(source.glob("*.csv")):
        shutil.copy(table, target)
        taken += table.stat().st_size
    for path in images_of(source):
        content, suffix = shrunk(path)
        if taken + len(content) > room:
            break
        copy = (target / path.relative_to(source)).with_suffix(suffix)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)
        taken += len(content)
    return taken


@click.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--mib", type=float, required=True, help="Size that the images may have, in MiB.")
def main(source: Path, target: Path, mib: float) -> None:
    """Copy the data sets of SOURCE to TARGET, with images of 256 pixels."""
    room = int(mib * 2**20)
    for name in DATA_SETS:
        if (source / name).is_dir():
            taken = pack(source / name, target / name, room=room)
            room -= taken
            num_images = sum(1 for _ in images_of(target / name))
            click.echo(f"{name}: {num_images} images, {taken / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
