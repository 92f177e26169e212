"""The check of all images before a run, and names and files of every kind on the way through both programs."""

import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import SHORT, TINY, invoke, read_csv, read_json, score, stopped, train

from salad import build, cli
from salad.datasets import phantom, read_split
from salad.errors import InputError
from salad.images import scan as scans
from salad.images.decoder import Decoder
from salad.images.scan import scan, write_skipped
from salad.images.threads import ITEMS_AHEAD
from salad.runs.folder import RunFolder, log_to
from salad.samples import Sample, Skipped, Split

DECODER = Decoder(isize=8, resize="squash")
GOOD = {"a.png", "b.png", "c.png", "d.png"}
ODD_NAMES = [b"\xff\xfe.png", b"line\nbreak.png", "röntgen 胸部.png".encode(), b"x" * 251 + b".png", b'a,"b".png']


@pytest.fixture
def split(tmp_path, write_image):
    """Four good files and four bad ones."""
    folder = tmp_path / "train"
    for name in sorted(GOOD):
        write_image(folder / name)
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:60])
    (folder / "empty.png").touch()
    (folder / "link.png").symlink_to("absent")
    (folder / "text.png").write_text("no image")
    samples = [Sample(path, f"train/{path.name}", 0) for path in sorted(folder.iterdir())]
    return Split(samples=samples, normal_class="normal", classes=("normal",))


def run_scan(split, *, num_threads=0, on_bad_image="skip"):
    return scan({"train": split}, decoder=DECODER, num_threads=num_threads, on_bad_image=on_bad_image)["train"]


def names(split):
    return {sample.path.name for sample in split.samples}


@pytest.mark.parametrize("num_threads", [0, 1, 3])
def test_skip_leaves_out_the_bad_files_and_says_why(split, num_threads):
    found = run_scan(split, num_threads=num_threads)
    assert names(found) == GOOD
    assert found.normal_class == split.normal_class
    reasons = {one.name: one.reason for one in found.skipped}
    assert reasons.keys() == {f"train/{name}.png" for name in ("cut", "empty", "link", "text")}
    assert "cut off" in reasons["train/cut.png"]
    assert reasons["train/empty.png"] == "an empty file"
    assert reasons["train/link.png"] == "a link to a file that is not there"
    assert reasons["train/text.png"].startswith("not an image")
    assert {one.split for one in found.skipped} == {"train"}


def test_error_names_all_bad_files_at_once(split, caplog):
    with pytest.raises(
        InputError, match=r"^4 of 8 images of train/ cannot be read, the first is train/cut.png .*--on_bad_image skip$"
    ):
        run_scan(split, on_bad_image="error")
    assert [message.partition(": ")[0] for message in caplog.messages] == [
        f"train/{name}.png" for name in ("cut", "empty", "link", "text")
    ]


@pytest.mark.parametrize("on_bad_image", ["error", "skip"])
def test_good_files_pass_without_a_word(split, caplog, on_bad_image):
    good = run_scan(split)
    caplog.clear()
    assert run_scan(good, on_bad_image=on_bad_image).samples == good.samples
    assert not caplog.messages


def test_several_splits_are_told_apart(split, write_image, tmp_path):
    val = Split(samples=[Sample(write_image(tmp_path / "v.png"), "val/v.png", 0)], normal_class="n", classes=("n",))
    found = scan({"train": split, "val": val}, decoder=DECODER, num_threads=0, on_bad_image="skip")
    assert names(found["train"]) == GOOD and names(found["val"]) == {"v.png"}
    assert not found["val"].skipped


def test_nothing_left(split):
    bad = Split(samples=[split.samples[3]], normal_class="normal", classes=("normal",))
    assert bad.samples[0].path.name not in GOOD
    with pytest.raises(InputError, match="none of the 1 images of train/ can be read"):
        run_scan(bad)


def test_screen_shows_some_and_the_log_all(split, tmp_path, capfd):
    bad = [Sample(tmp_path / f"{i}.png", f"train/{i}.png", 0) for i in range(57)]
    log_to(RunFolder(tmp_path / "xp"))
    logger = logging.getLogger("salad")
    try:
        with pytest.raises(InputError):
            run_scan(Split(samples=bad, normal_class="n", classes=("n",)), on_bad_image="error")
    finally:
        for handler in logger.handlers[:]:
            logger.removeHandler(handler)
            handler.close()
        logger.propagate = True
    shown = capfd.readouterr().err.splitlines()
    assert len(shown) == scans.SHOWN_ON_SCREEN + 1
    assert shown[0] == "train/0.png: no such file" and "37 more" in shown[-1]
    logged = (tmp_path / "xp/log.txt").read_text().splitlines()
    assert len([line for line in logged if line.endswith("no such file")]) == 57


