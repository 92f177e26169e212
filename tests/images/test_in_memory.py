"""Arrays and tensors go through the same steps as files of the same pixels."""

import io

import numpy as np
import pytest
import torch
from dicom_files import IMPLICIT, dataset, written
from PIL import Image

from salad.errors import InputError
from salad.images.decoder import Decoder
from salad.images.dicom_tags import Tag
from salad.images.headers import read_file_header, read_header_and_tags
from salad.images.in_memory import images_of, read_source, shown_name
from salad.images.read import FileContent

DECODER = Decoder(isize=16, resize="squash")
GREY = np.random.default_rng(0).integers(0, 256, (24, 40), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (24, 40, 3), dtype=np.uint8)
DEEP = np.random.default_rng(2).integers(300, 5000, (24, 40), dtype=np.uint16)
FRAMED = np.pad(GREY, 8)


@pytest.mark.parametrize(
    ("pixels", "suffix"),
    [
        (GREY, ".png"),
        (COLOUR, ".png"),
        (np.dstack([COLOUR, GREY]), ".png"),
        (DEEP, ".png"),
        (DEEP.astype(np.float32) / 7, ".tif"),
        (DEEP.astype(np.int32), ".tif"),
        (GREY > 127, ".png"),
        (FRAMED, ".png"),
    ],
)
@pytest.mark.parametrize("decoder", [DECODER, Decoder(isize=16, resize="pad", trim=True)])
def test_an_array_is_read_as_a_file_of_its_pixels(tmp_path, pixels, suffix, decoder):
    path = tmp_path / f"image{suffix}"
    Image.fromarray(pixels).save(path)

    found = read_source(pixels, decoder)

    assert found.shape == (16, 16)
    assert found.dtype == np.uint8
    assert np.array_equal(found, read_source(path, decoder))


def test_the_options_of_the_decoder_count():
    squashed, trimmed = (read_source(FRAMED, Decoder(isize=16, resize="squash", trim=trim)) for trim in (False, True))

    assert squashed[0].max() < 30 < trimmed[0].max()


@pytest.mark.parametrize(
    ("images", "shapes"),
    [
        ("a.png", ["a.png"]),
        (["a.png", GREY], ["a.png", (24, 40)]),
        (np.array(["a.png", "b.png"]), ["a.png", "b.png"]),
        (np.array(["a.png", "b.png"], dtype=object), ["a.png", "b.png"]),
        (GREY, [(24, 40)]),
        (COLOUR, [(24, 40, 3)]),
        (np.stack([GREY, GREY]), [(24, 40)] * 2),
        (np.stack([COLOUR, COLOUR]), [(24, 40, 3)] * 2),
        (torch.zeros(2, 3, 24, 40, dtype=torch.uint8), [(24, 40, 3)] * 2),
        (torch.zeros(2, 1, 24, 40), [(24, 40)] * 2),
        (torch.zeros(24, 40, dtype=torch.bfloat16, requires_grad=True), [(24, 40)]),
        ([torch.zeros(3, 24, 40), torch.zeros(1, 8, 9), GREY[:9]], [(24, 40, 3), (8, 9), (9, 40)]),
        ((image for image in [GREY]), [(24, 40)]),
        ([], []),
    ],
)  # fmt: skip
def test_what_is_handed_over_falls_into_single_images(images, shapes):
    assert [getattr(one, "shape", None) or one.name for one in images_of(images)] == shapes


@pytest.mark.parametrize("pixels", [GREY, DEEP, DEEP / np.float32(7), GREY / 255.0, GREY > 127])
@pytest.mark.parametrize(
    "shaped",
    [
        lambda grey, _: grey[..., None],
        lambda grey, _: grey[None],
        lambda grey, _: grey[None, None],
        lambda grey, _: grey[None, ..., None],
        lambda grey, _: [grey[..., None]],
        lambda grey, _: [grey[None]],
        lambda grey, most: np.dstack([grey, np.full_like(grey, most)]),
        lambda grey, _: np.dstack([grey] * 3),
        lambda grey, most: np.dstack([grey, grey, grey, np.full_like(grey, most)]),
        lambda grey, _: np.stack([grey] * 3),
        lambda grey, _: torch.tensor(np.stack([grey] * 3)),
        lambda grey, most: torch.tensor(np.stack([grey, grey, grey, np.full_like(grey, most)])),
        lambda grey, _: torch.tensor(np.stack([grey] * 3))[None],
        lambda grey, _: torch.tensor(grey)[..., None],
    ],
)
def test_shapes_of_one_grey_image(pixels, shaped):
    most = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
    (image,) = images_of(shaped(pixels, most))
    assert np.array_equal(read_source(image, DECODER), read_source(pixels, DECODER))


