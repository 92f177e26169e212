"""The cache of decoded images: right after every change, whole after every kill."""

import logging
import os
import shutil
import subprocess
import sys
import zlib
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import ONE_THREAD, REPOSITORY, SHORT, TINY, invoke, read_lines, score, train, without_timings

from salad import cli
from salad.images.cache import cached_images
from salad.images.cache_file import FOLDER_NAME, choose_folder
from salad.images.decoder import Decoder
from salad.images.read import read_image
from salad.images.scan import decode_samples
from salad.samples import Sample

DECODER = Decoder(isize=8, resize="squash")


class Counter:
    """Decodes to 8 x 8 and keeps a list of what it decoded."""

    def __init__(self):
        self.names = []

    def __call__(self, samples):
        self.names += [sample.path.name for sample in samples]
        return decode_samples(samples, decoder=DECODER, num_threads=0)


@pytest.fixture
def samples(tmp_path, write_image):
    return [Sample(write_image(tmp_path / f"data/{i}.png"), f"{i}.png", i % 2) for i in range(6)]


def open_cache(samples, *, decode=None, folder=None):
    """The pixels of all good images, the reasons of the bad ones, and the names of the decoded files."""
    decode = decode or Counter()
    data = samples[0].path.parent
    images, reasons = cached_images(
        samples,
        folder=folder or data.parent / "cache",
        data_path=data,
        split="train",
        decoder=DECODER,
        decode=decode,
    )
    pixels = np.zeros((len(images), 8, 8), np.uint8)
    images.read(list(range(len(images))), pixels)
    return pixels, reasons, getattr(decode, "names", [])


def decoded(samples):
    return np.stack([read_image(sample.path, isize=8, resize="squash") for sample in samples])


def only(folder, pattern):
    (found,) = folder.glob(pattern)
    return found


def test_the_cache_holds_what_the_files_hold_in_the_order_asked_for(samples):
    shuffled = samples[::-1]
    pixels, reasons, names = open_cache(shuffled)
    assert np.array_equal(pixels, decoded(shuffled)) and not reasons
    assert sorted(names) == [f"{i}.png" for i in range(6)]
    pixels, _, names = open_cache(samples[2:] + samples[:1])
    assert np.array_equal(pixels, decoded(samples[2:] + samples[:1])) and not names


def test_size_is_announced_before_anything_is_written(samples, caplog):
    caplog.set_level(logging.INFO)
    seen = []
    open_cache(samples, decode=lambda wanted: seen.append(list(caplog.messages)) or Counter()(wanted))
    assert seen[0] == [f"cache: 6 images to decode, 0 kept, 0.0 MiB in {samples[0].path.parent.parent / 'cache'}"]


def test_only_changed_and_new_files_are_decoded(samples, write_image):
    open_cache(samples)
    write_image(samples[1].path, size=(9, 8))
    new = Sample(write_image(samples[0].path.with_name("new.png")), "new.png", 0)
    samples[3].path.unlink()
    wanted = [one for one in [*samples, new] if one is not samples[3]]
    pixels, _, names = open_cache(wanted)
    assert sorted(names) == ["1.png", "new.png"]
    assert np.array_equal(pixels, decoded(wanted))
    assert open_cache(wanted)[2] == []
    assert len(list((samples[0].path.parent.parent / "cache").iterdir())) == 3  # pixels, index, lock


def test_the_same_size_at_another_time_is_a_change(samples):
    open_cache(samples)
    content = samples[0].path.read_bytes()
    samples[1].path.write_bytes(content)
    os.utime(samples[1].path, ns=(1, 1))
    pixels, _, names = open_cache(samples)
    assert names == ["1.png"] and np.array_equal(pixels, decoded(samples))


def replace_in_place(path, content):
    path.write_bytes(content)


def replace_by_a_renamed_file(path, content):
    path.with_suffix(".new").write_bytes(content)
    os.utime(path.with_suffix(".new"), ns=(1, 1))
    path.with_suffix(".new").replace(path)


def replace_by_a_link(path, content):
    path.with_suffix(".target").write_bytes(content)
    path.unlink()
    path.symlink_to(path.with_suffix(".target"))


@pytest.mark.parametrize("replace", [replace_in_place, replace_by_a_renamed_file, replace_by_a_link])
def test_another_file_of_the_same_size_and_time_is_a_change(samples, replace):
    """As rsync -t, cp -p, tar and data sets with fixed times leave it."""
    path = samples[1].path
    header = b"P5 8 8 255\n"
    path.write_bytes(header + bytes(range(64)))
    os.utime(path, ns=(1, 1))
    open_cache(samples)
    replace(path, header + bytes(range(64, 128)))
    os.utime(path, ns=(1, 1))
    pixels, _, names = open_cache(samples)
    assert names == ["1.png"] and np.array_equal(pixels, decoded(samples))