def test_few_files_are_decoded_ahead(monkeypatch):
    """However many there are, and however long what takes them takes."""
    decoded: list[Sample] = []

    def count(_, sample):
        decoded.append(sample)
        return np.zeros((8, 8), np.uint8)

    monkeypatch.setattr(Decoder, "read", count)
    taken = scans.decode_samples([Sample(Path(str(i)), str(i), 0) for i in range(500)], decoder=DECODER, num_threads=2)
    next(taken)
    taken.close()
    assert 1 <= len(decoded) <= 1 + 2 * ITEMS_AHEAD


# skipped.csv ----------------------------------------------------------------------------------------------------


def test_training_and_scoring_share_the_table(tmp_path):
    of_train, of_test = Skipped("train/a.png", "an empty file", "train"), Skipped("test/b.png", 'cut, "off"', "test")
    write_skipped(tmp_path, (of_train,), scanned=("train", "val"))
    write_skipped(tmp_path, (of_test,), scanned=("test",))
    lines = [{"path": one.name, "reason": one.reason, "split": one.split} for one in (of_train, of_test)]
    assert read_csv(tmp_path / "skipped.csv") == lines
    write_skipped(tmp_path, (), scanned=("test",))
    assert read_csv(tmp_path / "skipped.csv") == lines[:1]
    write_skipped(tmp_path, (), scanned=("train", "val", "test"))
    assert not (tmp_path / "skipped.csv").exists()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\0", b"path\nx\n", b"a,b\n1,2\n"])
def test_table_that_is_none_of_ours_is_replaced(tmp_path, content):
    (tmp_path / "skipped.csv").write_bytes(content)
    write_skipped(tmp_path, (Skipped("a", "b", "test"),), scanned=("test",))
    assert read_csv(tmp_path / "skipped.csv") == [{"path": "a", "reason": "b", "split": "test"}]


# Both programs --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clean_data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("phantom") / "data"
    phantom.write_phantom(root, size=32, num_train=8, num_val=2, num_test=3)
    return root


@pytest.fixture(scope="module")
def clean_run(clean_data, tmp_path_factory) -> Path:
    xp = tmp_path_factory.mktemp("run") / "xp"
    train(xp, clean_data)
    return xp


@pytest.fixture
def data(clean_data, tmp_path) -> Path:
    return Path(shutil.copytree(clean_data, tmp_path / "data"))


@pytest.fixture
def run(clean_run, tmp_path) -> Path:
    return Path(shutil.copytree(clean_run, tmp_path / "xp"))


def corrupt(data, split, label="0.normal", number=0):
    """Cut a file in half; returns its name."""
    path = sorted((data / split / label).iterdir())[number]
    path.write_bytes(path.read_bytes()[:100])
    return path.relative_to(data).as_posix()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "log.txt"}


@pytest.mark.parametrize("num_threads", [0, 2])
def test_training_stops_before_anything_is_touched(run, data, num_threads):
    bad = [corrupt(data, "train"), corrupt(data, "train", number=5), corrupt(data, "val", "1.abnormal")]
    (run / "skipped.csv").write_text("path,reason,split\ntrain/x.png,of old,train\n")
    before = contents(run)
    result = invoke(
        cli.train, "CXR_author", "unet", run, data, *SHORT, "--overwrite", "--n_jobs_dataloader", num_threads
    )
    assert stopped(result).startswith("Error: 3 of 12 images of train/ and val/ cannot be read")
    assert contents(run) == before
    for name in bad:
        assert f"{name}: damaged, cut off" in result.stderr
        assert f"{name}: damaged, cut off" in (run / "log.txt").read_text()


def test_training_leaves_bad_files_out(run, data):
    bad = [corrupt(data, "train"), corrupt(data, "val", "1.abnormal")]
    (run / "skipped.csv").write_text("path,reason,split\ntrain/x.png,of old,train\ntest/y.png,of old,test\n")
    train(run, data, "--overwrite", "--on_bad_image", "skip")
    assert [line["path"] for line in read_csv(run / "skipped.csv")] == bad
    assert read_json(run / "config.json")["run"]["num_train"] == 7
    assert read_json(run / "config.json")["run"]["num_skipped"] == 2
    assert "2 of 12 images of train/ and val/ cannot be read and are left out" in (run / "log.txt").read_text()


def test_val_that_loses_a_class_picks_no_checkpoint(tmp_path, data):
    for number in (0, 1):
        corrupt(data, "val", "1.abnormal", number)
    lines = train(tmp_path / "xp", data, "--on_bad_image", "skip")
    assert [line["val_auc"] for line in lines] == [None] * len(lines)
    assert len(read_csv(tmp_path / "xp/skipped.csv")) == 2


