"""DICOM files: every transfer syntax, and what is refused. What their values become is in test_greyscale.py."""

import importlib.util
import io
import os
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from dicom_files import (
    BASELINE,
    BIG_ENDIAN,
    DATA,
    DEFLATED,
    EXPLICIT,
    EXTENDED,
    IMPLICIT,
    J2K,
    LOSSLESS,
    LOSSLESS_FIRST,
    LOSSY_J2K,
    LS,
    NEAR_LS,
    RLE,
    SECRET,
    TEST_FILES,
    dataset,
    pydicom,
    with_gdcm,
    with_pillow,
    with_text,
    written,
)
from PIL import Image
from running import ONE_THREAD, REPOSITORY, SHORT, TINY, invoke, stopped

from salad import cli
from salad.errors import InputError
from salad.images import dicom
from salad.images.dicom import read_dicom
from salad.images.read import read_image
from salad.packages import install_command

MAX_PIXELS = 8192 * 8192
PixelDecoder = pydicom.pixels.decoders.base.Decoder


NEEDED = (
    *("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "PixelRepresentation"),
    "PhotometricInterpretation",
)


def film(*, bits: int = 12) -> np.ndarray:
    """A ramp with a bright disc, whose values fill the bits."""
    y, x = np.mgrid[:40, :52]
    share = (x / 51 + y / 39 + ((x - 20) ** 2 + (y - 15) ** 2 < 60)) / 3
    return np.rint((share - share.min()) / np.ptp(share) * (2**bits - 1)).astype(np.uint16 if bits > 8 else np.uint8)


def stored(content: bytes) -> np.ndarray:
    """The pixels as they are stored: what pydicom gives the reader."""
    decoded, decode = [], PixelDecoder.as_array

    def watched(*words, **options):
        decoded.append(decode(*words, **options))
        return decoded[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PixelDecoder, "as_array", watched)
        read_dicom(content, max_pixels=MAX_PIXELS)
    ((pixels, _),) = decoded
    return pixels


def grey(content: bytes) -> np.ndarray:
    return np.asarray(read_dicom(content, max_pixels=MAX_PIXELS))


def refuse(content: bytes) -> str:
    with pytest.raises(InputError) as caught:
        read_dicom(content, max_pixels=MAX_PIXELS)
    assert SECRET not in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


# Transfer syntaxes ----------------------------------------------------------------------------------------------

DEPTHS = {
    "8": (film(bits=8), 8),
    "10 in 16": (film(bits=10), 10),
    "12": (film(), 12),
    "16": (film(bits=16), 16),
    "signed 12": (film().astype(np.int16) - 2048, 12),
    "signed 16": (film(bits=15).astype(np.int16) - 2**14, 16),
    "RGB": (np.stack([film(bits=8), film(bits=8)[::-1], 255 - film(bits=8)], axis=-1), 8),
}


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN, RLE])
def test_native_and_run_length_coded(syntax, depth):
    pixels, bits = DEPTHS[depth]
    found = stored(written(dataset(pixels, bits=bits), syntax))
    assert found.dtype.newbyteorder("=") == pixels.dtype and np.array_equal(found, pixels)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("syntax", [LOSSLESS, LOSSLESS_FIRST, LS, NEAR_LS, J2K])
def test_compressed_without_loss(tmp_path, syntax, depth):
    pixels, bits = DEPTHS[depth]
    found = stored(with_gdcm(written(dataset(pixels, bits=bits)), syntax, tmp_path))
    assert found.dtype.newbyteorder("=") == pixels.dtype and np.array_equal(found, pixels)


@pytest.mark.parametrize("depth", ["8", "10 in 16", "12"])
def test_jpeg_extended(tmp_path, depth):
    pixels, bits = DEPTHS[depth]
    found = stored(with_gdcm(written(dataset(pixels, bits=bits)), EXTENDED, tmp_path))
    assert np.abs(found.astype(int) - pixels).max() <= 2


