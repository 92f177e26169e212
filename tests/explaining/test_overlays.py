"""`test.py --heatmaps`, and boxes and masks beside the maps."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from running import SHORT, TINY, invoke, read_csv, read_json, stopped, train
from sklearn.metrics import roc_auc_score

from salad import cli
from salad.datasets import phantom, read_split
from salad.datasets.tables import parse_box
from salad.evaluation.localisation import NUM_BINS, Marks
from salad.explaining.overlays import file_names, outline
from salad.images.decoder import Decoder
from salad.images.masks import read_mask
from salad.samples import Sample, Selection


def test_a_picture_of_every_image(data, tmp_path):
    train(tmp_path / "xp", data)
    result = invoke(cli.test, "CXR_author", "unet", tmp_path / "xp", data, *TINY, "--heatmaps", tmp_path / "maps/here")
    assert result.exit_code == 0, result.stderr
    names = [row["path"].replace("/", "__") + ".png" for row in read_csv(tmp_path / "xp/scores.csv")]
    assert sorted(path.name for path in (tmp_path / "maps/here").iterdir()) == sorted(names)
    with Image.open(tmp_path / "maps/here" / names[0]) as picture:
        assert picture.mode == "RGB" and picture.width > 3 * 384 and picture.height > 384
    assert "heatmaps" not in read_json(tmp_path / "xp/metrics.json") and "pixel AUC" not in result.stderr


def test_a_folder_that_cannot_be_made(data, tmp_path):
    train(tmp_path / "xp", data)
    (tmp_path / "file").touch()
    folder = tmp_path / "file/maps"
    line = stopped(invoke(cli.test, "CXR_author", "unet", tmp_path / "xp", data, *TINY, "--heatmaps", folder))
    assert line.startswith(f"Error: --heatmaps {folder}: cannot be made")


@given(st.lists(st.text(max_size=150), max_size=8))
def test_file_names_are_safe_and_different(names):
    found = file_names([*names, "../../etc/passwd", "..", "", "a/b.png", "a__b.png", "A__B.PNG", "a" * 300])
    assert len({name.lower() for name in found}) == len(found) == len(names) + 7
    for name in found:
        assert name == Path(name).name and name.endswith(".png") and len(name.encode()) < 200
        assert not name.startswith(".") and set(name).isdisjoint("/\\:\0\n")


def test_outlines():
    mask = np.zeros((9, 9), bool)
    mask[2:8, 0:7] = True
    inner = np.zeros((9, 9), bool)
    inner[3:7, 1:6] = True
    assert (outline(mask, width=1) == (mask & ~inner)).all()


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


# Pixel AUC and the pointing game ---------------------------------------------------------------------------------


def test_pixel_auc_and_pointing_game_against_naive_twins():
    rng = np.random.default_rng(1)
    masks = [rng.random((16, 16)) < 0.2 for _ in range(20)]
    maps = [(rng.normal(size=(16, 16)) + mask).astype(np.float32) for mask in masks]
    marks = [Marks(), Marks()]
    for i, (mask, heat) in enumerate(zip(masks, maps, strict=True)):
        marks[i % 2].add(mask, {"error": heat, "memory": None})
    marks[0].merge(marks[1])
    found = marks[0].result()
    expected = roc_auc_score(np.stack(masks).ravel(), np.stack(maps).ravel())
    assert found.maps.keys() == {"error"}
    assert found.maps["error"].pixel_auc == pytest.approx(expected, abs=2e-4)
    hits = sum(mask.ravel()[heat.argmax()] for mask, heat in zip(masks, maps, strict=True))
    assert (found.maps["error"].pointing.count, found.maps["error"].pointing.of) == (hits, 20)
    assert found.chance == pytest.approx(np.mean(masks))


@given(st.lists(st.sampled_from([-math.inf, -2.0, -1e-9, 0.0, -0.0, 1e-9, 0.5, 3.0, 1e30]), min_size=2, max_size=30))
def test_order_and_ties_survive_the_bins(values):
    heat = np.array(values, np.float32)[None]
    mask = np.arange(heat.size)[None] % 2 == 0
    marks = Marks()
    marks.add(mask, {"error": heat})
    assert NUM_BINS < 2**20
    order = np.searchsorted(np.unique(values), values)
    assert marks.result().maps["error"].pixel_auc == pytest.approx(roc_auc_score(mask[0], order))


def test_boxes_of_images_of_another_size(caplog):
    marks = Marks()
    for _ in range(9):
        marks.add(np.eye(4, dtype=bool), {"error": np.eye(4, dtype=np.float32)})
    assert marks.result().maps["error"].pointing.value == 1
    marks.add(None, {"error": np.eye(4, dtype=np.float32)})
    assert marks.result() is None
    assert "the boxes of 1 of 10 images lie outside them: were the images resized?" in caplog.text
    assert Marks().result() is None


def test_masks_beside_class_folders(tmp_path):
    """Perfect masks of the phantom would need a trained model: here only their way into metrics.json is looked at."""
    root = tmp_path / "data"
    phantom.write_phantom(root, size=32, num_train=8, num_val=10, num_test=3)
    for path in (root / "test/1.abnormal").iterdir():
        mask = np.zeros((32, 32), np.uint8)
        mask[8:24, 8:24] = 1
        target = root / "masks" / path.relative_to(root).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(target)
    train(tmp_path / "xp", root)
    result = invoke(cli.test, "CXR_author", "unet", tmp_path / "xp", root, *TINY, "--heatmaps", tmp_path / "maps")
    assert result.exit_code == 0, result.stderr
    found = read_json(tmp_path / "xp/metrics.json")["heatmaps"]
    assert found["num_marked"] == 3 and found["pointing_game_by_chance"] == pytest.approx(0.25)
    for name in ("error_map", "memory_map"):
        assert 0 <= found[name]["pixel_auc"] <= 1 and found[name]["pointing_game"]["of"] == 3
    assert "pixel AUC, memory map" in result.stderr and "  pointing game" in result.stderr
    with Image.open(next((tmp_path / "maps").glob("test__1.abnormal*"))) as picture:
        colours = {tuple(colour) for colour in np.asarray(picture).reshape(-1, 3)}
    assert (86, 180, 233) in colours


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
    found = read_json(tmp_path / "xp/metrics.json")["heatmaps"]
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
