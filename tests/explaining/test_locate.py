"""Boxes and masks of experts, and the maps of a test beside them."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import SHORT, TINY, invoke, read_json, stopped, train

from salad import cli
from salad.datasets import phantom, read_split
from salad.datasets.tables import parse_box
from salad.images.decoder import Decoder
from salad.images.masks import read_mask
from salad.samples import Sample, Selection

# Boxes and masks in the geometry of the network ------------------------------------------------------------------


def marked_image(path: Path, box, *, size=(200, 100), border=0):
    """A noisy film whose box is white, so that the image itself shows where the mask has to be."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(40, 100, size[::-1], dtype=np.uint8)
    left, top, right, bottom = box
    pixels[top:bottom, left:right] = 255
    pixels = np.pad(pixels, border)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return tuple(float(value + border) for value in box)


@pytest.mark.parametrize("suffix", [".png", ".jpeg"])
@pytest.mark.parametrize("trim", [False, True])
@pytest.mark.parametrize("resize", ["squash", "pad", "crop"])
@pytest.mark.parametrize("size", [(200, 100), (120, 160)])
def test_boxes_go_where_the_image_goes(tmp_path, size, resize, trim, suffix):
    box = marked_image(tmp_path / f"a{suffix}", (70, 30, 110, 70), size=size, border=20)
    decoder = Decoder(isize=32, resize=resize, trim=trim)
    sample = Sample(tmp_path / f"a{suffix}", "a", 1, boxes=(box,))
    mask, pixels = read_mask(sample, decoder), decoder.read(sample)
    # a JPEG that is shrunk while it is decoded is trimmed at other pixels
    assert mask.any() and (mask != (pixels > 170)).mean() < (0.05 if suffix == ".jpeg" else 0.02)
    drawn = np.zeros((size[1] + 40, size[0] + 40), np.uint8)
    left, top, right, bottom = map(int, box)
    drawn[top:bottom, left:right] = 1  # any grey above 0 marks
    Image.fromarray(drawn).save(tmp_path / "mask.png")
    of_file = read_mask(Sample(sample.path, "a", 1, mask=tmp_path / "mask.png"), decoder)
    assert (of_file == mask).all()


def test_boxes_that_do_not_fit_or_are_tiny(tmp_path):
    marked_image(tmp_path / "a.png", (0, 0, 10, 10))
    decoder = Decoder(isize=32, resize="squash")

    def mask_of(*boxes):
        return read_mask(Sample(tmp_path / "a.png", "a", 1, boxes=boxes), decoder)

    assert mask_of((150.0, 50.0, 230.0, 90.0)) is None
    assert mask_of((10.0, 10.0, 20.0, 20.0), (0.0, -30.0, 30.0, 30.0)) is None
    assert mask_of((150.0, 50.0, 201.5, 90.0)) is not None  # rounding
    assert 0 < mask_of((60.0, 60.0, 61.0, 61.0)).sum() <= 9  # less than a pixel of the square
    assert mask_of((0.0, 0.0, 200.0, 100.0)).all()


def test_fields_of_boxes():
    assert parse_box("1", "2", "3.5", "4") == (1, 2, 3.5, 4)
    assert parse_box("1", "2", "3.5", "4", are_sizes=True) == (1, 2, 4.5, 6)
    for fields in (("", "", "", ""), ("1", "2", "1", "4"), ("nan", "0", "1", "1"), ("1", "2", "inf", "4"), ("a",) * 4):
        assert parse_box(*fields) is None


# Maps beside them ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def marked(tmp_path_factory) -> Path:
    """Phantom films with masks, and a run on them: perfect maps would need a training of real length."""
    root = tmp_path_factory.mktemp("marked")
    phantom.write_phantom(root / "data", size=32, num_train=8, num_val=10, num_test=3)
    for path in (root / "data/test/1.abnormal").iterdir():
        mask = np.zeros((32, 32), np.uint8)
        mask[8:24, 8:24] = 1
        target = root / "data/masks" / path.relative_to(root / "data").with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(target)
    train(root / "xp", root / "data")
    return root


