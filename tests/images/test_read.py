import io
import mmap
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile
from running import REPOSITORY
from tiff_files import png

from salad.errors import InputError
from salad.images import read as images
from salad.images.read import PICTURE_SUFFIXES, read_image


def picture(height=32, width=32):
    """A smooth film: a ramp in both directions and a bright disc off the centre."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    disc = 60 * ((x - 0.3) ** 2 + (y - 0.4) ** 2 < 0.04)
    return np.uint8(40 + 80 * x + 60 * y + disc)


def read(path, *, isize=32, resize="squash"):
    return read_image(path, isize=isize, resize=resize)


def as_mode(pixels, mode):
    image = Image.fromarray(pixels)
    if mode == "P":  # a palette that is no identity: grey levels upside down
        indexed = Image.fromarray(255 - pixels).convert("P")
        indexed.putpalette([level for i in range(256) for level in [255 - i] * 3])
        indexed.frombytes((255 - pixels).tobytes())
        return indexed
    return image.convert(mode)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".pgm"])
def test_grey_file_comes_back_as_it_is(tmp_path, suffix):
    Image.fromarray(picture()).save(tmp_path / f"film{suffix}")
    found = read(tmp_path / f"film{suffix}")
    assert found.dtype == np.uint8
    assert np.array_equal(found, picture())


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
def test_modes_give_the_same_image(tmp_path, mode):
    image = as_mode(picture(), mode)
    assert image.mode == mode
    image.save(tmp_path / "film.png")
    assert np.array_equal(read(tmp_path / "film.png"), picture())


@pytest.mark.parametrize("mode", ["P", "LA", "RGBA", "L", "RGB"])
def test_transparent_pixels_lie_on_black(tmp_path, mode, recwarn):
    image, hidden = as_mode(picture(), mode), np.zeros((32, 32), bool)
    options = {}
    if mode in ("LA", "RGBA"):
        hidden[:9] = True
        image.putalpha(Image.fromarray(np.uint8(~hidden) * 255))
    else:
        hidden = picture() == picture()[9, 9]
        level = int(picture()[9, 9])
        options["transparency"] = {"P": 255 - level, "L": level, "RGB": (level,) * 3}[mode]
    image.save(tmp_path / "film.png", **options)
    assert hidden.any() and np.array_equal(read(tmp_path / "film.png"), np.where(hidden, 0, picture()))
    assert not recwarn.list


def test_half_transparent_palette(tmp_path):
    as_mode(picture(), "P").save(tmp_path / "film.png", transparency=bytes([128] * 256))
    assert np.abs(read(tmp_path / "film.png") - picture() / 2).max() <= 1


def test_unused_byte_of_a_bmp_hides_nothing(tmp_path):
    image = as_mode(picture(), "RGBA")
    image.putalpha(0)
    image.save(tmp_path / "film.bmp")
    assert np.array_equal(read(tmp_path / "film.bmp"), picture())


def test_signs_that_pillow_drops(tmp_path):
    values = (np.arange(1024).reshape(32, 32) * 4_000_000).astype(np.uint32)
    (tmp_path / "film.tif").write_bytes(tiff(values))
    assert np.abs(read(tmp_path / "film.tif") - windowed(values)).max() <= 1
    values = (np.arange(1024).reshape(32, 32) / 4.01 - 128).astype(np.int8)
    (tmp_path / "film.tif").write_bytes(tiff(values))
    assert np.abs(read(tmp_path / "film.tif") - windowed(values)).max() <= 1


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_gives_nearly_the_same_image(tmp_path, suffix):
    Image.fromarray(picture()).convert("CMYK").save(tmp_path / f"film{suffix}")
    found = read(tmp_path / f"film{suffix}")
    assert np.abs(found.astype(int) - picture()).mean() < 3


def windowed(values):
    """Grey levels, not rounded, of values between their percentiles."""
    low, high = np.percentile(values, [0.5, 99.5], method="inverted_cdf").astype(float)
    return np.clip((values - low) / (high - low), 0, 1) * 255


@pytest.mark.parametrize(("low", "high"), [(0, 65535), (0, 4095), (1000, 5000), (30000, 30255)])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_stretched_from_their_own_range(tmp_path, low, high, suffix):
    share = np.arange(1024).reshape(32, 32) / 1023
    Image.fromarray(np.uint16(np.rint(low + share * (high - low)))).save(tmp_path / f"film{suffix}")
    found = read(tmp_path / f"film{suffix}")
    assert (found.min(), found.max()) == (0, 255)
    assert np.abs(found - windowed(share)).max() <= 2.1


def tiff(pixels, *, order="<", white_is_zero=False, packed=None):
    """A plain TIFF of one strip, with tags that Pillow does not write."""
    data = packed or pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    data += b"\0" * (len(data) % 2)
    bits = 12 if packed else pixels.dtype.itemsize * 8
    sample_format = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    short, long = 3, 4
    tags = [(256, long, pixels.shape[1]), (257, long, pixels.shape[0]), (258, short, bits), (259, short, 1)]
    tags += [(262, short, int(not white_is_zero)), (273, long, 8), (277, short, 1), (278, long, pixels.shape[0])]
    tags += [(279, long, len(data)), (339, short, sample_format)]
    found = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(data)) + data
    found += struct.pack(f"{order}H", len(tags))
    for tag, kind, value in tags:
        found += struct.pack(f"{order}HHI", tag, kind, 1)
        found += struct.pack(f"{order}HH", value, 0) if kind == short else struct.pack(f"{order}I", value)
    return found + bytes(4)


DEEP_LEVELS = np.arange(1024, dtype=np.uint16).reshape(32, 32) * 4


@pytest.mark.parametrize(
    ("content", "is_negative"),
    [
        (tiff(DEEP_LEVELS), False),
        (tiff(DEEP_LEVELS, order=">"), False),
        (tiff(DEEP_LEVELS.astype(np.int16) - 2000), False),
        (tiff(DEEP_LEVELS.astype(np.int16) - 2000, order=">"), False),
        (tiff(DEEP_LEVELS.astype(np.uint32) * 1000), False),
        (tiff(DEEP_LEVELS, packed=np.packbits(DEEP_LEVELS[..., None] >> np.arange(11, -1, -1) & 1).tobytes()), False),
        (tiff(np.uint8(DEEP_LEVELS // 16), white_is_zero=True), True),
        (tiff(DEEP_LEVELS, white_is_zero=True), True),
        (tiff(DEEP_LEVELS.astype(np.float32), white_is_zero=True), True),
    ],
    ids=["16", "big-endian", "signed", "signed big-endian", "32", "12 packed", "white 8", "white 16", "white float"],
)
def test_kinds_of_deep_tiff(tmp_path, content, is_negative):
    (tmp_path / "film.tif").write_bytes(content)
    expected = DEEP_LEVELS / DEEP_LEVELS.max() * 255
    found = read(tmp_path / "film.tif")
    assert np.abs(found - (255 - expected if is_negative else expected)).max() <= 4.1  # 8 bits: steps of 4 levels
    assert found.max() - found.min() >= 251


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_deeper_files_are_stretched_from_their_own_range(tmp_path, dtype):
    Image.fromarray((picture() * 1000.0 - 70000).astype(dtype)).save(tmp_path / "film.tif")
    assert np.abs(read(tmp_path / "film.tif") - windowed(picture())).max() <= 0.51


def test_constant_sixteen_bit_image(tmp_path):
    Image.fromarray(np.full((32, 32), 700, np.uint16)).save(tmp_path / "film.png")
    assert len(np.unique(read(tmp_path / "film.png"))) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_float_image_with_a_value_that_is_no_number(tmp_path, value):
    pixels = picture().astype(np.float32)
    pixels[0, 0] = value
    Image.fromarray(pixels).save(tmp_path / "film.tif")
    try:
        found = read(tmp_path / "film.tif")
    except InputError as error:
        assert "film.tif" in str(error)
    else:
        assert found[1:].std() > 10


def test_one_bit(tmp_path):
    pixels = picture() > 100
    Image.fromarray(pixels).save(tmp_path / "film.png")
    assert np.array_equal(read(tmp_path / "film.png"), pixels * np.uint8(255))


@pytest.fixture(params=[(20, 40), (40, 20)], ids=["wide", "high"])
def bars(request, tmp_path):
    """A 1 : 2 film of a dark and a bright half, cut across its longer side; its path and whether it is wide."""
    height, width = request.param
    pixels = np.full((height, width), 50, np.uint8)
    pixels[height // 2 if height > width else 0 :, width // 2 if width > height else 0 :] = 200
    Image.fromarray(pixels).save(tmp_path / "film.png")
    return tmp_path / "film.png", width > height


def columns(found, wide):
    """The film with its longer side along the first axis."""
    return found.T if wide else found


def test_squash_keeps_everything(bars):
    found = columns(read(bars[0], isize=40, resize="squash"), bars[1])
    assert found.shape == (40, 40)
    assert (found[:19] == 50).all()
    assert (found[21:] == 200).all()


def test_pad_adds_black_at_both_sides(bars):
    found = columns(read(bars[0], isize=40, resize="pad"), bars[1])
    assert (found[:, :10] == 0).all()
    assert (found[:, 30:] == 0).all()
    assert (found[:19, 10:30] == 50).all()
    assert (found[21:, 10:30] == 200).all()


def test_crop_keeps_the_middle(bars):
    pixels = np.zeros((20, 40), np.uint8)
    pixels[:, 10:30] = picture(20, 20)
    Image.fromarray(pixels if bars[1] else pixels.T).save(bars[0])
    assert np.array_equal(columns(read(bars[0], isize=20, resize="crop"), not bars[1]), picture(20, 20))


@pytest.mark.parametrize("resize", ["squash", "pad", "crop"])
@pytest.mark.parametrize("size", [(1, 1), (2, 40), (40, 2), (33, 31)])
def test_odd_shapes(tmp_path, resize, size):
    Image.new("L", size, 90).save(tmp_path / "film.png")
    found = read(tmp_path / "film.png", isize=16, resize=resize)
    assert found.shape == (16, 16)
    assert found.max() == 90


def test_downscaling_averages(tmp_path):
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255
    Image.fromarray(np.uint8(board)).save(tmp_path / "film.png")
    assert np.abs(read(tmp_path / "film.png", isize=8).astype(int) - 127).max() <= 3


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [(1, lambda a: a), (3, lambda a: a[::-1, ::-1]), (6, lambda a: np.rot90(a)), (8, lambda a: np.rot90(a, -1))],
)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_exif_rotation_is_undone(tmp_path, orientation, stored, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored(picture()))).save(tmp_path / f"film{suffix}", exif=exif)
    assert np.array_equal(read(tmp_path / f"film{suffix}"), picture())


def assert_refused(path):
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) > len(f"{path}: ") + 5
    return message


def test_missing_file(tmp_path):
    assert_refused(tmp_path / "absent.png")


def test_folder(tmp_path):
    (tmp_path / "film.png").mkdir()
    assert_refused(tmp_path / "film.png")


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"this is text\nof two lines\n", b"\x89PNG\r\n\x1a\n"])
def test_file_that_is_no_image(tmp_path, content):
    (tmp_path / "film.png").write_bytes(content)
    assert_refused(tmp_path / "film.png")


def encoded(suffix):
    buffer = io.BytesIO()
    Image.fromarray(picture()).save(buffer, Image.registered_extensions()[suffix])
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", sorted(PICTURE_SUFFIXES))
def test_half_a_file(tmp_path, suffix):
    (tmp_path / f"film{suffix}").write_bytes(encoded(suffix)[: len(encoded(suffix)) // 2])
    assert_refused(tmp_path / f"film{suffix}")


def test_damaged_exif_gives_an_image_or_an_input_error(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "abc"
    Image.fromarray(picture()).save(tmp_path / "film.jpg", exif=exif)
    content = (tmp_path / "film.jpg").read_bytes()
    assert content.count(b"\x01\x0f\x00\x02") == 1
    (tmp_path / "film.jpg").write_bytes(content.replace(b"\x01\x0f\x00\x02", b"\x01\x00\x00\x02"))
    try:
        assert np.abs(read(tmp_path / "film.jpg").astype(int) - np.rot90(picture(), -1)).mean() < 3
    except InputError as error:
        assert "film.jpg" in str(error)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".bmp", ".pgm"])
def test_damaged_bytes_give_an_image_or_an_input_error(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(images, "MAX_PIXELS", 10**6)  # a damaged header may ask for any size
    rng, whole, path = np.random.default_rng(0), np.frombuffer(encoded(suffix), np.uint8), tmp_path / f"film{suffix}"
    for _ in range(150):
        damaged = whole.copy()
        damaged[rng.integers(0, min(len(whole), 200), 3)] = rng.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes()[: rng.integers(1, len(whole) + 1)])
        try:
            assert read(path).shape == (32, 32)
        except InputError as error:
            assert "\n" not in str(error)


# Files that are no whole image -------------------------------------------------------------------------------------

DEEP = Image.fromarray(np.uint16(picture()) * 200)
REAL = Image.fromarray(picture().astype(np.float32))
KINDS = {
    "L.png": {}, "RGB.png": {}, "RGBA.png": {}, "LA.png": {}, "P.png": {}, "1.png": {}, "deep.png": {},
    "L.jpg": {}, "RGB.jpg": {}, "CMYK.jpg": {}, "L.jpeg": {"progressive": True},
    "L.tif": {}, "deep.tif": {}, "real.tif": {}, "RGB.tif": {"compression": "tiff_lzw"},
    "L.tiff": {"compression": "jpeg"}, "CMYK.tif": {"compression": "tiff_adobe_deflate"},
    "L.bmp": {}, "1.bmp": {}, "RGB.bmp": {}, "L.pgm": {}, "deep.pgm": {}, "RGB.ppm": {},
    "RGB.webp": {}, "RGBA.webp": {"lossless": True},
}  # fmt: skip


def write_kind(folder, kind):
    mode = kind.partition(".")[0]
    image = {"deep": DEEP, "real": REAL}.get(mode) or Image.fromarray(picture()).convert(mode)
    image.save(folder / kind, **KINDS[kind])
    return folder / kind


@pytest.mark.parametrize("kind", KINDS)
def test_file_cut_at_every_tenth_byte(tmp_path, kind, recwarn):
    path = write_kind(tmp_path, kind)
    whole, expected = path.read_bytes(), read(path)
    for length in range(0, len(whole), 10):
        path.write_bytes(whole[:length])
        try:
            found = read(path)
        except InputError as error:
            assert str(error).startswith(f"{path}: ")
        else:  # what was cut off is no part of the picture
            assert length > len(whole) // 2 and np.array_equal(found, expected), length
    assert not recwarn.list


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.endswith(("jpg", "jpeg"))])
def test_jpeg_whose_end_was_never_written(tmp_path, kind):
    path = write_kind(tmp_path, kind)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4].ljust(len(whole) + 4096, b"\0"))
    said = assert_refused(path)
    assert "cut off" in said or "its beginning is damaged" in said  # the latter with Pillow before 13


def test_jpeg_with_something_after_its_end(tmp_path):
    path = write_kind(tmp_path, "L.jpg")
    expected = read(path)
    path.write_bytes(path.read_bytes() + b"\0" * 999)
    assert np.array_equal(read(path), expected)


@pytest.mark.parametrize("kind", ["L.jpg", "L.tif", "L.bmp", "L.pgm", "RGB.webp"])
def test_content_counts_not_the_suffix(tmp_path, kind):
    path = write_kind(tmp_path, kind)
    expected = read(path)
    assert np.array_equal(read(path.rename(tmp_path / "film.png")), expected)


def test_formats_of_no_accepted_suffix_are_refused(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.gif")
    Image.fromarray(picture()).save(tmp_path / "a.eps")  # to decode it, Pillow would start a program
    for name in ("a.gif", "a.eps"):
        assert "not an image" in assert_refused((tmp_path / name).rename(tmp_path / "film.png"))


def png_header(width, height):
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rest = b"IDAT" + zlib.compress(b"\0" * 100)
    chunks = [struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in (chunk, rest)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def headers(width, height):
    """Small files whose headers ask for an image of this size."""
    found = {"film.png": png_header(width, height), "film.pgm": b"P5 %d %d 255\n" % (width, height) + b"0" * 100}
    sides = struct.pack(">HH", height, width)
    found["film.jpg"] = encoded(".jpg").replace(b"\x08\0\x20\0\x20", b"\x08" + sides)
    found["film.bmp"] = encoded(".bmp").replace(struct.pack("<ii", 32, 32), struct.pack("<ii", width, height))
    found["film.tif"] = encoded(".tif")
    for tag, side in ((256, width), (257, height)):  # a short or a long number
        pattern = struct.pack("<H", tag) + b"[\3\4]\0\1\0\0\0\x20\0\0\0"
        found["film.tif"], count = re.subn(
            pattern, lambda _, tag=tag, side=side: struct.pack("<HHII", tag, 4, 1, side), found["film.tif"]
        )
        assert count == 1
    return found


FORMATS = ["film.png", "film.pgm", "film.jpg", "film.bmp", "film.tif"]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("size", [(0, 0), (0, 32), (32, 0)])
def test_header_of_an_image_without_pixels(tmp_path, name, size):
    (tmp_path / name).write_bytes(headers(*size)[name])
    assert_refused(tmp_path / name)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("size", [(30000, 30000), (8193, 8192), (10000, 10000)])
def test_header_of_an_image_too_large_to_decode(tmp_path, name, size, recwarn, monkeypatch):
    (tmp_path / name).write_bytes(headers(*size)[name])
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    message = assert_refused(tmp_path / name)
    assert f"{size[0]} x {size[1]}" in message or "exceeds limit" in message
    assert not recwarn.list


def test_headers_of_huge_images_cost_no_memory(tmp_path):
    for name, content in headers(30000, 30000).items():
        (tmp_path / name).write_bytes(content)
    script = """
