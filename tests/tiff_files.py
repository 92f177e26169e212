"""TIFF and PNG files of kinds that Pillow does not write."""

import struct
import zlib

import numpy as np

SHORT, LONG = 3, 4


def tiff(*pages: np.ndarray | dict, order: str = "<", deflate: bool = False, **tags: object) -> bytes:
    """A TIFF of one strip a page.

    Args:
        pages: pixels, (H, W) or (H, W, C); or a dictionary of `pixels` and tags of this page, such as {254: 1}.
        order: ``<`` or ``>``.
        deflate: whether the strips are compressed.
        tags: tags of all pages by number, as ``t262=0``; values are short numbers or lists of them.
    """
    content, links = (b"II*\0" if order == "<" else b"MM\0*") + bytes(4), [4]
    for page in pages:
        own = dict(page) if isinstance(page, dict) else {"pixels": page}
        pixels = own.pop("pixels")
        samples = pixels.shape[2] if pixels.ndim == 3 else 1
        data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
        data = zlib.compress(data) if deflate else data
        kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
        entries = {
            256: pixels.shape[1], 257: pixels.shape[0], 258: [pixels.dtype.itemsize * 8] * samples,
            259: 8 if deflate else 1, 262: 2 if samples > 2 else 1, 273: len(content), 277: samples,
            278: pixels.shape[0], 279: len(data), 339: [kind] * samples,
        }  # fmt: skip
        entries |= {338: [2]} if samples in (2, 4) else {}
        entries |= {int(name[1:]): value for name, value in tags.items()} | own
        content += data + b"\0" * (len(data) % 2)
        table = b""
        for tag, value in sorted(entries.items()):
            values = value if isinstance(value, list) else [value]
            form, letter = (LONG, "I") if tag in (273, 279) else (SHORT, "H")
            packed = struct.pack(f"{order}{len(values)}{letter}", *values)
            if len(packed) > 4:
                content, packed = content + packed, struct.pack(f"{order}I", len(content))
            table += struct.pack(f"{order}HHI", tag, form, len(values)) + packed.ljust(4, b"\0")
        content = content[: links[-1]] + struct.pack(f"{order}I", len(content)) + content[links[-1] + 4 :]
        content += struct.pack(f"{order}H", len(entries)) + table
        links.append(len(content))
        content += bytes(4)
    return content


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(pixels: np.ndarray, *before: bytes, after: bytes = b"") -> bytes:
    """A PNG of 8 or 16 bits, (H, W) or (H, W, C), with more chunks before and after its pixels."""
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[samples]
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], pixels.dtype.itemsize * 8, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in pixels)
    chunks = chunk(b"IHDR", header), *before, chunk(b"IDAT", zlib.compress(rows)), after, chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