def test_planes_that_differ_or_are_constant_are_films():
    films = [GREY, GREY // 2, GREY // 3]
    assert [np.array_equal(a, b) for a, b in zip(images_of(np.stack(films)), films, strict=True)] == [True] * 3
    assert len([*images_of(np.zeros((3, 24, 40)))]) == 3
    assert len([*images_of(torch.rand(3, 1, 24, 40))]) == 3


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_is_transparent_lies_on_black(dtype):
    most = np.iinfo(dtype).max
    ramp = np.tile(np.linspace(most // 4, most // 2, 16).astype(dtype), (16, 1))
    alpha = np.where(np.arange(16)[:, None] < 8, dtype(0), dtype(most)) * np.ones((16, 16), dtype)
    found = read_source(np.dstack([ramp, ramp, ramp, alpha]), DECODER)
    assert (found[:8] == 0).all() and found[8:, -1].min() > 100
    assert np.array_equal(found[8:], read_source(ramp, DECODER)[8:])


def test_channels_in_front_and_behind_are_the_same_image():
    (behind,), (in_front,) = images_of(COLOUR[None]), images_of(torch.from_numpy(COLOUR.transpose(2, 0, 1)[None]))

    assert np.array_equal(behind, in_front)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (7, "an image is a path, a numpy array or a torch tensor, not int"),
        ([7], "an image is a path, a numpy array or a torch tensor, not int"),
        (np.zeros(5), r"an array of shape \(5,\): images are"),
        (np.zeros((2, 5, 6, 7)), r"an image of shape \(5, 6, 7\): a single image is"),
        (np.zeros((2, 1, 5, 6, 7)), r"an array of shape \(2, 1, 5, 6, 7\)"),
        (
            torch.from_numpy(COLOUR.transpose(2, 0, 1).copy()),
            r"\(3, 24, 40\) is one colour image or 3 .* \(1, 3, H, W\)",
        ),
        (torch.rand(4, 24, 40), r"\(4, 24, 40\) is one colour image or 4 grey ones"),
        (np.dstack([GREY, GREY]), r"\(24, 40, 2\) whose second channel is no opaque alpha"),
        (np.zeros((2, 2, 24, 40)), r"an image of shape \(2, 24, 40\): a single image is"),
        (np.zeros((24, 3, 40)), r"an array of shape \(24, 3, 40\)"),
        (np.zeros((3, 40, 3)), r"the channels are the first dimension or the last"),
        ([np.zeros((3, 40, 3))], r"the channels are the first dimension or the last"),
        (torch.zeros(24, 40).to_sparse(), "a tensor of torch.float32, torch.sparse_coo, cannot be read"),
        (torch.zeros(24, 40, device="meta"), "a tensor of torch.float32, torch.strided, cannot be read"),
        (np.ma.masked_equal(GREY, GREY[0, 0]), "a masked array: fill"),
    ],
)
def test_what_is_no_image_is_refused(images, message):
    with pytest.raises(InputError, match=message):
        list(images_of(images))


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((0, 5)), "an array of 5 x 0 pixels; from 1 to"),
        (np.broadcast_to(np.uint8(0), (8193, 8192)), "an array of 8192 x 8193 pixels"),
        (np.zeros((4, 4), complex), "an array of complex128: pixels are"),
        (COLOUR.astype(float), r"a colour image of float64: convert it to uint8 \(0 to 255\)"),
        (np.dstack([DEEP.astype(float)] * 4), r"an image with a transparency of float64: convert it to uint8"),
        (np.full((4, 4), np.nan), "NaN or infinite"),
    ],
)
def test_an_array_that_cannot_be_read_is_refused(pixels, message):
    with pytest.raises(InputError, match=message):
        read_source(pixels, DECODER)