import resource, sys
from pathlib import Path
from salad.images.read import read_image
from salad.errors import InputError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in Path(sys.argv[1]).iterdir():
    try:
        read_image(path, isize=32, resize="squash")
    except InputError:
        print(path.name)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path], cwd=REPOSITORY, capture_output=True, text=True)
    *refused, mebibytes = done.stdout.split()
    assert sorted(refused) == sorted(FORMATS) and int(mebibytes) < 50
    assert done.stderr == ""


def test_image_that_would_take_minutes(tmp_path):
    palette = b"".join(bytes([i, i, i, 0]) for i in range(256))
    header = struct.pack("<IiiHHIIiiII", 40, 8192, 8192, 1, 8, 1, 0, 0, 0, 256, 0)
    rows = b"\1\5\0\0" * 8192 + b"\0\1"
    (tmp_path / "film.bmp").write_bytes(b"BM" + struct.pack("<IHHI", 0, 0, 0, 1078) + header + palette + rows)
    (tmp_path / "film.pgm").write_bytes(b"P2 1025 1024 255\n" + b"1 " * (1025 * 1024))
    for name in ("film.bmp", "film.pgm"):
        assert "takes minutes" in assert_refused(tmp_path / name)


def test_twelve_bit_pgm_of_a_size_that_pillow_would_take_seconds_for(tmp_path):
    values = (np.arange(1100 * 1000) % 4096).astype(">u2")
    (tmp_path / "film.pgm").write_bytes(b"P5 1100 1000 4095\n" + values.tobytes())
    Image.fromarray(values.astype(np.uint16).reshape(1000, 1100)).save(tmp_path / "film.png")
    assert np.array_equal(read(tmp_path / "film.pgm"), read(tmp_path / "film.png"))


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1)])
@pytest.mark.parametrize("resize", ["squash", "pad", "crop"])
def test_image_so_narrow_that_nothing_would_be_left(tmp_path, size, resize):
    Image.new("L", size, 90).save(tmp_path / "film.png")
    found = read(tmp_path / "film.png", isize=16, resize=resize)
    assert found.shape == (16, 16) and found.max() > 0


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_first_frame_of_an_animation(tmp_path, suffix):
    frames = [Image.fromarray(frame).convert("RGB") for frame in (picture(), 255 - picture())]
    frames[0].save(tmp_path / f"film{suffix}", save_all=True, append_images=frames[1:], duration=50, lossless=True)
    with Image.open(tmp_path / f"film{suffix}") as image:
        assert image.n_frames == 2
    assert np.array_equal(read(tmp_path / f"film{suffix}"), picture())