@given(steps=st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 3), st.booleans()), max_size=12))
def test_after_any_changes_the_cache_is_right(tmp_path_factory, steps):
    """Files are written, corrupted (-1) and removed in any order, and the cache opened now and then."""
    root = tmp_path_factory.mktemp("steps")
    (root / "data").mkdir()

    def decode(samples):
        for path in (sample.path for sample in samples):
            content = path.read_bytes() if path.exists() else b"bad"
            yield "bad" if content == b"bad" else np.full((8, 8), int(content), np.uint8)

    everything = [Sample(root / f"data/{i}", str(i), 0) for i in range(5)]
    for time, (place, value, opens) in enumerate(steps):
        path = everything[place].path
        if value == 0:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(b"bad" if value < 0 else b"%d" % value)
            os.utime(path, ns=(time, time))
        if opens:
            pixels, reasons, _ = open_cache(everything, decode=decode)
            found = dict(zip(everything, decode(everything), strict=True))
            assert reasons == {sample: "bad" for sample, content in found.items() if isinstance(content, str)}
            assert [image[0, 0] for image in pixels] == [c[0, 0] for c in found.values() if not isinstance(c, str)]
    shutil.rmtree(root)


def test_a_bad_file_is_tried_again_and_the_others_are_not(samples):
    open_cache(samples)
    samples[2].path.write_bytes(b"garbage")
    for _ in range(2):
        pixels, reasons, names = open_cache(samples)
        assert list(reasons) == [samples[2]] and reasons[samples[2]].startswith("not an image")
        assert set(names) == {"2.png"}
        assert np.array_equal(pixels, decoded([*samples[:2], *samples[3:]]))


def test_a_file_that_may_be_read_again_is_found_although_it_looks_the_same(samples):
    """Its size and time are as before: somebody has granted access."""

    def refuse(wanted):
        found = zip(wanted, Counter()(wanted), strict=True)
        return ("no permission" if sample == samples[4] else pixels for sample, pixels in found)

    assert open_cache(samples, decode=refuse)[1] == {samples[4]: "no permission"}
    pixels, reasons, names = open_cache(samples)
    assert not reasons and set(names) == {"4.png"}
    assert np.array_equal(pixels, decoded(samples))


def test_a_build_that_is_stopped_leaves_nothing_that_counts(samples):
    def stop(wanted):
        yield from Counter()(wanted[:3])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_cache(samples, decode=stop)
    folder = samples[0].path.parent.parent / "cache"
    assert [path.name for path in folder.iterdir()] == ["lock"]
    assert len(open_cache(samples)[2]) == 6


KILLED = """
import os, sys
from pathlib import Path
from salad.images import cache
from salad.samples import Sample
from salad.images.scan import decode_samples
from salad.images.decoder import Decoder
DECODER = Decoder(isize=8, resize="squash")
data = Path(sys.argv[1])
samples = [Sample(path, path.name, 0) for path in sorted(data.iterdir())]
moment, replace = int(sys.argv[2]), Path.replace
def decode(wanted):
    for number, pixels in enumerate(decode_samples(wanted, decoder=DECODER, num_threads=0)):
        if number == moment:
            os._exit(9)
        yield pixels
moves = []
def move(path, target):
    if len(moves) == moment - 6:
        os._exit(9)
    moves.append(target)
    return replace(path, target)
Path.replace = move
cache.cached_images(samples, folder=data.parent / "cache", data_path=data, split="train",
                    decoder=DECODER, decode=decode)
"""


def run_python(script, *words, **options):
    command = [sys.executable, "-c", script, *map(str, words)]
    return subprocess.Popen(command, cwd=REPOSITORY, env=ONE_THREAD, stderr=subprocess.PIPE, text=True, **options)


@pytest.mark.slow
@pytest.mark.parametrize("moment", [0, 5, 6, 7])
def test_a_build_that_is_killed_leaves_nothing_that_counts(samples, moment):
    """In the middle of decoding, before the pixels and before the index are moved into place."""
    data = samples[0].path.parent
    process = run_python(KILLED, data, moment)
    process.communicate(timeout=300)
    assert process.returncode == 9
    assert not list((data.parent / "cache").glob("*.json"))
    pixels, _, names = open_cache(samples)
    assert len(names) == 6 and np.array_equal(pixels, decoded(samples))
    assert len(list((data.parent / "cache").iterdir())) == 3