def test_a_tensor_whose_sign_is_only_marked():
    marked = torch.complex(torch.zeros(24, 40), -torch.from_numpy(GREY).float()).conj().imag
    assert marked.is_neg()
    (image,) = images_of(marked)
    assert np.array_equal(image, GREY)


def test_a_film_four_times_is_four_images():
    assert len([*images_of(np.stack([GREY] * 4))]) == 4
    assert len([*images_of(np.stack([GREY, GREY, GREY, np.full_like(GREY, 255)]))]) == 1


def test_a_folder_stands_for_the_images_below_it(write_folders, caplog):
    folder = write_folders("b.png", "a.png", "z/d.png", "z/y/e.png", "c/f.png")
    (folder / "notes.txt").touch()
    below = [folder / name for name in ("a.png", "b.png", "c/f.png", "z/d.png", "z/y/e.png")]

    assert [*images_of(folder)] == [*images_of(str(folder))] == below
    assert "left out: 1 file of no image format (.txt)" in caplog.text
    mixed = [*images_of([folder / "z", GREY, folder / "absent.png", str(folder / "c")])]
    assert [mixed[0], mixed[1], mixed[3], mixed[4]] == [*below[3:], folder / "absent.png", below[2]]
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="empty: holds no image"):
        list(images_of([folder, folder / "empty"]))


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def starting_oddly() -> bytes:
    """A DICOM file without preamble and meta information, whose first element is so long that only its suffix tells."""
    first, sop_class = b"\x08\0\x08\0" + (70).to_bytes(4, "little") + b"A" * 70, b"\x08\0\x16\0"
    return first + sop_class + written(dataset(DEEP), IMPLICIT).partition(sop_class)[2]


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        (encoded(GREY, "PNG"), ".png"),
        (encoded(DEEP, "PNG"), ".png"),
        (encoded(np.tile(GREY, (9, 9)), "JPEG"), ".jpg"),  # which is shrunk while it is decoded
        (encoded(DEEP.astype(np.float32) / 7, "TIFF"), ".tif"),
        (written(dataset(DEEP, bits=13)), ".dcm"),
        (starting_oddly(), ".dcm"),
    ],
)
def test_the_content_of_a_file_gives_the_pixels_of_the_file(tmp_path, content, suffix):
    path = tmp_path / f"film{suffix}"
    path.write_bytes(content)
    in_memory = FileContent(content, suffix)
    assert np.array_equal(read_source(in_memory, DECODER), read_source(path, DECODER))
    assert read_file_header(in_memory) == read_file_header(path) is not None


def test_the_header_of_the_content_tells_kind_and_tags(tmp_path):
    content = written(dataset(DEEP, ViewPosition="LL", Modality="DX"))
    header, tags = read_header_and_tags(FileContent(content), (Tag("SOPInstanceUID", 0x00080018),))
    assert header is not None and header.facts["view"] == "lateral" and header.facts["modality"] == "X-ray"
    assert tags == {"SOPInstanceUID": "1.2.3.4"}


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        (b"", ".png"),
        (b"no image", ".png"),
        (encoded(GREY, "PNG")[:200], ".png"),
        (written(dataset(DEEP))[:-50], ".dcm"),
        (starting_oddly(), ".png"),
    ],
)
def test_the_content_of_a_file_is_refused_in_the_words_of_the_file(tmp_path, content, suffix):
    path = tmp_path / f"film{suffix}"
    path.write_bytes(content)
    reasons = []
    for source in (path, FileContent(content, suffix)):
        with pytest.raises(InputError) as caught:
            read_source(source, DECODER)
        reasons.append(str(caught.value))
    assert reasons[0] == f"{path}: {reasons[1]}"
    assert shown_name(FileContent(content, suffix)) == "the content of a file"