def test_jpeg_baseline_and_lossy_jpeg_2000():
    pixels = film(bits=8)
    for syntax, kind, how in ((BASELINE, "JPEG", {"quality": 95}), (LOSSY_J2K, "JPEG2000", {"irreversible": True})):
        found = stored(written(dataset(pixels), syntax, frame=with_pillow(pixels, kind, **how)))
        assert np.abs(found.astype(int) - pixels).mean() < 2, syntax


def test_sixteen_bits_of_pillows_jpeg_2000():
    pixels = film(bits=16)
    found = stored(written(dataset(pixels), J2K, frame=with_pillow(pixels, "JPEG2000")))
    assert np.array_equal(found, pixels)


@pytest.mark.parametrize("name", ["implicit", "bigendian", "expb", "RLE", "jp2klossless", "jpeg_ls_lossless", "padded"])
def test_variants_of_one_file_give_the_same_image(name):
    expected = grey((TEST_FILES / "MR_small.dcm").read_bytes())
    assert np.array_equal(grey((TEST_FILES / f"MR_small_{name}.dcm").read_bytes()), expected)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["RG1", "RG3"])
def test_radiographs_in_jpeg_2000(part):
    plain, packed = (stored((DATA / f"{part}_{name}.dcm").read_bytes()) for name in ("UNCR", "J2KR"))
    assert np.array_equal(plain, packed) and plain.std() > 100
    ds = pydicom.dcmread(DATA / f"{part}_UNCR.dcm")
    assert ds.PhotometricInterpretation == "MONOCHROME1"
    shown = grey((DATA / f"{part}_UNCR.dcm").read_bytes()).astype(float)
    assert np.corrcoef(shown.ravel(), plain.ravel())[0, 1] < -0.9
    lossy = grey((DATA / f"{part}_J2KI.dcm").read_bytes()).astype(float)
    assert np.abs(lossy - shown).mean() < 3


def test_twelve_bit_jpeg_of_another_encoder():
    found = stored((TEST_FILES / "JPGExtended.dcm").read_bytes())
    # as GDCM decodes them: a change of decoder shows here
    assert found.shape == (1024, 256) and (found[420, 140], found[230, 120], found.max()) == (244, 95, 264)


def test_kinds_of_colour_give_nearly_the_same_image():
    names = ["SC_rgb_dcmtk_+eb+cr", "SC_rgb_dcmtk_+eb+cy+s4", "SC_ybr_full_422_uncompressed", "SC_rgb_rle_16bit"]
    names += ["SC_rgb_jls_lossy_line", "SC_rgb_jpeg_gdcm", "SC_rgb_gdcm_KY", "SC_rgb_jpeg_dcmtk"]
    found = [grey((TEST_FILES / f"{name}.dcm").read_bytes()).astype(int) for name in names]
    assert found[0].std() > 60
    assert max(np.abs(one - found[0]).mean() for one in found) < 3


def test_palette():
    found = stored((TEST_FILES / "examples_palette.dcm").read_bytes())
    assert found.ndim == 2
    assert grey((TEST_FILES / "examples_palette.dcm").read_bytes()).std() > 20
    entries = np.array([0, 0, 0, 10, 20, 30, 255, 0, 0], np.uint16).reshape(3, 3) * 257
    colours = {
        f"{name}PaletteColorLookupTable{part}": value
        for place, name in enumerate(("Red", "Green", "Blue"))
        for part, value in (("Descriptor", [3, 0, 16]), ("Data", entries[:, place].tobytes()))
    }
    pixels = np.array([[0, 1], [2, 2]], np.uint8)
    ds = dataset(pixels, PhotometricInterpretation="PALETTE COLOR", **colours)
    assert grey(written(ds)).tolist() == [[0, 18], [76, 76]]  # 0.299 R + 0.587 G + 0.114 B


def test_one_bit():
    pixels = film(bits=8) > 100
    packed = np.packbits(pixels, axis=None, bitorder="little")
    ds = dataset(packed.reshape(1, -1), BitsAllocated=1, BitsStored=1, HighBit=0, Rows=40, Columns=52)
    assert np.array_equal(grey(written(ds)), pixels * np.uint8(255))