def located(folder: Path, data: Path, *options: object) -> tuple[dict, str]:
    """The localisation of metrics.json, and what was said."""
    words = ["--load_model", data.parent / "xp/model.tar", "--out", folder, *options]
    result = invoke(cli.test, "CXR_author", "unet", data.parent / "xp", data, *TINY, *words)
    assert result.exit_code == 0, result.stderr
    return read_json(folder / "metrics.json").get("localisation"), result.stderr


def test_masks_beside_class_folders(marked, tmp_path):
    found, said = located(tmp_path, marked / "data", "--heatmaps", tmp_path / "maps")
    assert found["num_marked"] == 3 and found["pointing_game_by_chance"] == pytest.approx(0.25)
    for name in ("error_map", "memory_map"):
        assert 0 <= found[name]["pixel_auc"]["value"] <= 1 and found[name]["pointing_game"]["of"] == 3
    assert "pixel AUC, memory map" in said and "  pointing game" in said
    with Image.open(next((tmp_path / "maps").glob("test__1.abnormal*"))) as picture:
        colours = {tuple(colour) for colour in np.asarray(picture).reshape(-1, 3)}
    assert (86, 180, 233) in colours


def test_marks_are_compared_without_pictures_and_stand_in_the_report(marked, tmp_path):
    with_pictures, _ = located(tmp_path / "a", marked / "data", "--heatmaps", tmp_path / "maps")
    without, said = located(tmp_path / "b", marked / "data", "--report")
    assert without.keys() == with_pictures.keys() and "pixel AUC, error map" in said
    for name in ("error_map", "memory_map"):
        assert without[name]["pixel_auc"] == pytest.approx(with_pictures[name]["pixel_auc"], abs=1e-3)
    assert "Pointing game of the error map" in (tmp_path / "b/report.html").read_text(encoding="utf-8")


def test_a_mask_that_cannot_be_read_stops_no_test_that_did_not_ask_for_pictures(marked, tmp_path):
    root = tmp_path / "marked"
    shutil.copytree(marked, root)
    broken = min((root / "data/masks/test/1.abnormal").iterdir())
    broken.write_bytes(b"no image")
    found, said = located(tmp_path / "out", root / "data")
    assert found is None and f"localisation is not measured: {broken}: not an image" in said
    words = ["CXR_author", "unet", root / "xp", root / "data", *TINY, "--heatmaps", tmp_path / "maps"]
    assert f"Error: {broken}: not an image" in stopped(invoke(cli.test, *words))


def test_boxes_beside_class_folders_are_those_of_a_mask(marked, tmp_path):
    root = tmp_path / "marked"
    shutil.copytree(marked, root, ignore=shutil.ignore_patterns("masks"))
    names = sorted(path.relative_to(root / "data").as_posix() for path in (root / "data/test/1.abnormal").iterdir())
    rows = [f"{name},8,8,16,{height},Opacity" for name in names for height in (10, 16)]
    (root / "data/boxes.csv").write_text("\n".join(["path,x,y,width,height,label", *rows]))
    found, said = located(tmp_path / "boxes", root / "data")
    expected, _ = located(tmp_path / "masks", marked / "data")
    assert found["error_map"]["pixel_auc"] == pytest.approx(expected["error_map"]["pixel_auc"], abs=1e-3)
    assert found["pointing_game_by_chance"] == expected["pointing_game_by_chance"]


def miniature_rsna(root: Path) -> None:
    classes, boxes = ["patientId,class"], ["patientId,x,y,width,height,Target"]
    for i in range(12):
        found = "Lung Opacity" if i >= 8 else "Normal"
        marked_image(root / f"stage_2_train_images/p{i:02}.png", (20, 20, 60, 60), size=(100, 100))
        classes.append(f"p{i:02},{found}")
        boxes += [f"p{i:02},20,20,40,20,1", f"p{i:02},20,40,40,20,1"] if i >= 8 else [f"p{i:02},,,,,0"]
    (root / "stage_2_detailed_class_info.csv").write_text("\n".join(classes))
    (root / "stage_2_train_labels.csv").write_text("\n".join(boxes))


