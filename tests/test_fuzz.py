"""Damaged and hostile files: a reader gives a value or an `InputError` of one line, soon and in little memory.

`SALAD_FUZZ_CASES=20000 python -m pytest tests/test_fuzz.py` tries 20,000 new cases; the ordinary suite tries the
same 600 each time.
"""

import io
import json
import os
import resource
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from dicom_files import (
    BASELINE,
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    EXTENDED,
    IMPLICIT,
    J2K,
    LOSSLESS_FIRST,
    LS,
    NEAR_LS,
    RLE,
    SECRET,
    dataset,
    with_gdcm,
    with_pillow,
    written,
)
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from salad import checkpoint
from salad.checkpoint import load_checkpoint
from salad.config import OPTIONS, Config
from salad.config.declare import read_values
from salad.datasets import read_split
from salad.errors import InputError, printable
from salad.images import dicom
from salad.images.align import SIDE
from salad.images.decoder import Decoder
from salad.images.read import read_image
from salad.samples import Sample
from salad.scoring.films import read_calibration

ASKED = os.environ.get("SALAD_FUZZ_CASES")
NUM_CASES = int(ASKED or 600)
SECONDS = 30  # for one small file: what takes longer, on a busy machine too, hangs
MAX_MEMORY_BYTES = 2**30
# Values at which sizes, offsets, counts and signs turn over.
EDGES = [b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0\0\0", b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"]
REQUIRED = {"dataset_name": "CXR_author", "net_name": "unet", "xp_path": Path("log/x"), "data_path": Path("data")}