SLOW = """
import logging, sys, time
from pathlib import Path
from salad.images.cache import cached_images
from salad.samples import Sample
from salad.images.scan import decode_samples
from salad.images.decoder import Decoder
DECODER = Decoder(isize=8, resize="squash")
logging.basicConfig(level=logging.INFO, format="%(message)s")
data = Path(sys.argv[1])
samples = [Sample(path, path.name, 0) for path in sorted(data.iterdir())]
def decode(wanted):
    for pixels in decode_samples(wanted, decoder=DECODER, num_threads=0):
        time.sleep(0.3)
        yield pixels
cached_images(samples, folder=data.parent / "cache", data_path=data, split="train",
              decoder=DECODER, decode=decode)
"""


@pytest.mark.slow
def test_processes_that_start_at_once_build_once(samples):
    data = samples[0].path.parent
    processes = [run_python(SLOW, data) for _ in range(3)]
    messages = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], messages
    assert sum("6 images to decode" in one for one in messages) == 1, messages
    pixels, _, names = open_cache(samples)
    assert not names and np.array_equal(pixels, decoded(samples))


def test_without_locks_builds_at_once_do_no_harm(samples, monkeypatch):
    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)

    def decode(wanted):  # while one is building, another builds the same
        if wanted and wanted[0] == samples[0]:
            open_cache(samples, decode=Counter())
        return Counter()(wanted)

    pixels, _, _ = open_cache(samples, decode=decode)
    assert np.array_equal(pixels, decoded(samples))
    assert open_cache(samples)[2] == []


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [lambda path: flip(path, 70), lambda path: os.truncate(path, 100)])
def test_damage_during_a_run_is_seen_and_the_files_are_decoded(samples, harm, caplog):
    data = samples[0].path.parent
    images, _ = cached_images(samples, folder=data, data_path=data, split="train", decoder=DECODER, decode=Counter())
    harm(only(data, "*.u8"))
    pixels = np.zeros((6, 8, 8), np.uint8)
    images.read(list(range(6)), pixels)
    assert np.array_equal(pixels, decoded(samples))
    assert len([one for one in caplog.messages if ".u8 is damaged" in one]) == 1


@pytest.mark.parametrize(
    ("pattern", "harm"),
    [
        ("*.u8", lambda path: os.truncate(path, 100)),
        ("*.u8", Path.unlink),
        ("*.json", lambda path: flip(path, 40)),
        ("*.json", lambda path: path.write_text("")),
        ("*.json", lambda path: path.write_text('{"version": 1, "images": 3, "bad": []}')),
        ("*.json", Path.unlink),
    ],
)
def test_damage_before_a_run_has_the_cache_made_anew(samples, pattern, harm):
    open_cache(samples)
    folder = samples[0].path.parent.parent / "cache"
    harm(only(folder, pattern))
    pixels, _, names = open_cache(samples)
    assert len(names) == 6 and np.array_equal(pixels, decoded(samples))
    assert len(list(folder.iterdir())) == 3


def test_damaged_rows_are_not_copied_into_a_new_cache(samples, write_image):
    open_cache(samples)
    flip(only(samples[0].path.parent.parent / "cache", "*.u8"), 64 + 3)  # in the second row
    new = Sample(write_image(samples[0].path.with_name("new.png")), "new.png", 0)
    pixels, _, names = open_cache([*samples, new])
    assert names == ["new.png", "1.png"] and np.array_equal(pixels, decoded([*samples, new]))