def test_tiff_of_several_pages_is_refused(tmp_path):
    pages = [Image.fromarray(page) for page in (picture(), 255 - picture())]
    pages[0].save(tmp_path / "film.tif", save_all=True, append_images=pages[1:])
    assert "several pages" in assert_refused(tmp_path / "film.tif")


def test_exif_rotation_of_a_jpeg_is_undone(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(picture()))).save(tmp_path / "film.jpg", exif=exif)
    assert np.abs(read(tmp_path / "film.jpg").astype(int) - picture()).mean() < 3


# Files that cannot be opened, or should not be ---------------------------------------------------------------------


def test_links_that_lead_nowhere(tmp_path):
    (tmp_path / "dangling.png").symlink_to("absent.png")
    (tmp_path / "circle.png").symlink_to("circle.png")
    assert "link to a file that is not there" in assert_refused(tmp_path / "dangling.png")
    assert "back to itself" in assert_refused(tmp_path / "circle.png")


def test_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "film.png")
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("blocked"))
    signal.alarm(5)
    try:
        assert "a folder, a pipe or a device" in assert_refused(tmp_path / "film.png")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def test_file_without_permission(tmp_path, monkeypatch):
    def refuse(self, *_):
        raise PermissionError(13, "Permission denied", str(self))

    path = write_kind(tmp_path, "L.png")
    monkeypatch.setattr(Path, "open", refuse)  # the tests may run as root, who may read everything
    assert "Permission denied" in assert_refused(path)