def miniature_vindr(root: Path) -> None:
    rows = ["image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"]
    for i in range(12):
        marked_image(root / f"train/p{i:02}.png", (20, 20, 60, 60), size=(100, 100))
        ill = [f"p{i:02},Nodule,8,R{n},20,20,{60 - n}.0,60" for n in range(2)]
        rows += [*ill, f"p{i:02},No finding,14,R2,,,,"] if i >= 8 else [f"p{i:02},No finding,14,R0,0,0,1,1"]
    rows += ["p00,No finding,14,R1,,,,", "p00,Nodule,8,R2,1,2,3,4"]  # a minority's box in a normal image
    (root / "train.csv").write_text("\n".join(rows))


@pytest.mark.parametrize(("name", "write"), [("RSNA", miniature_rsna), ("VinDr", miniature_vindr)])
def test_boxes_of_data_sets(tmp_path, name, write):
    root, lists = tmp_path / "data", tmp_path / "lists"
    write(root)
    lists.mkdir()
    (lists / "train.txt").write_text("\n".join(f"p{i:02}" for i in range(2, 8)))
    (lists / "test.txt").write_text("\n".join(f"p{i:02}" for i in (0, 1, 8, 9, 10, 11)))
    split = read_split(name, root, "test", selection=Selection(split_dir=lists))
    union = (20.0, 20.0, 60.0, 60.0)
    for sample in split.samples[2:]:
        mask = read_mask(sample, Decoder(isize=50, resize="squash"))
        assert (mask == read_mask(replace(sample, boxes=(union,)), Decoder(isize=50, resize="squash"))).all()
        assert np.argwhere(mask).min() == 10 and np.argwhere(mask).max() == 29
    assert split.labels == [0, 0, 1, 1, 1, 1] and split.samples[1].boxes == ()
    words = [name, "unet", tmp_path / "xp", root]
    assert invoke(cli.train, *words, *SHORT, "--split_dir", lists).exit_code == 0
    result = invoke(cli.test, *words, *TINY, "--heatmaps", tmp_path / "maps")
    assert result.exit_code == 0, result.stderr
    found = read_json(tmp_path / "xp/metrics.json")["localisation"]
    assert found["num_marked"] == 4 and found["pointing_game_by_chance"] == pytest.approx(0.16, abs=0.01)
    assert found["error_map"]["pointing_game"]["of"] == found["memory_map"]["pointing_game"]["of"] == 4


def test_boxes_of_a_test_part_are_not_read_for_the_training(tmp_path):
    """PhysioNet's form of VinDr."""
    for image in ("train/a", "train/b", "test/c", "test/d"):
        marked_image(tmp_path / f"{image}.png", (2, 2, 5, 5), size=(10, 10))
    (tmp_path / "annotations").mkdir()
    for part, (well, ill) in {"train": "ab", "test": "cd"}.items():
        labels = f"image_id,rad_id,Nodule,No finding\n{well},R1,0,1\n{ill},R1,1,0\n"
        (tmp_path / f"annotations/image_labels_{part}.csv").write_text(labels)
        boxes = (
            f"image_id,rad_id,class_name,x_min,y_min,x_max,y_max\n{well},R1,No finding,,,,\n{ill},R1,Nodule,2,2,5,5\n"
        )
        (tmp_path / f"annotations/annotations_{part}.csv").write_text(boxes)
    for split in ("train", "test"):
        found = read_split("VinDr", tmp_path, split)
        assert [sample.boxes for sample in found.samples] == [(), ((2.0, 2.0, 5.0, 5.0),)]
    for path in (tmp_path / "annotations").glob("*_test.csv"):
        path.write_bytes(b"\0")
    (tmp_path / "annotations/image_labels_test.csv").write_text("image_id,No finding\nc,1\nd,0\n")
    assert read_split("VinDr", tmp_path, "train").samples[1].boxes
