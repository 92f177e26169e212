import io

import numpy as np
import pytest
from PIL import Image

from salad.datasets.images import IMAGE_SUFFIXES, read_image
from salad.errors import InputError


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


def test_palette_with_transparency_gives_the_same_image(tmp_path, recwarn):
    as_mode(picture(), "P").save(tmp_path / "film.png", transparency=bytes(range(256)))
    assert np.array_equal(read(tmp_path / "film.png"), picture())
    assert not recwarn.list


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_gives_nearly_the_same_image(tmp_path, suffix):
    Image.fromarray(picture()).convert("CMYK").save(tmp_path / f"film{suffix}")
    found = read(tmp_path / f"film{suffix}")
    assert np.abs(found.astype(int) - picture()).mean() < 3


@pytest.mark.parametrize(("low", "high"), [(0, 65535), (0, 4095), (1000, 5000), (30000, 30255)])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_stretched_from_their_own_range(tmp_path, low, high, suffix):
    share = np.arange(1024).reshape(32, 32) / 1023
    Image.fromarray(np.uint16(np.rint(low + share * (high - low)))).save(tmp_path / f"film{suffix}")
    found = read(tmp_path / f"film{suffix}")
    assert (found.min(), found.max()) == (0, 255)
    assert np.abs(found - share * 255).max() <= 1.01


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_deeper_files_are_stretched_from_their_own_range(tmp_path, dtype):
    Image.fromarray((picture() * 1000.0 - 70000).astype(dtype)).save(tmp_path / "film.tif")
    low, high = int(picture().min()), int(picture().max())
    expected = (picture().astype(float) - low) * 255 / (high - low)
    assert np.abs(read(tmp_path / "film.tif") - expected).max() <= 0.51


def test_constant_sixteen_bit_image(tmp_path):
    Image.fromarray(np.full((32, 32), 700, np.uint16)).save(tmp_path / "film.png")
    assert len(np.unique(read(tmp_path / "film.png"))) == 1


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
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


def test_missing_file(tmp_path):
    assert_refused(tmp_path / "absent.png")


def test_folder(tmp_path):
    (tmp_path / "film.png").mkdir()
    assert_refused(tmp_path / "film.png")


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"this is text\nof two lines\n", b"\x89PNG\r\n\x1a\n"])
def test_file_that_is_no_image(tmp_path, content):
    (tmp_path / "film.png").write_bytes(content)
    assert_refused(tmp_path / "film.png")


def test_image_too_large_to_decode(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.fromarray(picture()).save(tmp_path / "film.png")
    assert_refused(tmp_path / "film.png")


def encoded(suffix):
    buffer = io.BytesIO()
    Image.fromarray(picture()).save(buffer, Image.registered_extensions()[suffix])
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
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


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".bmp", ".pgm"])
def test_damaged_bytes_give_an_image_or_an_input_error(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6)  # a damaged header may ask for any size
    rng, whole, path = np.random.default_rng(0), np.frombuffer(encoded(suffix), np.uint8), tmp_path / f"film{suffix}"
    for _ in range(150):
        damaged = whole.copy()
        damaged[rng.integers(0, min(len(whole), 200), 3)] = rng.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes()[: rng.integers(1, len(whole) + 1)])
        try:
            assert read(path).shape == (32, 32)
        except InputError as error:
            assert "\n" not in str(error)
