"""Read a DICOM file to a grey image with pydicom.

Messages of pydicom and the decoders may quote the file, and so the patient's data. They are never passed on.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import re
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from salad.errors import InputError, shortage
from salad.images.dicom_bits import without_unused_bits
from salad.images.dicom_header import code, whole_number
from salad.images.dicom_window import grey_levels
from salad.images.jpeg import check_jpeg
from salad.packages import install_command

if TYPE_CHECKING:
    from pydicom import Dataset

DICOM_SUFFIXES = frozenset({".dcm", ".dic", ".dicom"})
HEAD_BYTES = 132  # first bytes of a file, which show that it is DICOM
BARE_STARTS = (b"\x02\0", b"\x08\0", b"\0\x08")  # possible first groups of elements in a file without a preamble
BARE_VRS = {b"UL", b"UI", b"CS", b"DA", b"TM", b"LO", b"SH", b"OB", b"PN"}
MAX_UNPACKED_BYTES = 2**28  # size of a deflated file after unpacking
DEFLATED = "1.2.840.10008.1.2.1.99"
NATIVE = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", DEFLATED, "1.2.840.10008.1.2.2"}
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
# pydicom's names of the decoders that run in this process. Pillow and pydicom's own survive any damaged input.
PLUGINS = {
    JPEG_BASELINE: "pillow",  # 8 bits
    "1.2.840.10008.1.2.4.90": "pillow",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.91": "pillow",  # JPEG 2000
    "1.2.840.10008.1.2.5": "pydicom",  # RLE
    "1.2.840.10008.1.2.4.201": "pylibjpeg",  # high-throughput JPEG 2000, lossless
    "1.2.840.10008.1.2.4.202": "pylibjpeg",
    "1.2.840.10008.1.2.4.203": "pylibjpeg",
}
NEEDS_PACKAGE = {"pylibjpeg": "pylibjpeg pylibjpeg-openjpeg"}
# Read by GDCM, which aborts on some damaged frames: it runs in a separate process for each file.
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"  # 8 bits (read by Pillow) or 12
GDCM = {JPEG_EXTENDED, *(f"1.2.840.10008.1.2.4.{number}" for number in (57, 70, 80, 81))}  # JPEG lossless, JPEG-LS
GDCM_SCRIPT = Path(__file__).with_name("gdcm_process.py")
GDCM_SECONDS = 60
PRECISION = re.compile(rb"\xff[\xc3\xf7]\0.(.)", re.DOTALL)  # bits of a lossless JPEG or a JPEG-LS
# JPEG of these kinds ends with a marker that cannot occur in its data; decoders fill missing pixels with grey
HAVE_END_MARK = {JPEG_BASELINE, *GDCM}
GREY, PALETTE = {"MONOCHROME1", "MONOCHROME2"}, "PALETTE COLOR"
COLOURS = {"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"}
PALETTE_ELEMENTS = "{}PaletteColorLookupTableDescriptor", "{}PaletteColorLookupTableData"
FLOAT_PIXELS = "FloatPixelData", "DoubleFloatPixelData"
# The only elements that are read: none of them identifies a patient.
ELEMENTS = [
    *("SOPClassUID", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames"),
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence", "PresentationLUTShape"),
    *(name.format(colour) for name in PALETTE_ELEMENTS for colour in ("Red", "Green", "Blue")),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths", *FLOAT_PIXELS),
]
NUMBERS = "Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "PixelRepresentation"
HEADER_ELEMENTS = ["Rows", "Columns", "BitsStored", "PhotometricInterpretation"]

_importing = threading.Lock()


def is_dicom(head: bytes, suffix: str) -> bool:
    """Detect a DICOM file by its first `HEAD_BYTES` bytes; its suffix tells only where these leave it open."""
    if head[128:132] == b"DICM":
        return True
    return head[:2] in BARE_STARTS and (suffix.lower() in DICOM_SUFFIXES or _starts_with_element(head))


def _starts_with_element(head: bytes) -> bool:
    """Tell if a file without a preamble starts with a short element that has a value representation or a length."""
    length = int.from_bytes(head[4:8], "little" if head[0] else "big")
    return head[4:6] in BARE_VRS or (len(head) == HEAD_BYTES and 0 < length <= 64 and length % 2 == 0)


def read_dicom(content: bytes, *, max_pixels: int) -> Image.Image:
    """Decode a DICOM file with one image to the grey levels that a screen would show.

    Args:
        content: bytes of the whole file.
        max_pixels: largest number of pixels to decode.

    Returns:
        A grey image (mode L), see `grey_levels`; colours become grey as in any other file.

    Raises:
        InputError: the file is damaged, holds no image or several, or a decoder is missing. The message quotes only
            numbers that describe the pixels.
    """
    if importlib.util.find_spec("pydicom") is None:
        raise InputError(f"a DICOM file; to read it, {install_command('dicom')}")
    import_pydicom()
    try:
        ds, syntax = _parse(content)
        _check(ds, syntax, max_pixels)
        pixels = _decode(ds, syntax)
        if ds.PhotometricInterpretation in GREY:
            return Image.fromarray(grey_levels(pixels, ds))
        return Image.fromarray(_to_rgb(pixels, ds)).convert("L")
    except InputError:
        raise
    except Exception as error:  # damaged files raise any exception; its text may quote the file and is dropped
        if shortage(error):
            raise
        raise InputError(f"a DICOM file that is damaged or cut off ({type(error).__name__})") from None


def read_header(ds: Dataset) -> tuple[int, int, str]:
    """Read the width, height and kind of pixels from the elements `HEADER_ELEMENTS` of a DICOM file.

    Raises:
        Exception: of any kind, if the file is damaged.
    """
    kind = ds.PhotometricInterpretation
    if kind not in GREY | COLOURS | {PALETTE}:  # unknown text from a file is never passed on
        raise InputError("a DICOM file of an unknown kind of pixels")
    return int(ds.Columns), int(ds.Rows), f"{kind} {int(ds.BitsStored)} bit"


def read_elements(file: BinaryIO, elements: list[Any]) -> Dataset:
    """Read elements that stand before the pixels of a DICOM file, by keyword or number.

    Raises:
        Exception: of any kind, if the file is damaged or pydicom is not installed.
    """
    import_pydicom()
    import pydicom

    if DEFLATED.encode() in file.read(1024):
        file.seek(0)
        _check_deflated(file.read(MAX_UNPACKED_BYTES + 1))
    file.seek(0)
    return pydicom.dcmread(file, force=True, stop_before_pixels=True, specific_tags=elements)


def import_pydicom() -> None:
    """Import pydicom without GDCM, and silence its warnings and log in all threads.

    pydicom imports GDCM if it is installed. GDCM loads its own zlib, which replaces that of the whole process:
    Pillow and Python then crash at the next PNG or deflated file.
    """
    modules = r"pydicom\b|salad\.images\.dicom"
    with _importing:
        if "pydicom" not in sys.modules and "gdcm" not in sys.modules:
            sys.modules["gdcm"] = None  # type: ignore[assignment]
            try:
                import pydicom  # noqa: F401
            finally:
                del sys.modules["gdcm"]
        # added only once: adding a filter again removes it for a moment, and other threads would warn
        if ("ignore", None, Warning, re.compile(modules), 0) not in warnings.filters:
            logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
            warnings.filterwarnings("ignore", module=modules)


def _parse(content: bytes) -> tuple[Dataset, str]:
    """Parse the needed elements and the transfer syntax of a file."""
    import pydicom

    if DEFLATED.encode() in content[:1024]:
        _check_deflated(content)
    ds = pydicom.dcmread(io.BytesIO(content), force=True, specific_tags=ELEMENTS)
    syntax = ds.file_meta.get("TransferSyntaxUID")
    if syntax is None:  # no meta information: pydicom has guessed the encoding from the first element
        is_implicit, is_little = ds.original_encoding
        syntax = pydicom.uid.ImplicitVRLittleEndian if is_implicit else pydicom.uid.ExplicitVRLittleEndian
        ds.file_meta.TransferSyntaxUID = syntax if is_little else pydicom.uid.ExplicitVRBigEndian
    return ds, str(ds.file_meta.TransferSyntaxUID)


def _check_deflated(content: bytes) -> None:
    """Raise `InputError` if a deflated file unpacks to very much."""
    (length,) = struct.unpack_from("<I", content, 140)  # length of the meta information, which is not deflated
    unpacked = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content[144 + length :], MAX_UNPACKED_BYTES + 1)
    if len(unpacked) > MAX_UNPACKED_BYTES:
        raise InputError(f"a deflated DICOM file that unpacks to more than {MAX_UNPACKED_BYTES:,} bytes")


def _set_whole(ds: Dataset, name: str, *, default: int | None = None) -> int:
    """Set an element to the whole number that it holds in any VR, for pydicom; see `whole_number`."""
    value = whole_number(ds, name, default=default)
    if name in ds:
        del ds[name]
    setattr(ds, name, value)
    return value


def _check(ds: Dataset, syntax: str, max_pixels: int) -> None:
    """Raise InputError, before decoding, if a file cannot give one complete image."""
    for name in FLOAT_PIXELS:
        if name in ds:
            raise InputError(f"a DICOM file with {name}: only PixelData, of whole numbers, is read: convert it")
    if not ds.get("PixelData"):
        kind = getattr(ds.get("SOPClassUID") or ds.file_meta.get("MediaStorageSOPClassUID"), "name", "")
        if "Rows" in ds or "Image Storage" in kind:
            raise InputError("a DICOM file that is damaged or cut off: it ends before its pixels")
        known = f" ({kind})" if re.fullmatch(r"[A-Z][A-Za-z -]+Storage", kind) else ""
        raise InputError(f"a DICOM file without an image{known}")
    frames = whole_number(ds, "NumberOfFrames", default=1)
    if frames > 1:
        raise InputError(f"a DICOM file of {frames} frames: save each of them as a file")
    rows, columns, samples, bits, stored, signed = (_set_whole(ds, name) for name in NUMBERS)
    if rows * columns > max_pixels:
        raise InputError(f"{columns} x {rows} pixels; at most {max_pixels:,} are decoded: shrink it")
    if rows * columns == 0 or samples not in (1, 3):
        raise InputError(f"a DICOM file of {columns} x {rows} pixels with {samples} samples each")
    if bits > 16:
        raise InputError(f"a DICOM file with {bits} bits allocated for a pixel; at most 16 are read")
    if bits not in (1, 8, 16):
        raise InputError(f"a DICOM file with BitsAllocated {bits}: 1, 8 and 16 are read")
    if not 0 < stored <= bits or signed not in (0, 1):
        raise InputError(f"a DICOM file with BitsStored {stored} of BitsAllocated {bits}, PixelRepresentation {signed}")
    high = whole_number(ds, "HighBit", default=stored - 1)
    if high != stored - 1:
        raise InputError(f"a DICOM file whose {stored} bits end at bit {high}, which the standard forbids")
    if samples == 3:
        _set_whole(ds, "PlanarConfiguration", default=0)
    kinds = GREY | {PALETTE} if samples == 1 else COLOURS
    kind = code(ds, "PhotometricInterpretation")
    if not kind and not ds.get("PhotometricInterpretation"):
        raise InputError("a DICOM file without PhotometricInterpretation")
    ds.PhotometricInterpretation = kind
    if kind not in kinds:
        raise InputError(f"a DICOM file of {samples} samples a pixel that is none of {', '.join(sorted(kinds))}")
    if syntax in NATIVE:
        line = bits * (2 if kind == "YBR_FULL_422" else samples)
        if len(ds.PixelData) < rows * columns * line // 8:
            raise InputError("a DICOM file that is cut off: it holds fewer pixels than its header says")
        rest = ds.PixelData[-(-rows * columns * line // 8) :]
        # equal bytes are padding, less than a line may be anything
        if len(rest) > max(1, min(rows, columns) * line // 8 - 1) and rest.count(rest[:1]) < len(rest):
            raise InputError("a DICOM file that holds more pixels than its header says: its Rows or Columns are wrong")


def _decode(ds: Dataset, syntax: str) -> NDArray[np.generic]:
    """Decode the stored pixels, (H, W) or (H, W, 3); YBR is converted to RGB."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import ExplicitVRLittleEndian

    if syntax in GDCM or syntax in PLUGINS:
        frame = _frame(ds)
        if syntax in HAVE_END_MARK and b"\xff\xd9" not in frame:
            raise InputError("a DICOM file whose JPEG has no end: cut off")
        if syntax == JPEG_BASELINE or (syntax == JPEG_EXTENDED and ds.BitsStored == 8):
            check_jpeg(frame)
    plugin = PLUGINS.get(syntax, "")
    if syntax == JPEG_EXTENDED and ds.BitsStored == 8:
        plugin = "pillow"
    elif syntax in GDCM:
        ds.PixelData = _decode_apart(frame, ds, syntax)
        ds.file_meta.TransferSyntaxUID = syntax = ExplicitVRLittleEndian
        if ds.PhotometricInterpretation == "YBR_FULL_422":  # GDCM has given every pixel its own chroma
            ds.PhotometricInterpretation = "YBR_FULL"
    elif syntax not in NATIVE and syntax not in PLUGINS:
        known = syntax if re.fullmatch(r"[0-9.]{1,64}", syntax) else "unknown"
        raise InputError(f"a DICOM file of transfer syntax {known}, which cannot be read: convert it to JPEG 2000")
    decoder = get_decoder(syntax)
    if plugin and plugin not in decoder.available_plugins:
        raise InputError(f"a DICOM file of transfer syntax {syntax}; to read it, pip install {NEEDS_PACKAGE[plugin]}")
    options: Any = {"correct_unused_bits": False}  # pydicom's own types know no options
    pixels = decoder.as_array(ds, index=0, decoding_plugin=plugin, **options)[0]
    return without_unused_bits(pixels, ds)