def test_file_that_belongs_to_somebody_else():
    """With real permissions: the tests may run as root, so as nobody for a moment."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_kind(Path(folder), "L.png")
        Path(folder).chmod(0o755)
        path.chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            assert "Permission denied" in assert_refused(path)
        finally:
            os.seteuid(user)


def test_file_too_large_to_be_read(tmp_path):
    path = write_kind(tmp_path, "RGB.webp")
    with path.open("r+b") as file:
        file.truncate(images.MAX_FILE_BYTES + 1)
    assert "bytes" in assert_refused(path)


@pytest.mark.parametrize("kind", ["L.bmp", "L.pgm", "L.tif"])
def test_files_are_not_mapped_into_memory(tmp_path, monkeypatch, kind):
    path = write_kind(tmp_path, kind)
    monkeypatch.setattr(mmap, "mmap", lambda *_, **__: pytest.fail("mapped: a file cut meanwhile kills the process"))
    assert np.array_equal(read(path), picture())


def test_messages_escape_what_a_name_may_hold(tmp_path):
    path = tmp_path / os.fsdecode(b"a\nb\x1b[2J\xff.png")
    path.write_bytes(b"no image")
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{tmp_path}/a\\nb\\x1b[2J\\udcff.png: not an image")


# Masks --------------------------------------------------------------------------------------------------------------

MARKED = np.zeros((32, 32), bool)
MARKED[3:5, 7:9] = True
BLUE = MARKED[..., None] * np.array([0, 0, 1], np.uint8)


@pytest.mark.parametrize(
    "mask",
    [
        MARKED,
        MARKED.astype(np.uint8),
        BLUE,
        np.dstack([BLUE, np.full((32, 32), 255, np.uint8)]),
        np.dstack([np.full((32, 32, 3), 9, np.uint8), MARKED * np.uint8(255)]),  # what is not marked is transparent
        MARKED.astype(np.uint16),
        np.where(np.arange(32) > 20, np.uint16(60000), MARKED.astype(np.uint16)),
        MARKED.astype(np.int32),
        MARKED * np.float32(0.001),
    ],
)
def test_marks_are_all_pixels_above_zero(tmp_path, mask):
    path = tmp_path / ("mask.tif" if mask.dtype in (np.int32, np.float32) else "mask.png")
    Image.fromarray(mask).save(path)
    expected = MARKED | (np.arange(32) > 20) if mask.max() == 60000 else MARKED
    assert np.array_equal(np.asarray(images.read_marks(path)), expected * np.uint8(255))


def test_marks_of_palettes_and_of_deep_colours(tmp_path):
    indexed = Image.fromarray(MARKED.astype(np.uint8)).convert("P")
    indexed.putpalette([0, 0, 0, 0, 0, 200])
    indexed.save(tmp_path / "mask.png")
    (tmp_path / "deep.png").write_bytes(png(BLUE.astype(np.uint16)))
    for name in ("mask.png", "deep.png"):
        assert np.array_equal(np.asarray(images.read_marks(tmp_path / name)), MARKED * np.uint8(255))