def test_unused_bits_are_left_out():
    pixels = film(bits=10)
    overlaid = pixels | (np.arange(pixels.size, dtype=np.uint16).reshape(pixels.shape) % 2) << 12
    for syntax in (EXPLICIT, BIG_ENDIAN, RLE):
        assert np.array_equal(grey(written(dataset(overlaid, bits=10), syntax)), grey(written(dataset(pixels))))


@pytest.mark.parametrize("syntax", [EXPLICIT, BIG_ENDIAN, RLE, LOSSLESS, LS, J2K])
@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_bits_that_belong_to_the_values_are_kept(tmp_path, syntax, dtype):
    pixels = np.rint(film() * 14000.0 / 4095).astype(dtype) - (dtype == np.int16) * dtype(7000)
    expected = grey(written(dataset(pixels)))
    if syntax in (LOSSLESS, LS, J2K):
        content = with_gdcm(written(dataset(pixels)), syntax, tmp_path)
        ds = pydicom.dcmread(io.BytesIO(content))
        ds.BitsStored, ds.HighBit = 12, 11
        content = written(ds, syntax, frame=pydicom.encaps.get_frame(ds.PixelData, 0, number_of_frames=1))
    else:
        content = written(dataset(pixels, bits=12), syntax)
    assert np.array_equal(grey(content), expected)


def test_sign_in_unused_bits_or_not():
    values = film().astype(np.int16) - 2048
    whole = grey(written(dataset(values)))
    for raw in (values, (values.view(np.uint16) & 0xFFF).view(np.int16)):
        assert np.array_equal(grey(written(dataset(raw, bits=12))), whole)


def test_padding_beyond_the_bits_stored():
    padded = np.where(np.arange(52) < 6, np.uint16(65535), film())
    found = grey(written(dataset(padded, bits=12, PixelPaddingValue=65535)))
    assert (found[:, :6] == 0).all()
    assert np.array_equal(found[:, 6:], grey(written(dataset(film()[:, 6:].copy()))))


# How a file is told ---------------------------------------------------------------------------------------------


def test_content_counts_not_the_suffix(tmp_path):
    content = written(dataset(film()))
    (tmp_path / "film.png").write_bytes(content)
    Image.fromarray(film(bits=8)).save(tmp_path / "film.dcm", "PNG")
    expected = np.asarray(Image.fromarray(grey(content)).resize((16, 16), Image.Resampling.BILINEAR))
    assert np.array_equal(read_image(tmp_path / "film.png", isize=16, resize="squash"), expected)
    assert read_image(tmp_path / "film.dcm", isize=16, resize="squash").std() > 10


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("keeps_meta", [True, False])
def test_file_without_a_preamble(tmp_path, syntax, keeps_meta):
    content = written(dataset(film()), syntax)
    (length,) = struct.unpack_from("<I", content, 140)
    bare = content[132 if keeps_meta else 144 + length :]
    expected = read_image(write(tmp_path / "whole.dcm", content), isize=40, resize="crop")
    for name in ("film.DCM", "film", "1.2.840.15", "film.IMA"):
        assert np.array_equal(read_image(write(tmp_path / name, bare), isize=40, resize="crop"), expected)
    with pytest.raises(InputError, match="not an image"):
        read_image(write(tmp_path / "other", bare[:4] + b"\xff" * 200), isize=40, resize="crop")


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_text_under_a_dicom_suffix(tmp_path):
    with pytest.raises(InputError, match="not an image"):
        read_image(write(tmp_path / "notes.dcm", b"a line of text\n" * 20), isize=16, resize="squash")


def header(content: bytes) -> tuple[int, int, str]:
    return dicom.read_header(dicom.read_elements(io.BytesIO(content), dicom.HEADER_ELEMENTS))


