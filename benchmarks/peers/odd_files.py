"""Files that are not 8-bit JPEG, and what the program, anomalib, imgad and lines of Pillow read of them.

`python -m benchmarks.peers.odd_files FILM OUT` makes them of one film, reads each, and writes OUT/odd.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.peers.fitted import images_below
from benchmarks.quality_table import table
from salad import Detector
from salad.errors import InputError
from salad.images.decoder import Decoder
from salad.images.in_memory import read_source
from salad.study.tables import Cells

ODD_FILE = "odd.json"
SIDE = 224  # of the pictures that are compared
LIKE = 0.99  # correlation with the film beyond which a picture is that of the film
DARK, BRIGHT = 5, 250  # mean grey levels of pictures that show nothing
CLIPPED = 0.2  # share of white pixels that were not white, beyond which a picture is clipped
RIGHT = "right"

Grey = NDArray[np.float64]
Pictures = Iterator[tuple[Path, "Grey | str"]]  # of each file: its picture, or why it is left out


def write_dicom(grey: NDArray[np.uint8], path: Path, *, is_inverted: bool = False) -> None:
    """Write a film as DICOM of 12 bits, inverted as MONOCHROME1 if asked for."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["film"])
    dicom = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    dicom.SOPClassUID, dicom.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dicom.Modality, dicom.SamplesPerPixel, dicom.PixelRepresentation = "DX", 1, 0
    dicom.PhotometricInterpretation = "MONOCHROME1" if is_inverted else "MONOCHROME2"
    dicom.BitsAllocated, dicom.BitsStored, dicom.HighBit = 16, 12, 11
    dicom.Rows, dicom.Columns = grey.shape
    levels = grey.astype(np.uint16) * 16
    dicom.PixelData = (4095 - levels if is_inverted else levels).tobytes()
    dicom.save_as(path, enforce_file_format=True)


def write_cut_off(grey: NDArray[np.uint8], path: Path) -> None:
    """Write the first half of a JPEG file."""
    Image.fromarray(grey).save(path, quality=95)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


Write = Callable[[NDArray[np.uint8], Path], object]
KINDS: dict[str, tuple[str, Write]] = {
    "8-bit PNG": ("film.png", lambda grey, path: Image.fromarray(grey).save(path)),
    "RGBA PNG": ("film.png", lambda grey, path: Image.fromarray(grey).convert("RGBA").save(path)),
    "16-bit PNG": ("film.png", lambda grey, path: Image.fromarray(grey.astype(np.uint16) * 257).save(path)),
    "12 bits in a 16-bit PNG": ("film.png", lambda grey, path: Image.fromarray(grey.astype(np.uint16) * 16).save(path)),
    "16-bit TIFF": ("film.tif", lambda grey, path: Image.fromarray(grey.astype(np.uint16) * 257).save(path)),
    "float TIFF, 0 to 1": ("film.tif", lambda grey, path: Image.fromarray(grey.astype(np.float32) / 255).save(path)),
    "float TIFF, 0 to 4095": ("film.tif", lambda grey, path: Image.fromarray(grey.astype(np.float32) * 16).save(path)),
    "DICOM": ("film.dcm", write_dicom),
    "DICOM, MONOCHROME1": ("film.dcm", lambda grey, path: write_dicom(grey, path, is_inverted=True)),
    "DICOM without a suffix": ("1.2.840.1", write_dicom),
    "JPEG called .jfif": ("film.jfif", lambda grey, path: Image.fromarray(grey).save(path, "JPEG", quality=95)),
    "JPEG that is cut off": ("film.jpg", write_cut_off),
    "text called .png": ("film.png", lambda _, path: path.write_text("no image", encoding="ascii")),
}
"""File name, and function that writes a film, by kind of file."""


def read_ours(folder: Path) -> Pictures:
    """Read the images below a folder as `salad predict` does: one that cannot be read gets a line with the reason."""
    decoder = Decoder(isize=SIDE, resize="squash")
    for source in Detector.files(folder):
        assert isinstance(source, Path), "a folder holds files"
        try:
            yield source, read_source(source, decoder).astype(np.float64)
        except InputError as error:
            yield source, str(error)


