"""DICOM files of any transfer syntax, made in a test."""

import importlib.util
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from salad.images.dicom import import_pydicom

import_pydicom()  # first, without GDCM, which must stay out of this process
import pydicom  # noqa: E402
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402

IMPLICIT, EXPLICIT, DEFLATED = (f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".1.99"))
BIG_ENDIAN, RLE = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5"
BASELINE, EXTENDED, LOSSLESS, LOSSLESS_FIRST, LS, NEAR_LS, J2K, LOSSY_J2K = (
    f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70, 80, 81, 90, 91)
)
SECRET = "Quaddlebuck^Jemimah"  # the patient of every file
TEST_FILES = Path(pydicom.__file__).parent / "data/test_files"  # the small files that pydicom brings
DATA = Path(importlib.util.find_spec("data_store").origin).parent / "data"  # pydicom-data


def dataset(pixels: np.ndarray, *, bits: int | None = None, **elements: object) -> Dataset:
    """An uncompressed image with a patient.

    Args:
        pixels: whole numbers of 8 or 16 bits, (H, W) or (H, W, 3).
        bits: bits stored; by default all.
        elements: more of them, or others, by keyword; None leaves one out.
    """
    ds = Dataset()
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = SECRET, f"{SECRET}-7", "19010203"
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3.4", "DX"
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.SamplesPerPixel = pixels.shape[2] if pixels.ndim == 3 else 1
    ds.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = pixels.dtype.itemsize * 8
    ds.BitsStored = bits or ds.BitsAllocated
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    ds["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    for name, value in elements.items():
        if value is None:
            del ds[name]
        else:
            setattr(ds, name, value)
    return ds


def with_text(ds: Dataset, name: str, text: str = SECRET) -> Dataset:
    """A dataset with text in an element for numbers or codes; IMPLICIT as it is written, nothing tells of that."""
    tag = pydicom.datadict.tag_for_keyword(name)
    if name in ds:
        del ds[tag]
    ds.add_new(tag, "LO", text)
    return ds


def written(ds: Dataset, syntax: str = EXPLICIT, *, frame: bytes | None = None) -> bytes:
    """A file of a dataset: with its native pixels, run-length coded ones, or a frame that is compressed already."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3", "1.2.3.4"
    ds.file_meta.TransferSyntaxUID = EXPLICIT if syntax == RLE else syntax
    if syntax == RLE:
        ds.compress(RLE, encoding_plugin="pydicom")
    elif syntax == BIG_ENDIAN and ds.BitsAllocated == 16:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").byteswap().tobytes()
    if frame is not None:
        ds.PixelData = encapsulate([frame])
        ds["PixelData"].VR = "OB"
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def with_pillow(pixels: np.ndarray, kind: str, **how: object) -> bytes:
    """A frame that Pillow compresses."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **how)
    return buffer.getvalue()


TRANSCODE = """
import sys, gdcm
source, target, syntax = sys.argv[1:]
reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
reader.SetFileName(source)
change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
assert reader.Read()
change.SetInput(reader.GetImage())
assert change.Change()
writer.SetFileName(target)
writer.SetFile(reader.GetFile())
writer.SetImage(change.GetOutput())
assert writer.Write()
"""


def with_gdcm(content: bytes, syntax: str, folder: Path) -> bytes:
    """A native file transcoded, in another process."""
    native, found = folder / "native.dcm", folder / "transcoded.dcm"
    native.write_bytes(content)
    subprocess.run([sys.executable, "-c", TRANSCODE, native, found, syntax], cwd=folder, check=True)
    assert syntax.encode() in found.read_bytes()[:400]
    return found.read_bytes()