def test_headers_without_pixels():
    for syntax in (IMPLICIT, EXPLICIT, BIG_ENDIAN):
        content = written(dataset(film(), bits=12), syntax)
        assert header(content) == header(content[:-4000]) == (52, 40, "MONOCHROME2 12 bit")
    assert header(written(dataset(film()), DEFLATED)) == (52, 40, "MONOCHROME2 16 bit")
    with pytest.raises(InputError) as caught:
        header(written(with_text(dataset(film()), "PhotometricInterpretation"), IMPLICIT))
    assert SECRET not in str(caught.value)


# What is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"NumberOfFrames": 30}, "30 frames"),
        ({"Rows": 0}, "52 x 0 pixels"),
        ({"Rows": 9000, "Columns": 8000}, "8000 x 9000 pixels; at most"),
        ({"BitsAllocated": 32}, "32 bits"),
        ({"BitsStored": 12, "HighBit": 15}, "end at bit 15"),
        ({"SamplesPerPixel": 2}, "2 samples"),
        ({"SamplesPerPixel": 3}, "none of RGB"),
        ({"PhotometricInterpretation": "RGB"}, "none of MONOCHROME1"),
        ({"Rows": 41}, "cut off"),
        ({"Rows": 39}, "more pixels than its header says"),
        ({"Columns": 51}, "more pixels than its header says"),
        ({"PixelData": None}, "ends before its pixels"),
        ({"PixelData": None, "Rows": None, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11"}, "(Basic Text SR Storage)"),
        ({"PixelData": None, "Rows": None, "SOPClassUID": "1.2.840.10008.1.3.10"}, "(Media Storage Directory Storage)"),
        *(({name: None}, f"a DICOM file without {name}") for name in NEEDED),
        *(({name: ""}, f"a DICOM file without {name}") for name in NEEDED[:-1]),
        *(({name: [3, 4]}, f"whose {name} is not one whole number") for name in NEEDED[:-1]),
        ({"BitsStored": 17}, "BitsStored 17 of BitsAllocated 16"),
        ({"BitsStored": 0}, "BitsStored 0 of"),
        ({"PixelRepresentation": 2}, "PixelRepresentation 2"),
        ({"PixelData": b""}, "ends before its pixels"),
        ({"PixelData": None, "FloatPixelData": bytes(8)}, "with FloatPixelData: only PixelData"),
        ({"PixelData": None, "DoubleFloatPixelData": bytes(8)}, "with DoubleFloatPixelData: only PixelData"),
    ],
)
def test_files_that_give_no_whole_picture(elements, words, monkeypatch):
    monkeypatch.setattr(PixelDecoder, "as_array", lambda *_, **__: pytest.fail("decoded"))
    assert words in refuse(written(dataset(film(), **elements)))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("PhotometricInterpretation", "none of MONOCHROME1"),
        *(
            (name, f"whose {name} is not one whole number")
            for name in ("NumberOfFrames", "Rows", "PixelRepresentation")
        ),
        ("RescaleSlope", "whose RescaleSlope is not a number"),
    ],
)
def test_text_where_numbers_and_codes_should_be(name, words):
    assert words in refuse(written(with_text(dataset(film()), name), IMPLICIT))


@pytest.mark.parametrize("name", ["ModalityLUTSequence", "VOILUTSequence"])
def test_tables_without_their_elements(name):
    item = pydicom.Dataset()
    assert f"whose {name} is without LUTDescriptor" in refuse(written(dataset(film(), **{name: [item]})))
    item.add_new("LUTDescriptor", "US", [4, 0, 16])
    assert f"whose {name} is without LUTData" in refuse(written(dataset(film(), **{name: [item]})))