def read_anomalib(folder: Path) -> Pictures:
    """Read the images below a folder as anomalib's Engine does in a prediction."""
    from anomalib.data import PredictDataset

    dataset = PredictDataset(path=folder)
    for item in (dataset[index] for index in range(len(dataset))):
        pixels = (item.image.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        yield Path(item.image_path), _resized(Image.fromarray(pixels).convert("L"))


def read_imgad(folder: Path) -> Pictures:
    """Read the images below a folder as imgad does in a prediction."""
    from imgad.data import list_images
    from imgad.imageio import read_image

    for path in list_images(folder):
        yield Path(path), _resized(read_image(path).convert("L"))


def read_pillow(folder: Path) -> Pictures:
    """Read the images below a folder with Pillow, as features for scikit-learn or PyOD are made."""
    for path in images_below(folder):
        yield path, _resized(Image.open(path).convert("RGB").convert("L"))


READERS: dict[str, Callable[[Path], Pictures]] = {
    "this program": read_ours,
    "anomalib": read_anomalib,
    "imgad": read_imgad,
    "Pillow (scikit-learn, PyOD)": read_pillow,
}


ODD_CELLS: Cells = {
    "file": lambda row: str(row["file"]),
    **{reader: partial(lambda reader, row: str(row[reader]), reader) for reader in READERS},
}


def outcome(read: Callable[[Path], Pictures], folder: Path, odd: Path, film: Grey) -> str:
    """Say what a reader makes of an odd file that lies before an ordinary one.

    Args:
        read: reader.
        folder: holds the odd file and, later by name, an ordinary one.
        odd: the odd file.
        film: its true picture.
    """
    pictures: dict[Path, Grey | str] = {}
    try:
        for path, picture in read(folder):
            pictures[path.resolve()] = picture
    except ModuleNotFoundError as error:
        return f"{error.name} is not installed"
    except Exception as error:  # of whatever library reads it
        return f"ends the run: {type(error).__name__}"
    picture = pictures.get(odd.resolve(), "skipped without a word")
    if isinstance(picture, str):
        return picture if picture.startswith("skipped") else "left out with the reason"
    return describe(picture, film)


def describe(picture: Grey, film: Grey) -> str:
    """Say how a picture differs from the film."""
    if picture.mean() > BRIGHT:
        return "white"
    if picture.mean() < DARK:
        return "black"
    likeness = float(np.corrcoef(picture.ravel(), film.ravel())[0, 1])
    if likeness > LIKE and ((picture >= 255) & (film < BRIGHT)).mean() < CLIPPED:
        return RIGHT
    return "inverted" if likeness < -LIKE else f"another picture (correlation {likeness:.2f})"


def odd_table(out: Path) -> str:
    """Format what the readers made of the odd files as a Markdown table; empty where it is not known."""
    file = out / ODD_FILE
    if not file.exists():
        return ""
    outcomes: dict[str, dict[str, str]] = json.loads(file.read_text(encoding="utf-8"))
    return table([{"file": kind, **of_readers} for kind, of_readers in outcomes.items()], ODD_CELLS)


def _resized(image: Image.Image) -> Grey:
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR), dtype=np.float64)


def main(film: Path, out: Path) -> None:
    """Write the odd files below a folder, and what each reader makes of them."""
    image = Image.open(film).convert("L")
    grey = np.asarray(image)
    outcomes: dict[str, dict[str, str]] = {}
    for kind, (name, write) in KINDS.items():
        folder = out / kind
        folder.mkdir(parents=True, exist_ok=True)
        write(grey, folder / name)
        image.save(folder / "z.png")
        outcomes[kind] = {
            reader: outcome(read, folder, folder / name, _resized(image)) for reader, read in READERS.items()
        }
    (out / ODD_FILE).write_text(json.dumps(outcomes), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