def test_scoring_stops_or_leaves_bad_files_out(run, data):
    score(run, data)
    before, bad = contents(run), corrupt(data, "test")
    line = stopped(invoke(cli.test, "CXR_author", "unet", run, data, *TINY))
    assert "1 of 6 images of test/ cannot be read" in line
    assert contents(run) == before
    assert len(score(run, data, "--on_bad_image", "skip")) == 5
    assert [line["path"] for line in read_csv(run / "skipped.csv")] == [bad]
    assert bad not in {line["path"] for line in read_csv(run / "scores.csv")}
    assert read_json(run / "metrics.json")["num_skipped"] == 1


@pytest.mark.parametrize("on_bad_image", ["error", "skip"])
@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(b"garbage")])
@pytest.mark.parametrize("program", ["main.py", "test.py"])
def test_file_that_turns_bad_during_the_run(run, data, tmp_path, monkeypatch, program, change, on_bad_image):
    split = "train" if program == "main.py" else "test"
    path = sorted((data / split / "0.normal").iterdir())[2]

    def scan_then_change(context, splits):
        found = build.scan(
            splits, decoder=context.decoder, num_threads=0, on_bad_image=context.config.data.on_bad_image
        )
        change(path)
        return found

    monkeypatch.setattr(build.RunContext, "scan", scan_then_change)
    if program == "main.py":
        result = invoke(cli.train, "CXR_author", "unet", tmp_path / "new", data, *SHORT, "--on_bad_image", on_bad_image)
    else:
        result = invoke(cli.test, "CXR_author", "unet", run, data, *TINY, "--on_bad_image", on_bad_image)
    assert str(path) in stopped(result)


def test_odd_names_go_through_both_programs(tmp_path, data, capfd):
    picture = next((data / "train/0.normal").iterdir()).read_bytes()
    for split, label in (("train", "0.normal"), ("test", "0.normal"), ("test", "1.abnormal")):
        for name in ODD_NAMES:
            Path(os.fsdecode(os.fsencode(data / split / label) + b"/" + name)).write_bytes(picture)
    Path(os.fsdecode(os.fsencode(data / "test/0.normal") + b"/bad\xff\n.png")).write_bytes(b"garbage")
    xp = tmp_path / "xp"
    train(xp, data)
    assert len(score(xp, data, "--on_bad_image", "skip")) == 6 + 2 * len(ODD_NAMES)
    found = {line["path"].rpartition("/")[2] for line in read_csv(xp / "scores.csv")}
    assert found >= {"\\udcff\\udcfe.png", "line\\nbreak.png", "röntgen 胸部.png", "x" * 251 + ".png", 'a,"b".png'}
    assert read_csv(xp / "skipped.csv")[0]["path"] == "test/0.normal/bad\\udcff\\n.png"
    assert "bad\\udcff\\n.png: not an image" in (xp / "log.txt").read_text(encoding="utf-8")
    assert "Logging error" not in capfd.readouterr().err


def test_a_folder_of_a_name_that_is_no_utf8(tmp_path, data):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/d\xff"))
    data.rename(odd)
    corrupt(odd, "test")
    result = invoke(cli.train, "CXR_author", "unet", odd / "xp", odd, *SHORT)
    assert result.exit_code == 0 and "Logging error" not in result.stderr
    assert "d\\udcff" in (odd / "xp/log.txt").read_text(encoding="utf-8")
    assert "1 of 6" in stopped(invoke(cli.test, "CXR_author", "unet", odd / "xp", odd, *TINY))
    assert len(score(odd / "xp", odd, "--on_bad_image", "skip")) == 5


# What a class folder may hold -----------------------------------------------------------------------------------


def test_folders_links_and_pipes_named_like_images(data):
    folder = data / "train/0.normal"
    (folder / "empty.png").mkdir()
    (folder / "full.png").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "full.png/inside.png")
    (folder / "circle.png").symlink_to("circle.png")
    (folder / "dangling.png").symlink_to("absent")
    os.mkfifo(folder / "pipe.png")
    split = read_split("CXR_author", data, "train")
    found = run_scan(split)
    assert {sample.name for sample in split.samples} - {sample.name for sample in found.samples} == {
        f"train/0.normal/{name}.png" for name in ("circle", "dangling", "pipe")
    }
    assert "train/0.normal/full.png/inside.png" in {sample.name for sample in found.samples}


def test_folder_that_cannot_be_listed(data, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=f"^{data}.*: cannot be listed \\(Permission denied\\)$"):
        read_split("CXR_author", data, "train")