def test_jpeg_with_a_hole():
    noisy = film(bits=8) // 2 + np.random.default_rng(0).integers(0, 60, (40, 52), dtype=np.uint8)
    frame = with_pillow(noisy, "JPEG", quality=95)
    third = len(frame) // 3
    holed = frame[: 2 * third] + bytes(third // 2) + frame[2 * third + third // 2 :]
    assert "hole" in refuse(written(dataset(noisy), BASELINE, frame=holed))


def test_text_where_the_kind_of_file_should_be():
    ds = with_text(dataset(film(), PixelData=None, Rows=None), "SOPClassUID")
    assert refuse(written(ds, IMPLICIT)) == "a DICOM file without an image"


@pytest.mark.parametrize("name", ["reportsi", "test-SR", "rtplan", "rtstruct", "dicomdirtests/DICOMDIR-empty"])
def test_files_of_other_kinds(name):
    assert "without an image" in refuse((TEST_FILES / f"{name}.dcm").read_bytes())


@pytest.mark.parametrize("name", ["SC_rgb_rle_2frame", "rtdose", "examples_ybr_color"])
def test_several_frames(name):
    assert "frames: save each of them as a file" in refuse((TEST_FILES / f"{name}.dcm").read_bytes())


def test_jpeg_without_its_end(tmp_path):
    frame = with_pillow(film(bits=8), "JPEG")
    cut = frame[: len(frame) * 3 // 4].ljust(len(frame), b"\0")
    assert "no end" in refuse(written(dataset(film(bits=8)), BASELINE, frame=cut))


def test_deflated_file_that_unpacks_to_very_much(monkeypatch):
    monkeypatch.setattr(dicom, "MAX_UNPACKED_BYTES", 2**20)
    whole = written(dataset(film()), DEFLATED)
    assert grey(whole).shape == (40, 52)
    bomb = written(dataset(np.zeros((1024, 1024), np.uint16)), DEFLATED)
    assert len(bomb) < 2**14
    monkeypatch.setattr(pydicom, "dcmread", lambda *_, **__: pytest.fail("unpacked"))
    assert "unpacks to more" in refuse(bomb)
    with pytest.raises(InputError, match="unpacks to more"):
        header(bomb)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.100", "1.2.3.4", SECRET, "1" * 200])
def test_unknown_transfer_syntax(syntax):
    content = written(dataset(film(bits=8)), BASELINE, frame=b"\0" * 20)
    changed = content.replace(BASELINE.encode(), syntax.encode()[:22].ljust(22, b"\0"))
    assert "which cannot be read" in refuse(changed) and changed != content


def test_a_decoder_that_is_not_installed(monkeypatch, tmp_path):
    monkeypatch.setattr(pydicom.pixels.common.CoderBase, "available_plugins", property(lambda _: ()))
    high_throughput = written(dataset(film(bits=8)), "1.2.840.10008.1.2.4.201", frame=b"\xff\x4f" + b"\0" * 40)
    assert "to read it, pip install pylibjpeg pylibjpeg-openjpeg" in refuse(high_throughput)
    lossless = with_gdcm(written(dataset(film())), LOSSLESS_FIRST, tmp_path)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gdcm" else find(name))
    line = refuse(lossless)
    assert LOSSLESS_FIRST in line and install_command("dicom") in line
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pydicom" else find(name))
    assert install_command("dicom") in refuse(written(dataset(film())))


@pytest.mark.slow
def test_a_folder_of_dicom_files_without_pydicom(tmp_path, monkeypatch):
    (tmp_path / "data/train/0.normal").mkdir(parents=True)
    for number in range(3):
        write(tmp_path / f"data/train/0.normal/{number}.dcm", written(dataset(film())))
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pydicom" else find(name))
    line = stopped(invoke(cli.train, "CXR_author", "unet", tmp_path / "xp", tmp_path / "data", *SHORT))
    assert "3 of 3 images" in line and install_command("dicom") in line


# GDCM, which aborts ---------------------------------------------------------------------------------------------


def damaged_lossless(folder: Path) -> bytes:
    """A file whose JPEG says that it has 85 bits, which GDCM does not survive."""
    content = with_gdcm(written(dataset(film())), LOSSLESS_FIRST, folder)
    at = content.index(b"\xff\xc3") + 4
    return content[:at] + b"\x55" + content[at + 1 :]


def test_a_frame_that_aborts_its_decoder_is_refused(tmp_path, capfd):
    content, seen = damaged_lossless(tmp_path), []
    run = subprocess.run

    def watched(*words, **how):
        seen.append(run(*words, **how))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "run", watched)
        assert "compressed pixels are damaged" in refuse(content)
    assert seen[0].returncode < 0  # a signal ended it
    assert capfd.readouterr() == ("", "")


def test_a_frame_that_takes_for_ever_is_refused(tmp_path, monkeypatch):
    content = with_gdcm(written(dataset(film())), LOSSLESS_FIRST, tmp_path)
    script = write(tmp_path / "hangs.py", b"import time\ntime.sleep(60)\n")
    monkeypatch.setattr(dicom, "GDCM_SCRIPT", script)
    monkeypatch.setattr(dicom, "GDCM_SECONDS", 0.5)
    assert "takes more than 0.5 seconds" in refuse(content)


def in_new_process(script: str, *words: object) -> subprocess.CompletedProcess:
    """Run Python without any of this process's imports."""
    command = [sys.executable, "-c", script, *map(str, words)]
    path = os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "tests")))
    return subprocess.run(command, capture_output=True, text=True, env={**ONE_THREAD, "PYTHONPATH": path})