def test_the_index_names_each_file_with_its_label_and_its_sum(samples):
    open_cache(samples)
    folder = samples[0].path.parent.parent / "cache"
    pixels = np.memmap(only(folder, "*.u8"), np.uint8, mode="r", shape=(6, 8, 8))
    for name, size, mtime_ns, ctime_ns, label, row, crc, _ in read_lines(only(folder, "*.json"))[0]["images"]:
        sample = samples[int(name[0])]
        found = sample.path.stat()
        assert (size, mtime_ns, ctime_ns) == (found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        assert label == sample.label
        assert crc == zlib.crc32(np.ascontiguousarray(pixels[row]))


def test_data_and_cache_can_move_together(samples):
    data = samples[0].path.parent
    open_cache(samples, folder=data / FOLDER_NAME)
    moved = data.rename(data.with_name("moved"))
    there = [Sample(moved / one.path.name, one.name, one.label) for one in samples]
    assert open_cache(there, folder=moved / FOLDER_NAME)[2] == []


def test_where_the_cache_is(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    data, other = tmp_path / "a/data", tmp_path / "b/data"
    data.mkdir(parents=True)
    assert choose_folder("off", data) is None
    assert choose_folder(None, data) == data / FOLDER_NAME
    given_for = {choose_folder(str(tmp_path / "here"), one) for one in (data, other)}
    assert len(given_for) == 2 and {path.parent for path in given_for} == {tmp_path / "here"}
    monkeypatch.setattr(os, "access", lambda *_: False)
    chosen = choose_folder(None, data)
    assert chosen is not None and chosen.parent == tmp_path / "user/salad" and chosen.name.startswith("data-")


def test_a_user_without_a_home_has_no_cache_of_read_only_data_but_may_name_one(data, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a number without a line in passwd
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert choose_folder(None, data) is None and "this user has no home; --cache FOLDER makes one" in caplog.text
    named = choose_folder(str(tmp_path / "here"), data)
    assert named is not None and named.parent == tmp_path / "here"
    assert choose_folder("off", data) is None


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images():
    script = (
        "import os, sys, tempfile\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from salad.images.cache import CachedImages\n"
        "from salad.images.cache_file import Cache, Row\n"
        "from salad.images.decoder import Decoder\n"
        "from salad.datasets.loader import Loader\n"
        "from salad.samples import Sample\n"
        "def resident():\n"
        "    pages = int(Path('/proc/self/statm').read_text().split()[1])\n"
        "    return pages * os.sysconf('SC_PAGE_SIZE') / 2**20\n"
        "with tempfile.TemporaryFile() as file:\n"
        "    os.truncate(file.fileno(), 3000 * 256 * 256)\n"  # 188 MiB
        "    zero = __import__('zlib').crc32(bytes(256 * 256))\n"
        "    cache = Cache(file=file, rows={}, bad=frozenset())\n"
        "    items = [(Sample(Path('x'), 'x', 0), Row(i, zero)) for i in range(3000)]\n"
        "    images = CachedImages(cache, items, decoder=Decoder(isize=256, resize='squash'))\n"
        "    loader = Loader(images, batch_size=32, num_threads=2)\n"
        "    for number, _ in enumerate(loader.epoch(0)):\n"
        "        before = resident() if number == 8 else before if number else 0\n"
        "    print(resident() - before)\n"
    )
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc")
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert float(done.stdout) < 60, done.stderr  # of 188


# Both programs --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_both_programs_give_the_same_with_and_without(data, tmp_path):
    lines = train(tmp_path / "off", data, "--cache", "off")
    assert not (data / FOLDER_NAME).exists()
    scores = score(tmp_path / "off", data, "--cache", "off")
    for name in ("first", "second"):
        assert without_timings(train(tmp_path / name, data)) == without_timings(lines)
        assert score(tmp_path / name, data) == pytest.approx(scores, abs=1e-5)
    assert "16 images" not in (tmp_path / "second/log.txt").read_text()
    assert {path.suffix for path in (data / FOLDER_NAME).iterdir()} == {".json", ".u8", ""}
    train(tmp_path / "third", data, "--cache", tmp_path / "elsewhere")
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1


def test_without_room_files_are_decoded_in_every_epoch(data, tmp_path, monkeypatch):
    shutil.rmtree(data / FOLDER_NAME, ignore_errors=True)
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10))
    result = invoke(cli.train, "CXR_author", "unet", tmp_path / "xp", data, *SHORT)
    assert result.exit_code == 0
    assert "no cache there (0.0 MiB are needed, 0.0 MiB are free); files are decoded in every epoch" in result.stderr


def test_a_place_that_is_no_folder(data, tmp_path):
    (tmp_path / "file").touch()
    result = invoke(cli.train, "CXR_author", "unet", tmp_path / "xp", data, *SHORT, "--cache", tmp_path / "file")
    assert result.exit_code == 0 and "no cache there (Not a directory)" in result.stderr


@pytest.mark.slow
def test_an_image_that_vanishes_between_two_runs_is_missed(data, tmp_path, write_image):
    copy = Path(shutil.copytree(data, tmp_path / "data"))
    train(tmp_path / "xp", copy)
    gone = sorted((copy / "test/0.normal").iterdir())[0]
    score(tmp_path / "xp", copy)
    gone.unlink()
    gone.symlink_to("absent")
    result = invoke(cli.test, "CXR_author", "unet", tmp_path / "xp", copy, *TINY)
    assert result.exit_code == 2 and "a link to a file that is not there" in result.stderr