def cases(share: float):
    return settings(
        max_examples=max(1, round(NUM_CASES * share)),
        deadline=SECONDS * 1000,
        derandomize=ASKED is None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


edits = st.lists(
    st.tuples(
        st.sampled_from(["set", "insert", "delete", "cut", "repeat"]),
        st.integers(0, 100) | st.integers(0, 2**16),  # where: most of what steers a reader stands at the start
        st.sampled_from(EDGES) | st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=5,
)


def edit(content: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    for kind, where, value in changes:
        at = where % (len(content) + 1)
        if kind == "cut":
            content = content[:at]
        elif kind == "repeat":
            content = content[:at] + content[at : at + 64] * 2 + content[at + 64 :]
        else:
            end = at + len(value) * (kind != "insert")
            content = content[:at] + value * (kind != "delete") + content[end:]
    return content


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "file"


def assert_refused_well(error: InputError) -> None:
    message = str(error)
    assert printable(message) == message and len(message) < 1000
    assert not any(part in message for part in SECRET.split("^"))


# Images ---------------------------------------------------------------------------------------------------------


def encode(image: Image.Image, kind: str, **how) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def whole_images() -> list[bytes]:
    pixels = np.arange(24 * 20, dtype=np.uint16).reshape(24, 20)
    grey, deep = Image.fromarray(np.uint8(pixels % 251)), Image.fromarray(pixels * 100)
    real = Image.fromarray(pixels.astype(np.float32))
    other = grey.rotate(180)
    exif = Image.Exif()
    exif[0x0112] = 6
    found = [encode(grey.convert(mode), "PNG") for mode in ("1", "L", "LA", "RGB", "RGBA", "P")]
    found += [encode(deep, "PNG"), encode(grey, "PNG", save_all=True, append_images=[other], duration=9)]
    found += [encode(grey.convert(mode), "JPEG") for mode in ("L", "RGB", "CMYK")]
    found += [encode(grey, "JPEG", progressive=True), encode(grey, "JPEG", exif=exif)]
    found += [encode(image, "TIFF") for image in (grey, deep, real, grey.convert("1"), grey.convert("CMYK"))]
    found += [encode(grey, "TIFF", compression=name) for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")]
    found += [encode(grey, "TIFF", save_all=True, append_images=[other], exif=exif)]
    found += [encode(grey.convert(mode), "BMP") for mode in ("1", "L", "RGB")]
    found += [encode(grey, "PPM"), encode(grey.convert("RGB"), "PPM"), encode(deep.convert("I"), "PPM")]
    found += [b"P2 3 2 255\n" + b"1 2 3 " * 2, b"P1 4 2\n" + b"0 1 " * 4, encode(real, "PPM")]
    found += [encode(grey.convert("RGB"), "WEBP"), encode(grey.convert("RGBA"), "WEBP", lossless=True)]
    found += [encode(grey, "WEBP", save_all=True, append_images=[other]), encode(grey, "GIF")]
    rle = bytearray(encode(grey, "BMP"))
    rle[30] = 1  # compressed with run lengths
    return [*found, bytes(rle[:1078]) + b"\x14\x05\0\0" * 24 + b"\0\1"]


WHOLE_IMAGES = whole_images()


def with_right_sums(png: bytes) -> bytes:
    """A PNG whose chunks, as far as they can be told apart, have right check sums, so that they are looked into."""
    content, at = bytearray(png), 8
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        end = at + 8 + length
        if end + 4 > len(content):
            break
        struct.pack_into(">I", content, end, zlib.crc32(content[at + 4 : end]))
        at = end + 4
    return bytes(content)


def try_image(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        found = read_image(path, isize=16, resize="pad")
    except InputError as error:
        assert_refused_well(error)
    else:
        assert found.shape == (16, 16) and found.dtype == np.uint8


def test_images_cut_at_every_tenth_byte(path):
    """Of animations, pages and rotated ones too: what can still be read has lost no part of its picture."""
    for whole in WHOLE_IMAGES:
        path.write_bytes(whole)
        try:
            expected = read_image(path, isize=16, resize="pad")
        except InputError:  # a GIF, or a TIFF of several pages
            expected = None
        for length in range(0, len(whole), 10):
            path.write_bytes(whole[:length])
            try:
                found = read_image(path, isize=16, resize="pad")
            except InputError as error:
                assert_refused_well(error)
            else:
                assert expected is not None and np.array_equal(found, expected), (whole[:20], length)


@cases(0.32)
@given(st.sampled_from(WHOLE_IMAGES), edits, st.booleans())
def test_damaged_images(path, whole, changes, mend_sums):
    content = edit(whole, changes)
    try_image(path, with_right_sums(content) if mend_sums and whole.startswith(b"\x89PNG") else content)


@cases(0.06)
@given(st.sampled_from([whole[:n] for whole in WHOLE_IMAGES for n in (0, 2, 4, 12, 26)]), st.binary(max_size=300))
def test_what_only_begins_like_an_image(path, start, rest):
    try_image(path, start + rest)


# DICOM ----------------------------------------------------------------------------------------------------------


def whole_dicom_files() -> list[bytes]:
    """Files that are decoded in this process."""
    pixels = np.arange(24 * 20, dtype=np.uint16).reshape(24, 20) * 8
    small, colours = np.uint8(pixels // 16), np.stack([np.uint8(pixels // 16)] * 3, axis=-1)
    elements = {"WindowCenter": 2000, "WindowWidth": 4000, "RescaleSlope": 1, "RescaleIntercept": -1024}
    found = [written(dataset(pixels, bits=12, **elements), syntax) for syntax in (IMPLICIT, EXPLICIT, BIG_ENDIAN)]
    found += [written(dataset(pixels), syntax) for syntax in (RLE, DEFLATED)]
    found += [written(dataset(colours), syntax) for syntax in (EXPLICIT, RLE)]
    found += [written(dataset(small), BASELINE, frame=with_pillow(small, "JPEG"))]
    found += [written(dataset(one), J2K, frame=with_pillow(one, "JPEG2000")) for one in (small, pixels)]
    return [*found, found[0][144:], found[1][132:]]


WHOLE_DICOM = whole_dicom_files()


def try_dicom(path: Path, content: bytes) -> None:
    try_image(path.with_name("file.dcm"), content)


def test_the_dicom_files_to_be_damaged_are_whole(path):
    for content in WHOLE_DICOM[:-2]:
        path.write_bytes(content)
        assert read_image(path, isize=16, resize="pad").std() > 10


def test_dicom_files_cut_at_every_tenth_byte(path):
    for whole in WHOLE_DICOM:
        for length in range(0, len(whole), 10):
            try_dicom(path, whole[:length])


@cases(0.15)
@given(st.sampled_from(WHOLE_DICOM), edits)
def test_damaged_dicom_files(path, whole, changes):
    try_dicom(path, edit(whole, changes))


@cases(0.05)
@given(st.sampled_from(WHOLE_DICOM), edits)
def test_dicom_files_with_damaged_elements(path, whole, changes):
    """Behind the meta information, where the rows, columns and windows stand, and the pixels."""
    start = whole.find(b"\x28\x00\x02\x00") if b"\x28\x00\x02\x00" in whole else 200
    try_dicom(path, whole[:start] + edit(whole[start:], changes))


@pytest.fixture(scope="module")
def for_gdcm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gdcm")
    whole = written(dataset(np.arange(24 * 20, dtype=np.uint16).reshape(24, 20) * 8, bits=12))
    return [with_gdcm(whole, syntax, folder) for syntax in (EXTENDED, LOSSLESS_FIRST, LS, NEAR_LS)]


@cases(0.02)
@given(st.integers(0, 3), edits)
def test_damaged_frames_that_gdcm_decodes(path, for_gdcm, which, changes):
    """Each starts a process, so these are few."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dicom, "GDCM_SECONDS", SECONDS)
        whole = for_gdcm[which]
        start = whole.index(b"\xff\xd8\xff")
        try_dicom(path, whole[:start] + edit(whole[start:], changes))


# Config files ---------------------------------------------------------------------------------------------------

CONTENT = json.dumps(Config.of({**REQUIRED, "isize": 64}).as_json(), indent=1).encode()
NAMES = sorted(json.loads(CONTENT))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def try_config(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        values = read_values(path, OPTIONS)
        Config.of({**REQUIRED, **{name: value for name, value in values.items() if value is not None}})
    except InputError as error:
        assert_refused_well(error)


@cases(0.1)
@given(edits)
@example([("cut", 0, b"0")])
def test_damaged_config_files(path, changes):
    try_config(path, edit(CONTENT, changes))


@cases(0.1)
@given(st.dictionaries(st.sampled_from(NAMES) | st.text(), json_values, max_size=4))
@example({"lr": 10**400})
@example({"isize": 64 * 10**400})
@example({"xp_path": "a\0b"})
@example({"xp_path": "\ud800"})
@example({"resize": "squash\nError: none"})
@example({"k": [1] * 100_000})
@example({"k\n" * 1000: 1})
def test_config_files_of_any_values(path, values):
    try_config(path, json.dumps(values).encode())


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"k":' * 100_000, b"9" * 100_000, b"{}" + b" " * 2**20])
def test_config_files_that_ask_too_much(path, content):
    path.write_bytes(content)
    with pytest.raises(InputError):
        read_values(path, OPTIONS)


# Tables and lists -----------------------------------------------------------------------------------------------

CSV = b'path,label,split,patient_id,finding\na.png,0,train,P1,\n"b,c.png",1,train,P1,"mass, left"\nd.png,0,test,P2,\n'
JSON_LINES = b'{"path": "a.png", "label": 0, "split": "train"}\n{"path": "b.png", "label": "1", "split": "test"}\n'
WORDS = [
    "path",
    "label",
    "split",
    "train",
    "test",
    "a.png",
    "0",
    "1",
    "normal",
    "1.0",
    "",
    '"',
    ",",
    ";",
    "\n",
    "\r",
    "\0",
]
cells = st.sampled_from(WORDS) | st.text(max_size=6)


def try_reader(name: str, data_path: Path) -> None:
    for split in ("train", "val", "test"):
        try:
            found = read_split(name, data_path, split)
        except InputError as error:
            assert_refused_well(error)
        else:
            assert found is None or (found.samples and all(printable(one.name) == one.name for one in found.samples))


def as_csv(rows: list[list[str]]) -> bytes:
    return "\n".join(",".join(row) for row in [["path", "label", "split"], *rows]).encode(errors="surrogatepass")


@cases(0.2)
@given(
    st.tuples(st.sampled_from([CSV, CSV.decode().encode("utf-16"), JSON_LINES]), edits).map(lambda one: edit(*one))
    | st.lists(st.lists(cells, max_size=5), max_size=4).map(as_csv)
    | st.lists(st.dictionaries(st.sampled_from(WORDS), json_values, max_size=4), max_size=3).map(
        lambda rows: "\n".join(json.dumps({"path": "a", "label": 0, "split": "train", **row}) for row in rows).encode()
    )
    | st.binary(max_size=100)
)
@example(b"path,label,split\n" + b"a" * 200_000 + b",0,train")
@example(b'path,label,split\n"' + b"a\n" * 100_000)
@example(b"[" * 100_000)
@example(b'{"path": "a", "label": ' + b"9" * 5000 + b', "split": "train"}')
def test_tables_of_any_content(path, content):
    for suffix in (".csv", ".jsonl"):
        table = path.with_suffix(suffix)
        table.write_bytes(content)
        try_reader("Table", table)


@cases(0.1)
@given(st.dictionaries(st.sampled_from(["train", "val", "test"]), json_values, max_size=3).map(json.dumps), edits)
@example('{"train": {"0": ["../a.png", "a.png", "a.png"]}}', [("cut", 2**16, b"0")])
def test_damaged_data_json(path, text, changes):
    (path.parent / "images").mkdir(exist_ok=True)
    (path.parent / "images/a.png").touch()
    for content in (text.encode(), edit(text.encode(), changes)):
        (path.parent / "data.json").write_bytes(content)
        try_reader("MedIAnomaly", path.parent)


def npz(save) -> bytes:
    buffer = io.BytesIO()
    images, labels = np.zeros((3, 8, 8), np.uint8), np.array([[0], [1], [0]], np.uint8)
    save(buffer, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    return buffer.getvalue()


WHOLE_NPZ = [npz(np.savez), npz(np.savez_compressed)]


def test_arrays_and_tables_cut_at_every_tenth_byte(path):
    for whole, name in [*((one, "pneumoniamnist.npz") for one in WHOLE_NPZ), (CSV, "a.csv"), (JSON_LINES, "a.jsonl")]:
        file = path.with_name(name)
        for length in range(0, len(whole), 10):
            file.write_bytes(whole[:length])
            try_reader("MedMNIST" if name.endswith(".npz") else "Table", file)
            if name.endswith(".npz"):
                with pytest.raises(InputError):
                    read_split("MedMNIST", file, "train")


@cases(0.1)
@given(st.sampled_from(WHOLE_NPZ), edits)
def test_damaged_arrays(path, whole, changes):
    file = path.with_name("pneumoniamnist.npz")
    file.write_bytes(edit(whole, changes))
    try_reader("MedMNIST", file)
    decoder = Decoder(isize=8, resize="squash")
    try:
        decoder.read(Sample(file, "train_images/2", 0, row=2, array="train_images"))
    except InputError as error:
        assert_refused_well(error)


# Checkpoints ----------------------------------------------------------------------------------------------------


def checkpoint_content() -> dict:
    return {
        "model_state_dict": {"feat.weight": torch.ones(4, 3, 1, 1), "feat.bias": torch.ones(4)},
        "memory_state_dict": {"memory": torch.ones(5, 4), "params": torch.tensor([0.1, 0.5])},
        "ans_discovery_state_dict": {"position": torch.full((5,), -1)},
        "schema_version": 1,
        "config": {"isize": 64, "resize": "squash", "npc_temperature": 0.1},
        "normal_class": "0.normal",
        "row_labels": torch.zeros(5, dtype=torch.long),
        "svdd": {"centre": torch.ones(4), "radius": torch.zeros(())},
        "progress": {"round": 0, "epoch": 1},
        "mean_image": torch.zeros(1, 1, SIDE, SIDE),
        "local_memories": {
            "local": {"rows": torch.ones(4, 5, 3), "mean": torch.zeros(4, 3), "whitening": torch.eye(3)}
        },
        "standards": {"local": (0.0, 1.0)},
        "val_normal_scores": torch.ones(3),
        "films": {"brightness": torch.ones(3)},
        "val_auc": 0.5,
    }


def saved(content: object, *, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


ZIPPED, PLAIN = saved(checkpoint_content()), saved(checkpoint_content(), zipped=False)
PLACES = [(name, None) for name in checkpoint_content()] + [
    (name, inner) for name, value in checkpoint_content().items() if isinstance(value, dict) for inner in value
]
odd_values = (
    st.none()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.lists(st.integers(), max_size=3)
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
    | st.lists(st.integers(0, 3), max_size=4).map(lambda shape: torch.zeros(shape))
    | st.sampled_from([torch.zeros(5, 4).to_sparse(), torch.zeros(5, 4, dtype=torch.complex64), torch.tensor(True)])
)


def try_checkpoint(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        found = load_checkpoint(path)
        found.known()
        read_calibration(found.training)
    except InputError as error:
        assert_refused_well(error)


def test_the_checkpoint_to_be_damaged_is_whole(path):
    for content in (ZIPPED, PLAIN, with_new_pickle(ZIPPED, [])):
        path.write_bytes(content)
        assert load_checkpoint(path).known()["rep_dim"] == 4


def with_new_pickle(content: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    """A checkpoint whose pickle is damaged within a zip file with right check sums."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            new.writestr(name, edit(old.read(name), changes) if name.endswith("data.pkl") else old.read(name))
    return buffer.getvalue()


@cases(0.1)
@given(st.sampled_from([ZIPPED, PLAIN, None]), edits)
def test_damaged_checkpoints(path, whole, changes):
    try_checkpoint(path, with_new_pickle(ZIPPED, changes) if whole is None else edit(whole, changes))


def test_a_page_of_torch_becomes_one_line(path, monkeypatch):
    def refuse(*_):
        raise RuntimeError("no such operator\n" * 1000)

    monkeypatch.setattr(checkpoint.MemoryBank, "from_state_dict", refuse)
    path.write_bytes(ZIPPED)
    with pytest.raises(InputError) as caught:
        load_checkpoint(path)
    assert_refused_well(caught.value)


@cases(0.1)
@given(st.sampled_from(PLACES), odd_values)
def test_checkpoints_of_odd_values(path, place, value):
    content, (name, inner) = checkpoint_content(), place
    if inner is None:
        content[name] = value
    else:
        content[name][inner] = value
    try_checkpoint(path, saved(content))


@pytest.mark.skipif(ASKED is None, reason="in the ordinary suite other tests share the process")
def test_memory_stayed_small():
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < MAX_MEMORY_BYTES