def test_gdcm_stays_out_of_this_process(tmp_path):
    """Its zlib would take the place of Pillow's, which then crashes."""
    write(tmp_path / "film.dcm", with_gdcm(written(dataset(film())), LOSSLESS_FIRST, tmp_path))
    script = (
        "import io, sys\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from PIL import Image\n"
        "from salad.images.read import read_image\n"
        "assert 'pydicom' not in sys.modules\n"
        "pixels = read_image(Path(sys.argv[1]), isize=64, resize='squash')\n"
        "assert 'pydicom' in sys.modules and 'gdcm' not in sys.modules\n"
        "buffer = io.BytesIO()\n"
        "Image.fromarray(pixels).save(buffer, 'PNG')\n"
        "assert np.array_equal(Image.open(buffer), pixels)\n"
        "print(pixels.std() > 10)\n"
    )
    done = in_new_process(script, tmp_path / "film.dcm")
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_many_threads_that_import_pydicom_at_once(tmp_path):
    pixels = film()
    for number, syntax in enumerate((EXPLICIT, BIG_ENDIAN, RLE, DEFLATED) * 4):
        write(tmp_path / f"{number:02}.dcm", written(dataset(pixels, bits=12), syntax))
    script = (
        "import sys\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from pathlib import Path\n"
        "from salad.images.read import read_image\n"
        "paths = sorted(Path(sys.argv[1]).iterdir())\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    found = list(pool.map(lambda path: read_image(path, isize=32, resize='pad').tobytes(), paths))\n"
        "print(len(found), len(set(found)))\n"
    )
    done = in_new_process(script, tmp_path)
    assert (done.stdout, done.stderr) == ("16 1\n", "")