def _frame(ds: Dataset) -> bytes:
    """Extract the compressed image."""
    from pydicom.encaps import get_frame

    offsets = ds.get("ExtendedOffsetTable"), ds.get("ExtendedOffsetTableLengths")
    return get_frame(ds.PixelData, 0, number_of_frames=1, extended_offsets=offsets if all(offsets) else None)


def _decode_apart(frame: bytes, ds: Dataset, syntax: str) -> bytes:
    """Decode a frame with GDCM in a separate process, which may abort or hang.

    Sets the sample size and the planar configuration in `ds` to those of the decoded bytes.
    """
    if importlib.util.find_spec("gdcm") is None:
        raise InputError(f"a DICOM file of transfer syntax {syntax}; to read it, {install_command('dicom')}")
    shape = ds.Rows, ds.Columns, ds.SamplesPerPixel
    precision = PRECISION.search(frame)  # which GDCM does not look at
    stored = max(ds.BitsStored, min(precision[1][0], ds.BitsAllocated) if precision else 0)
    words = [syntax, ds.PhotometricInterpretation, *shape, ds.BitsAllocated, stored, ds.PixelRepresentation]
    try:
        done = subprocess.run(
            [sys.executable, str(GDCM_SCRIPT), *map(str, words)],
            input=frame,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=GDCM_SECONDS,
            start_new_session=True,  # Ctrl-C must reach only this program, which first finishes its step
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"a DICOM file that takes more than {GDCM_SECONDS} seconds to decode") from None
    sample_bytes, rest = divmod(len(done.stdout), int(np.prod(shape)))
    if done.returncode != 0 or rest or sample_bytes not in (1, 2):
        raise InputError("a DICOM file whose compressed pixels are damaged")
    ds.BitsAllocated, ds.PlanarConfiguration = 8 * sample_bytes, 0
    return done.stdout


def _to_rgb(pixels: NDArray[np.generic], ds: Dataset) -> NDArray[np.uint8]:
    """Convert decoded colours or palette entries to 8-bit RGB, (H, W, 3)."""
    from pydicom.pixels.processing import apply_color_lut

    bits = int(ds.BitsStored)
    if ds.PhotometricInterpretation == PALETTE:
        pixels = apply_color_lut(pixels, ds)
        bits = 16 if pixels.max() > 255 else 8  # entries of 8 bits may be stored as 16
    return (pixels.astype(np.uint16) >> max(0, bits - 8)).astype(np.uint8)