def test_threads_share_nothing(tmp_path):
    contents = [
        with_gdcm(written(dataset(film() // part)), syntax, tmp_path) for part in (1, 2) for syntax in (LS, J2K)
    ]
    expected = [grey(content) for content in contents]
    with ThreadPoolExecutor(4) as pool:
        for found, one in zip(pool.map(grey, contents * 3), expected * 3, strict=True):
            assert np.array_equal(found, one)


# Patients -------------------------------------------------------------------------------------------------------


def damaged_in_many_ways(folder: Path) -> list[bytes]:
    """Files that pydicom warns about, or that have a patient's name where numbers should be."""
    places = ["WindowCenter", "RescaleSlope", "NumberOfFrames", "PhotometricInterpretation", "VOILUTFunction", "Rows"]
    places += ["SpecificCharacterSet", "PixelPaddingValue", "PresentationLUTShape", "ModalityLUTSequence"]
    found = [written(with_text(dataset(film()), name), IMPLICIT) for name in places]
    found.append(written(with_text(dataset(film(), PixelData=None, Rows=None), "SOPClassUID"), IMPLICIT))
    whole = written(dataset(film()))
    rng = np.random.default_rng(0)
    for at in rng.integers(132, len(whole), 30).tolist():
        found.append(whole[:at])
        found.append(whole[:at] + bytes(rng.integers(0, 256, 4, dtype=np.uint8)) + whole[at + 4 :])
    found.append(whole.replace(b"PN", b"US", 1))
    found.append(whole.replace(EXPLICIT.encode(), SECRET.encode().ljust(len(EXPLICIT), b"\0")))
    lossless = with_gdcm(written(dataset(film())), LOSSLESS_FIRST, folder)
    return [*found, damaged_lossless(folder), lossless[: len(lossless) // 2]]


@pytest.mark.slow
def test_nothing_of_a_patient_comes_out(tmp_path):
    """The whole program on whole and damaged files: neither its output nor any file of the run names the patient."""
    root, xp = tmp_path / "data", tmp_path / "xp"
    for part, count in (("train/0.normal", 8), ("test/0.normal", 2), ("test/1.abnormal", 2)):
        (root / part).mkdir(parents=True)
        for number in range(count):
            write(root / part / f"{number}.dcm", written(dataset(film(bits=8 + number % 8))))
    for number, content in enumerate(damaged_in_many_ways(tmp_path)):
        write(root / f"train/0.normal/bad{number}.dcm", content)
    script = (
        "import sys\n"
        "from running import shrink_unet\n"
        "from salad import cli\n"
        "shrink_unet()\n"
        "at = sys.argv.index('then')\n"
        "cli.train(sys.argv[1:at], standalone_mode=False)\n"
        "cli.test(sys.argv[at + 1 :])\n"
    )
    words = ["CXR_author", "unet", xp, root]
    done = in_new_process(script, *words, *SHORT, "--on_bad_image", "skip", "then", *words, *TINY)
    assert done.returncode == 0 and "left out" in done.stderr, done.stderr
    assert "AUC score" in done.stdout, done.stderr
    files = [path for folder in (xp, root / ".salad_cache") for path in folder.rglob("*") if path.is_file()]
    assert {"skipped.csv", "log.txt", "scores.csv", "metrics.json"} < {path.name for path in files}
    for text in [done.stdout.encode() + done.stderr.encode(), *(path.read_bytes() for path in files)]:
        assert not [part for part in (b"Quaddlebuck", b"Jemimah", b"19010203") if part in text]


@pytest.mark.slow
@pytest.mark.parametrize("threads", [0, 4])
def test_pydicom_stays_silent(tmp_path, threads):
    for number, content in enumerate(damaged_in_many_ways(tmp_path)):
        write(tmp_path / f"bad{number}.png", content)
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from salad.images.decoder import Decoder\n"
        "from salad.samples import Sample\n"
        "from salad.images.scan import decode_samples\n"
        "samples = [Sample(path, path.name, 0) for path in sorted(Path(sys.argv[1]).glob('*.png'))]\n"
        "found = decode_samples(samples, decoder=Decoder(isize=8, resize='pad'), num_threads=int(sys.argv[2]))\n"
        "print(*[one for one in found if isinstance(one, str)], sep='\\n')\n"
    )
    done = in_new_process(script, tmp_path, threads)
    assert done.stderr == "" and "Quaddlebuck" not in done.stdout and len(done.stdout.splitlines()) > 30


# Files cut off --------------------------------------------------------------------------------------------------


def test_two_thirds_of_a_file(tmp_path):
    whole, small = written(dataset(film())), film(bits=8)
    contents = {
        EXPLICIT: whole,
        RLE: written(dataset(film()), RLE),
        DEFLATED: written(dataset(film()), DEFLATED),
        LOSSLESS_FIRST: with_gdcm(whole, LOSSLESS_FIRST, tmp_path),
        LS: with_gdcm(whole, LS, tmp_path),
        BASELINE: written(dataset(small), BASELINE, frame=with_pillow(small, "JPEG")),
        J2K: written(dataset(small), J2K, frame=with_pillow(small, "JPEG2000")),
    }
    for syntax, content in contents.items():
        assert grey(content).shape == (40, 52), syntax
        line = refuse(content[: len(content) * 2 // 3])
        assert "cut off" in line or "damaged" in line
