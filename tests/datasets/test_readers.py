"""Miniature trees of every data set, with the official names of files and columns."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import SHORT, TINY, invoke, read_csv, read_json, read_tar, stopped

from salad import cli
from salad.datasets import DATASETS, medmnist, read_split
from salad.datasets.cells import age_in_years
from salad.datasets.lists import drawn_split, read_list
from salad.datasets.tables import read_rows
from salad.errors import InputError
from salad.images import npz
from salad.images.cache_file import choose_folder
from salad.images.decoder import Decoder
from salad.images.film_facts import PARTS, part_of_words
from salad.samples import Selection

SPLITS = ("train", "val", "test")
SOME_ID = "a{:02d}"


def read(name: str, data_path: Path, split: str, **selection):
    return read_split(name, data_path, split, selection=Selection(**selection))


def names(split) -> dict[str, int]:
    """Label by file name; the names inside DATA_PATH are unique."""
    assert len({sample.name for sample in split.samples}) == len(split.samples)
    return {Path(sample.name).name: sample.label for sample in split.samples}


def refused(*args, **selection) -> str:
    with pytest.raises(InputError) as caught:
        read(*args, **selection)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 1000
    return message


def write_text(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


# NIH ------------------------------------------------------------------------------------------------------------

# the first release names sizes in columns with a comma, writes ages as 058Y, and ends its lines with a comma
NIH_COLUMNS = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)
NIH_ROWS = {
    "00000001_000.png": "No Finding,0,1,058Y,M,PA",
    "00000001_001.png": "Cardiomegaly|Emphysema,1,1,058Y,M,AP",
    "00000002_000.png": "No Finding,0,2,011M,F,AP",
    "00000003_000.png": "Hernia,0,3,018Y,F,PA",
    "00000004_000.png": "No Finding,0,4,081Y,F,PA",
}


@pytest.fixture
def nih(tmp_path, write_image):
    """The download: images in two parts, the official lists, and a CSV file."""
    root = tmp_path / "nih"
    for number, name in enumerate(NIH_ROWS):
        write_image(root / f"images_{1 + number // 3:03d}/images/{name}")
    rows = (f"{name},{row},2682,2749,0.143,0.143," for name, row in NIH_ROWS.items())
    write_text(root / "Data_Entry_2017.csv", NIH_COLUMNS, *rows)
    write_text(root / "train_val_list.txt", *list(NIH_ROWS)[:3])
    write_text(root / "test_list.txt", *list(NIH_ROWS)[3:])
    return root


def test_nih_as_downloaded(nih):
    train, test = read("NIH", nih, "train"), read("NIH", nih, "test")
    assert names(train) == {"00000001_000.png": 0, "00000002_000.png": 0, "00000001_001.png": 1}
    assert names(test) == {"00000004_000.png": 0, "00000003_000.png": 1}
    assert read("NIH", nih, "val") is None
    ill = train.samples[2]
    assert ill.name == "images_001/images/00000001_001.png" and ill.path == nih / ill.name
    assert (ill.patient, ill.view, ill.findings) == ("1", "AP", ("Cardiomegaly", "Emphysema"))
    assert train.normal_class == test.normal_class == "No Finding"


def test_nih_in_one_folder_in_the_later_form(nih, tmp_path, write_image):
    (nih / "Data_Entry_2017.csv").unlink()
    columns = NIH_COLUMNS.replace(",Height", "-Height").replace(",y", "-y").rstrip(",")
    rows = [f"{name},{row.replace('Y', '').replace('0', '')}" for name, row in NIH_ROWS.items()]
    write_text(nih / "Data_Entry_2017_v2020.csv", columns, *rows)
    for path in nih.glob("images_*/images/*.png"):
        path.rename(nih / path.name)
    assert len(read("NIH", nih, "train").samples) == 3


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({"view": "PA"}, {"00000001_000.png"}),
        ({"view": "AP"}, {"00000001_001.png", "00000002_000.png"}),
        ({"min_age": 1}, {"00000001_000.png", "00000001_001.png"}),
        ({"min_age": 0}, {"00000001_000.png", "00000001_001.png", "00000002_000.png"}),
        ({"min_age": 58, "view": "PA"}, {"00000001_000.png"}),
    ],
)
def test_nih_filters(nih, selection, expected):
    assert names(read("NIH", nih, "train", **selection)).keys() == expected


def test_nih_filters_that_leave_nothing(nih):
    assert "the options leave none" in refused("NIH", nih, "train", min_age=100)


def test_lists_with_labels_go_before_the_csv_file(nih, tmp_path, caplog):
    lists = tmp_path / "lists"
    write_text(lists / "train.txt", "00000001_000.png 0", "00000003_000.png 0")
    write_text(lists / "val.txt", "00000004_000.png 1", "", "00000002_000.png 0")
    write_text(lists / "test_attending_rad.txt", "00000001_001.png 1")
    write_text(lists / "test_rad_consensus_voted3.txt", "00000001_001.png 0")
    with caplog.at_level(logging.INFO):
        found = {split: names(read("NIH", nih, split, split_dir=lists)) for split in SPLITS}
    assert found["train"] == {"00000001_000.png": 0, "00000003_000.png": 0}  # a hernia in the CSV file
    assert found["val"] == {"00000004_000.png": 1, "00000002_000.png": 0}
    assert found["test"] == {"00000001_001.png": 1}
    assert "test_attending_rad.txt, not by test_rad_consensus_voted3.txt" in caplog.text


def test_a_part_of_a_download_is_counted(nih, caplog):
    (nih / "images_001/images/00000001_001.png").unlink()
    write_text(nih / "train_val_list.txt", *list(NIH_ROWS)[:3], "99999999_000.png")
    assert len(read("NIH", nih, "train").samples) == 2
    assert "2 of 4 images of train are missing" in caplog.text
    for path in nih.glob("images_*/images/*.png"):
        path.unlink()
    assert "none of the 4 images of train was found" in refused("NIH", nih, "train")


def test_without_lists_no_patient_is_in_two_splits(nih, caplog):
    (nih / "train_val_list.txt").unlink()
    assert "holds no list of train" in refused("NIH", nih, "train")
    (nih / "test_list.txt").unlink()
    found = []
    for split in SPLITS:
        members = [name for name, row in NIH_ROWS.items() if drawn_split(row.split(",")[2]) == split]
        if members:
            assert names(read("NIH", nih, split)).keys() == set(members)
        found += members
    assert sorted(found) == sorted(NIH_ROWS)
    assert "each patient is assigned to a split" in caplog.text


def test_the_shares_of_patients():
    drawn = [drawn_split(str(number)) for number in range(5000)]
    assert [drawn.count(split) / 5000 for split in SPLITS] == pytest.approx([0.7, 0.1, 0.2], abs=0.02)
    assert drawn[:6] == ["train", "train", "test", "train", "train", "test"]  # never to change: runs depend on it


def test_nih_mistakes(nih, tmp_path):
    assert "holds none" in refused("NIH", write_text(tmp_path / "empty/a.txt").parent, "train")
    write_text(nih / "Data_Entry_2017_v2020.csv", "Image Index")
    assert "several of them (Data_Entry_2017.csv, Data_Entry_2017_v2020.csv)" in refused("NIH", nih, "train")
    (nih / "Data_Entry_2017.csv").unlink()
    assert "no column 'Finding Labels'; its columns are Image Index" in refused("NIH", nih, "train")


def test_an_image_that_is_there_twice(nih, write_image):
    write_image(nih / "small/00000001_000.png")
    assert "images_001/images/00000001_000.png and small/00000001_000.png" in refused("NIH", nih, "train")


@pytest.mark.parametrize(
    ("text", "years"), [("058Y", 58), ("058", 58), ("60.0", 60), ("018M", 1.5), ("000D", 0), ("", None), ("old", None)]
)
def test_ages(text, years):
    assert age_in_years(text) == years


def test_lists(tmp_path):
    path = write_text(tmp_path / "a.txt", "x y.png 1", "images/b.png,0", "c.png", "", "1")
    assert read_list(path) == {"x y.png": 1, "b.png": 0, "c.png": None, "1": None}
    with pytest.raises(InputError, match="two labels"):
        read_list(write_text(path, "a 1", "a 0"))
    with pytest.raises(InputError, match="lists no image"):
        read_list(write_text(path, " "))


# MURA -----------------------------------------------------------------------------------------------------------

MURA = {
    "train": [
        "train/XR_HAND/patient00001/study1_negative/image1.png",
        "train/XR_HAND/patient00001/study1_negative/image2.png",
        "train/XR_HAND/patient00002/study1_positive/image1.png",
        "train/XR_WRIST/patient00001/study1_negative/image1.png",
    ],
    "valid": [
        "valid/XR_HAND/patient11185/study1_positive/image1.png",
        "valid/XR_HAND/patient11185/study1_positive/image2.png",
        "valid/XR_HAND/patient11186/study1_negative/image1.png",
        "valid/XR_HAND/patient11186/study2_negative/image1.png",
        "valid/XR_WRIST/patient11185/study1_negative/image1.png",
    ],
}


@pytest.fixture
def mura(tmp_path, write_image):
    root = tmp_path / "MURA-v1.1"
    for split, paths in MURA.items():
        for path in paths:
            write_image(root / path, size=(9, 8))
        write_text(root / f"{split}_image_paths.csv", *(f"MURA-v1.1/{path}" for path in paths))
    return root


def test_mura(mura):
    train, test = read("MURA", mura, "train"), read("MURA", mura, "test")
    assert {sample.name: sample.label for sample in train.samples} == dict(
        zip(MURA["train"], [0, 0, 1, 0], strict=True)
    )
    assert [sample.name for sample in train.only_normal().samples] == [MURA["train"][i] for i in (0, 1, 3)]
    assert read("MURA", mura, "val") is None
    studies = {sample.name: sample.study for sample in [*train.samples, *test.samples]}
    assert len(set(studies.values())) == 3 + 4
    assert studies[MURA["valid"][0]] == studies[MURA["valid"][1]] != studies[MURA["valid"][4]]
    assert train.samples[0].patient == "patient00001"
    assert all(f"XR_{part_of_words(sample.part)}/" in sample.name for sample in test.samples)
    beside = read("MURA", mura.parent, "train")
    assert [sample.name for sample in beside.samples] == [f"MURA-v1.1/{sample.name}" for sample in train.samples]


@pytest.mark.parametrize("part", ["XR_WRIST", "wrist", "xr_wrist"])
def test_mura_part(mura, part):
    assert [sample.name for sample in read("MURA", mura, "train", part=part).samples] == MURA["train"][3:]


def test_mura_mistakes(mura, tmp_path, caplog):
    assert "--part is KNEE, but train_image_paths.csv has XR_HAND, XR_WRIST" in refused(
        "MURA", mura, "train", part="KNEE"
    )
    assert "train_image_paths.csv" in refused("MURA", write_text(tmp_path / "empty/a.txt").parent, "train")
    (mura / MURA["train"][0]).unlink()
    assert len(read("MURA", mura, "train").samples) == 3 and "1 of 4 images" in caplog.text
    write_text(mura / "train_image_paths.csv", "MURA-v1.1/" + MURA["train"][1], "MURA-v1.1/train/../image1.png")
    assert "line 2 is no path" in refused("MURA", mura, "train")


def test_training_and_test_on_mura(mura, tmp_path, write_image):
    for number in range(2, 9):
        path = f"train/XR_HAND/patient0{number:04d}/study1_negative/image1.png"
        write_image(mura / path)
        with (mura / "train_image_paths.csv").open("a") as file:
            file.write(f"MURA-v1.1/{path}\n")
    xp = tmp_path / "xp"
    result = invoke(cli.train, "MURA", "unet", xp, mura, *SHORT, "--part", "hand", "--cache", "off")
    assert result.exit_code == 0, result.stderr
    assert read_tar(xp / "model.tar")["normal_class"] == "negative"
    result = invoke(cli.test, "MURA", "unet", xp, mura, *TINY, "--cache", "off")
    assert result.exit_code == 0, result.stderr
    rows = {row["path"]: float(row["score"]) for row in read_csv(xp / "scores.csv")}
    assert sorted(rows) == sorted(MURA["valid"][:4])  # the part was inherited
    of_positive = (rows[MURA["valid"][0]] + rows[MURA["valid"][1]]) / 2
    below = [rows[path] < of_positive for path in MURA["valid"][2:4]]
    metrics = read_json(xp / "metrics.json")
    assert metrics["auc_by_study"]["value"] == pytest.approx(np.mean(below))
    assert (metrics["auc_by_study"]["num_normal"], metrics["auc_by_study"]["num_abnormal"]) == (2, 1)
    assert "AUC by study" in result.stderr
    result = invoke(cli.test, "MURA", "unet", xp, mura, *TINY, "--cache", "off", "--part", "wrist", "--overwrite")
    assert result.exit_code == 0 and len(read_csv(xp / "scores.csv")) == 1
    assert "auc_by_study" not in read_json(xp / "metrics.json")  # no study has several images


# MedMNIST -------------------------------------------------------------------------------------------------------


def write_npz(
    path: Path, *, shape=(8, 8), labels=((0, 0, 1), (0, 1), (0, 1, 1)), splits=SPLITS, dtype=np.uint8
) -> Path:
    rng = np.random.default_rng(len(shape))
    content = {}
    for split, one in zip(splits, labels, strict=True):
        content[f"{split}_images"] = rng.integers(0, 256, (len(one), *shape)).astype(dtype)
        content[f"{split}_labels"] = np.array(one, np.uint8).reshape(len(one), -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **content)
    return path


@pytest.mark.parametrize("shape", [(28, 28), (64, 64, 3)])
def test_medmnist_rows_are_images(tmp_path, shape):
    path = write_npz(tmp_path / "pneumoniamnist_64.npz", shape=shape)
    with np.load(path) as file:
        images = dict(file)
    for data_path in (path, tmp_path):
        for split, labels in zip(SPLITS, ([0, 0, 1], [0, 1], [0, 1, 1]), strict=True):
            found = read("MedMNIST", data_path, split)
            assert found.labels == labels
            assert [sample.name for sample in found.samples] == [f"{split}_images/{i}" for i in range(len(labels))]
            for sample in found.samples:
                expected = np.asarray(Image.fromarray(images[f"{split}_images"][sample.row]).convert("L"))
                assert (Decoder(isize=shape[0], resize="squash").read(sample) == expected).all()
    assert Decoder(isize=16, resize="pad").read(sample).shape == (16, 16)


@pytest.mark.parametrize(("name", "normal"), [("pneumoniamnist", "0"), ("breastmnist_224", "1"), ("octmnist", "3")])
def test_medmnist_knows_which_class_is_called_normal(tmp_path, name, normal, caplog):
    labels = [(0, 1, 2, 3), (0, 1), (3, 1)]
    path = write_npz(tmp_path / f"{name}.npz", labels=labels)
    with caplog.at_level(logging.INFO):
        train = read("MedMNIST", path, "train")
    assert train.normal_class == normal and train.labels == [int(str(value) != normal) for value in labels[0]]
    assert f"class {normal} is normal" in caplog.text
    assert read("MedMNIST", path, "test").labels == [int(str(value) != normal) for value in labels[2]]
    asked = read("MedMNIST", path, "train", normal_class="2")
    assert asked.labels == [1, 1, 0, 1] and asked.normal_class == "2"
    assert f"but the normal class of {path.name} is {normal}" in caplog.text


def test_medmnist_without_a_class_called_normal(tmp_path):
    path = write_npz(tmp_path / "organamnist.npz")
    assert "which of the classes 0, 1 is normal?" in refused("MedMNIST", path, "train")
    assert "no class 7; --normal_class may be 0, 1" in refused("MedMNIST", path, "train", normal_class="7")
    assert read("MedMNIST", path, "train", normal_class="1").labels == [1, 1, 0]


def test_medmnist_with_several_labels_an_image(tmp_path):
    path = write_npz(tmp_path / "chestmnist.npz", labels=[[(0, 0), (1, 1)], [(0, 1)], [(0, 0), (1, 0)]])
    train = read("MedMNIST", path, "train")
    assert train.labels == [0, 1] and [sample.findings for sample in train.samples] == [(), ("0", "1")]
    assert read("MedMNIST", path, "test", normal_class=train.normal_class).labels == [0, 1]
    assert "several labels" in refused("MedMNIST", path, "train", normal_class="0")


def test_medmnist_mistakes(tmp_path):
    path = tmp_path / "x.npz"
    assert "no such folder or file" in refused("MedMNIST", path, "train")
    assert "holds no .npz file" in refused("MedMNIST", tmp_path, "train")
    write_npz(path, shape=(8, 8, 8))
    assert "three-dimensional" in refused("MedMNIST", path, "train", normal_class="0")
    write_npz(path, dtype=np.float32)
    assert "float32" in refused("MedMNIST", path, "train", normal_class="0")
    np.savez(path, a=np.zeros(3))
    assert "must hold train_images and train_labels, but holds a" in refused("MedMNIST", path, "train")
    path.write_bytes(b"PK\x03\x04 no zip")
    assert "no .npz file" in refused("MedMNIST", path, "train")
    np.savez(path, train_images=np.zeros((2, 4, 4), np.uint8), train_labels=np.array([None, {}]))
    assert "no .npz file of arrays" in refused("MedMNIST", path, "train", normal_class="0")
    np.savez(path, train_images=np.zeros((2, 4, 4), np.uint8), train_labels=np.zeros((3, 1), int))
    assert "2 rows" in refused("MedMNIST", path, "train", normal_class="0")
    for shape in ((0,), (0, 1)):
        np.savez(path, train_images=np.zeros((0, 4, 4), np.uint8), train_labels=np.zeros(shape, int))
        assert "empty: train must hold labelled images" in refused("MedMNIST", path, "train", normal_class="0")
    write_npz(tmp_path / "y.npz")
    assert "2 .npz files (x.npz, y.npz)" in refused("MedMNIST", tmp_path, "train")


def test_medmnist_without_val(tmp_path):
    path = write_npz(tmp_path / "x.npz", splits=("train", "test"), labels=((0, 0), (0, 1)))
    assert read("MedMNIST", path, "val", normal_class="0") is None
    assert "must hold test_images" not in str(read("MedMNIST", path, "test", normal_class="0"))


@pytest.fixture
def loaded(monkeypatch):
    """The names of the arrays that are loaded from files."""
    names, real = [], np.load
    monkeypatch.setattr(np, "load", lambda path, **how: Noting(real(path, **how), names))
    return names


def test_an_array_is_loaded_once_and_never_for_its_labels(tmp_path, loaded):
    path = write_npz(tmp_path / "pneumoniamnist.npz")
    npz.forget()
    split = read("MedMNIST", path, "train")
    assert set(loaded) == {"train_labels"}
    for sample in split.samples * 2:
        Decoder(isize=8, resize="squash").read(sample)
    assert loaded.count("train_images") == 1
    before = Decoder(isize=8, resize="squash").read(split.samples[0])
    write_npz(path, shape=(8, 8, 3))  # replaced while it is in memory
    assert (Decoder(isize=8, resize="squash").read(split.samples[0]) != before).any()


class Noting:
    def __init__(self, file, loaded):
        self.file, self.loaded = file, loaded

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def __getitem__(self, name):
        self.loaded.append(name)
        return self.file[name]


def test_training_and_test_on_one_file(tmp_path, loaded):
    labels = [(0,) * 8 + (1,), (0, 0, 1), (0, 1, 0, 1)]
    path = write_npz(tmp_path / "in/pneumoniamnist.npz", shape=(28, 28), labels=labels)
    xp = tmp_path / "xp"
    result = invoke(cli.train, "MedMNIST", "unet", xp, path, *SHORT)
    assert result.exit_code == 0, result.stderr
    (first, *_), before = read("MedMNIST", path, "train").samples, loaded.count("train_images")
    npz.stored_row(first)
    assert loaded.count("train_images") == before + 1  # it had been freed, for the cache has the pixels
    npz.forget()
    assert "8 normal images" in result.stderr and "1 abnormal images left out" in result.stderr
    cache = tmp_path / "in/.salad_cache/pneumoniamnist.npz"
    assert choose_folder(None, path) == cache and list(cache.glob("train-*.json")) and list(cache.glob("val-*.json"))
    result = invoke(cli.test, "MedMNIST", "unet", xp, path, *TINY)
    assert result.exit_code == 0, result.stderr
    cached = [float(row["score"]) for row in read_csv(xp / "scores.csv")]
    assert [row["path"] for row in read_csv(xp / "scores.csv")] == [f"test_images/{i}" for i in range(4)]
    result = invoke(cli.test, "MedMNIST", "unet", xp, path, *TINY, "--cache", "off")
    assert result.exit_code == 0, result.stderr
    assert [float(row["score"]) for row in read_csv(xp / "scores.csv")] == pytest.approx(cached, abs=1e-5)
    before = loaded.count("test_images")
    npz.stored_row(read("MedMNIST", path, "test").samples[0])
    assert loaded.count("test_images") == before  # kept where there is no cache
    npz.forget()


# MedIAnomaly ----------------------------------------------------------------------------------------------------


@pytest.fixture
def medianomaly(tmp_path, write_image):
    content = {"train": {"0": ["a.png", "b.png"]}, "test": {"0": ["c.png"], "1": ["d.png", "e.png"]}}
    for name in "abcde":
        write_image(tmp_path / f"images/{name}.png")
    write_text(tmp_path / "data.json", json.dumps(content))
    return tmp_path


def test_medianomaly(medianomaly, caplog):
    assert names(read("MedIAnomaly", medianomaly, "train")) == {"a.png": 0, "b.png": 0}
    assert names(read("MedIAnomaly", medianomaly, "test")) == {"c.png": 0, "d.png": 1, "e.png": 1}
    assert read("MedIAnomaly", medianomaly, "val") is None
    (medianomaly / "images/d.png").unlink()
    assert len(read("MedIAnomaly", medianomaly, "test").samples) == 2 and "1 of 3 images of test" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "no JSON object"),
        ("{", "not a JSON file"),
        ('{"train": {"0": [1]}}', "'0' of 'train' is no list of file names"),
        ('{"train": {"normal": []}}', "must have the form"),
        ('{"test": {}}', "must have the form"),
        ('{"train": {"0": ["a.png"], "1": ["a.png"]}}', "a.png both labels"),
        ('{"train": {"0": []}}', "no image belongs to train"),
    ],
)
def test_medianomaly_mistakes(medianomaly, content, message):
    write_text(medianomaly / "data.json", content)
    assert message in refused("MedIAnomaly", medianomaly, "train")


# RSNA -----------------------------------------------------------------------------------------------------------

RSNA_CLASSES = ("Normal", "No Lung Opacity / Not Normal", "Lung Opacity")


@pytest.fixture
def rsna(tmp_path):
    """Nine labelled images, and one of the challenge's test part."""
    root = tmp_path / "rsna"
    for i in range(10):
        path = root / f"stage_2_{'test' if i == 9 else 'train'}_images/{SOME_ID.format(i)}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not decoded here")
    classes = [f"{SOME_ID.format(i)},{RSNA_CLASSES[i % 3]}" for i in range(9)]
    boxes = [f"{SOME_ID.format(i)},{'1,2,3,4,1' if i % 3 == 2 else ',,,,0'}" for i in range(9)]
    write_text(root / "stage_2_detailed_class_info.csv", "patientId,class", *classes, classes[2])
    write_text(root / "stage_2_train_labels.csv", "patientId,x,y,width,height,Target", *boxes, boxes[2])
    return root


def test_rsna(rsna):
    found = {}
    for split in SPLITS:
        expected = {
            f"{SOME_ID.format(i)}.dcm": int(i % 3 > 0) for i in range(9) if drawn_split(SOME_ID.format(i)) == split
        }
        part = names(read("RSNA", rsna, split)) if expected else {}
        assert part == expected
        found |= part
    assert len(found) == 9
    train = read("RSNA", rsna, "train")
    assert {sample.findings[0] for sample in train.samples} == set(RSNA_CLASSES)
    assert train.normal_class == "Normal"


def test_rsna_with_lists(rsna, tmp_path):
    write_text(tmp_path / "lists/train.txt", *(SOME_ID.format(i) for i in range(4)))
    write_text(tmp_path / "lists/test.txt", *(f"{SOME_ID.format(i)}.dcm" for i in range(4, 9)))
    found = {split: read("RSNA", rsna, split, split_dir=tmp_path / "lists") for split in SPLITS}
    assert found["train"].labels == [0, 0, 1, 1] and found["val"] is None and len(found["test"].samples) == 5


def test_rsna_mistakes(rsna):
    (rsna / "stage_2_train_labels.csv").rename(rsna / "labels")
    assert "stage_2_train_labels.csv: no such file" in refused("RSNA", rsna, "train")
    write_text(rsna / "stage_2_train_labels.csv", "patientId,x,y,width,height,Target", "a00,1,2,3,4,1")
    assert "line 2 shows an opacity" in refused("RSNA", rsna, "train")
    write_text(rsna / "stage_2_detailed_class_info.csv", "patientId,class", "a00,Normal", "a00,Lung Opacity")
    assert "line 3 gives an image a second class" in refused("RSNA", rsna, "train")
    write_text(rsna / "stage_2_detailed_class_info.csv", "patientId,class", "a00,normal?")
    assert "line 2 has none of the classes" in refused("RSNA", rsna, "train")


# VinDr ----------------------------------------------------------------------------------------------------------

KAGGLE = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"


def kaggle_rows(image: str, *findings: str) -> list[str]:
    return [f"{image},{finding},14,R{number},,,," for number, finding in enumerate(findings, start=8)]


def test_vindr_of_kaggle(tmp_path, write_image):
    rows = []
    for i in range(12):
        findings = [["No finding"] * 3, ["Cardiomegaly", "No finding", "No finding"], ["ILD", "ILD", "No finding"]][
            i % 3
        ]
        rows += kaggle_rows(SOME_ID.format(i), *findings)
        write_image(tmp_path / f"train/{SOME_ID.format(i)}.png")
    write_text(tmp_path / "train.csv", KAGGLE, *rows)
    found = {}
    for split in SPLITS:
        if any(drawn_split(SOME_ID.format(i)) == split for i in range(12)):
            found |= names(read("VinDr", tmp_path, split))
    assert found == {f"{SOME_ID.format(i)}.png": int(i % 3 == 2) for i in range(12)}
    assert read("VinDr", tmp_path, "train").normal_class == "No finding"


def test_vindr_readers_that_are_split_evenly_make_an_image_abnormal(tmp_path, write_image):
    write_image(tmp_path / "train/a.png")
    write_text(tmp_path / "train.csv", KAGGLE, *kaggle_rows("a", "No finding", "ILD"))
    write_text(tmp_path / "lists/train.txt", "a")
    split = read("VinDr", tmp_path, "train", split_dir=tmp_path / "lists")
    assert split.labels == [1] and split.samples[0].findings == ("ILD", "No finding")


def test_vindr_of_physionet(tmp_path):
    for name in ("train/a.dicom", "train/b.dicom", "test/c.dicom", "test/d.dicom"):
        write_text(tmp_path / name, "not decoded here")
    votes = {"a": [(0, 1), (0, 1), (1, 0)], "b": [(1, 0), (1, 0), (0, 1)]}
    rows = [f"{image},R{n},{ill},{well}" for image, found in votes.items() for n, (ill, well) in enumerate(found)]
    write_text(tmp_path / "annotations/image_labels_train.csv", "image_id,rad_id,Aortic enlargement,No finding", *rows)
    write_text(
        tmp_path / "annotations/image_labels_test.csv", "image_id,Aortic enlargement,No finding", "c,0,1", "d,1,0"
    )
    write_text(tmp_path / "annotations/annotations_train.csv", "image_id,rad_id,class_name,x_min,y_min,x_max,y_max")
    assert names(read("VinDr", tmp_path, "train")) == {"a.dicom": 0, "b.dicom": 1}
    assert names(read("VinDr", tmp_path, "test")) == {"c.dicom": 0, "d.dicom": 1}
    assert read("VinDr", tmp_path, "val") is None
    write_text(tmp_path / "lists/train.txt", "a", "c")
    write_text(tmp_path / "lists/test.txt", "b", "d.dicom")
    found = [names(read("VinDr", tmp_path, split, split_dir=tmp_path / "lists")) for split in ("train", "test")]
    assert found == [{"a.dicom": 0, "c.dicom": 0}, {"b.dicom": 1, "d.dicom": 1}]


def test_the_normal_finding_in_other_capitals(nih, tmp_path, write_image):
    write_image(tmp_path / "v/train/a.png")
    write_text(tmp_path / "v/train.csv", "Image_ID,Class_Name,rad_id", "a,No Finding,R1")
    write_text(tmp_path / "v/lists/train.txt", "a")
    assert read("VinDr", tmp_path / "v", "train", split_dir=tmp_path / "v/lists").labels == [0]
    table = nih / "Data_Entry_2017.csv"
    table.write_text(table.read_text().replace("No Finding", "No finding "))
    assert read("NIH", nih, "train").labels == [0, 0, 1]


def test_a_mistyped_folder_of_lists(nih, tmp_path):
    (tmp_path / "lists").mkdir()
    said = refused("NIH", nih, "train", split_dir=tmp_path / "list")
    assert said.startswith(f"--split_dir {tmp_path / 'list'}: no such") and f"mean {tmp_path / 'lists'}?" in said


def test_vindr_mistakes(tmp_path):
    assert "holds none of annotations/image_labels_train.csv, " in refused("VinDr", tmp_path, "train")
    write_text(tmp_path / "train.csv", "image_id,class", "a,b")
    assert "neither a column 'class_name' nor one 'No finding'" in refused("VinDr", tmp_path, "train")


# CheXpert -------------------------------------------------------------------------------------------------------

CHEXPERT = "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Support Devices"


@pytest.fixture
def chexpert(tmp_path, write_image):
    rows = {
        "train": [
            ("patient00001/study1/view1_frontal.jpg", "Female,68,Frontal,AP,1.0,,,1.0"),
            ("patient00001/study2/view1_frontal.jpg", "Female,70,Frontal,PA,,,-1.0,"),
            ("patient00001/study2/view2_lateral.jpg", "Female,70,Lateral,,,,-1.0,"),
            ("patient00002/study1/view1_frontal.jpg", "Male,17,Frontal,PA,1.0,,,"),
            ("patient00002/study1/view2_frontal.jpg", "Male,17,Frontal,LL,0.0,,1.0,"),
        ],
        "valid": [("patient64541/study1/view1_frontal.jpg", "Male,73,Frontal,AP,0.0,1.0,0.0,0.0")],
    }
    for split, content in rows.items():
        lines = [f"CheXpert-v1.0-small/{split}/{path},{values}" for path, values in content]
        write_text(tmp_path / f"{split}.csv", CHEXPERT, *lines)
        for path, _ in content:
            write_image(tmp_path / split / path)
    return tmp_path


def test_chexpert(chexpert):
    train, test = read("CheXpert", chexpert, "train"), read("CheXpert", chexpert, "test")
    assert [(sample.name.removeprefix("train/patient0000"), sample.label) for sample in train.samples] == [
        ("1/study1/view1_frontal.jpg", 0),
        ("2/study1/view1_frontal.jpg", 0),
        ("1/study2/view1_frontal.jpg", 1),  # uncertain
        ("2/study1/view2_frontal.jpg", 1),
    ]
    first = train.samples[0]
    assert (first.patient, first.study, first.view) == ("patient00001", "patient00001/study1", "AP")
    assert first.findings == ("No Finding", "Support Devices")
    assert test.labels == [1] and read("CheXpert", chexpert, "val") is None


@pytest.mark.parametrize(("selection", "count"), [({"view": "PA"}, 2), ({"view": "AP"}, 1), ({"min_age": 18}, 2)])
def test_chexpert_filters(chexpert, selection, count):
    assert len(read("CheXpert", chexpert, "train", **selection).samples) == count


def test_chexpert_mistakes(chexpert, caplog):
    (chexpert / "train/patient00001/study1/view1_frontal.jpg").unlink()
    assert len(read("CheXpert", chexpert, "train").samples) == 3 and "1 of 4 images" in caplog.text
    write_text(chexpert / "train.csv", CHEXPERT, "x/../a.jpg,Male,73,Frontal,AP,0.0,,,")
    assert "line 2 has no path" in refused("CheXpert", chexpert, "train")
    write_text(chexpert / "train.csv", "Path,Sex")
    assert "no column 'Age'" in refused("CheXpert", chexpert, "train")


def in_batches(chexpert):
    """Move the small data set into the folders of the full one; returns the folder of the tables."""
    top = chexpert / "chexpertchestxrays-u20210408"
    tables = top / "CheXpert-v1.0 batch 1 (validate & csv)"
    tables.mkdir(parents=True)
    for name in ("train.csv", "valid.csv", "valid"):
        (chexpert / name).rename(tables / name)
    for number in (1, 2):
        batch = top / f"CheXpert-v1.0 batch {number + 1} (train {number})"
        batch.mkdir()
        (chexpert / f"train/patient0000{number}").rename(batch / f"patient0000{number}")
    (chexpert / "train").rmdir()
    return tables


@pytest.mark.parametrize("level", [0, 1, 2])
def test_chexpert_as_unpacked(chexpert, level):
    tables = in_batches(chexpert)
    data_path = [tables, *tables.parents][level]
    train, test = read("CheXpert", data_path, "train"), read("CheXpert", data_path, "test")
    assert [sample.path.exists() for sample in train.samples] == [True] * 4 and len(test.samples) == 1
    assert "batch 2 (train 1)/patient00001/study1/view1_frontal.jpg" in train.samples[0].name
    assert {sample.patient for sample in train.samples} == {"patient00001", "patient00002"}


def test_a_missing_image_is_named_with_its_suffix(chexpert):
    for path in chexpert.glob("train/*/*/*"):
        path.unlink()
    assert "train/patient00001/study1/view1_frontal.jpg for example" in refused("CheXpert", chexpert, "train")


@pytest.mark.parametrize(
    ("name", "fixture"),
    [("NIH", "nih"), ("MURA", "mura"), ("MedIAnomaly", "medianomaly"), ("RSNA", "rsna"), ("CheXpert", "chexpert")],
)
@pytest.mark.parametrize("levels", ["x", "x/x"])
def test_a_folder_in_a_folder(name, fixture, levels, request, tmp_path_factory, write_image):
    root, above = request.getfixturevalue(fixture), tmp_path_factory.mktemp("above")
    (above / "__MACOSX/x").mkdir(parents=True)
    (above / levels).parent.mkdir(parents=True, exist_ok=True)
    expected = [sample.label for sample in read(name, root, "train").samples]
    root.rename(above / levels)
    assert read(name, above, "train").labels == expected


def test_a_table_that_is_not_there_is_met_with_what_is(chexpert):
    (chexpert / "train.csv").rename(chexpert / "Train.csv")
    assert "train.csv: no such file; there is Train.csv, which differs in capitals" in refused(
        "CheXpert", chexpert, "train"
    )
    (chexpert / "Train.csv").rename(chexpert / "labels")
    said = refused("CheXpert", chexpert, "train")
    assert said.endswith("train.csv: no such file; its folder holds labels, train, valid, valid.csv")


def test_a_data_set_that_is_there_twice_is_not_chosen_from(chexpert, tmp_path):
    for copy in ("a", "b"):
        write_text(tmp_path / f"twice/{copy}/train.csv", CHEXPERT)
    assert "holds the data set several times (a, b)" in refused("CheXpert", tmp_path / "twice", "train")


def test_lists_and_tables_written_on_other_systems(nih, chexpert, mura):
    for path, slash in [
        (nih / "train_val_list.txt", ""),
        (mura / "train_image_paths.csv", "/"),
        (chexpert / "train.csv", "/"),
    ]:
        text = path.read_text()
        text = text.replace("/", "\\") if slash else "".join(f"images\\{line}\n" for line in text.splitlines())
        path.write_bytes(text.replace("\n", "\r\n").encode("utf-16"))
    counts = [len(read(name, path, "train").samples) for name, path in [("NIH", nih), ("MURA", mura)]]
    assert (counts, read("CheXpert", chexpert, "train").labels) == ([3, 4], [0, 0, 1, 1])


@pytest.mark.parametrize("before", ["", "\n\r\n", "sep=;\n", '\n"sep=;"\r\n'])
def test_lines_before_the_names_of_the_columns(tmp_path, before):
    path = tmp_path / "table.csv"
    path.write_text(f"{before}path;label;split\n'a,b';0;train\nc,d;1\n")
    with pytest.raises(InputError, match="column split has empty cells"):
        read("Table", path, "train")
    path.write_text(f"{before}path;label;split\na,b;0;train\nc,d;1;train;more\n")
    with pytest.raises(InputError, match=f"line {before.count(chr(10)) + 3} has 4 fields"):
        read("Table", path, "train")
    path.write_text(f"{before}path;label;split\na,b.png;0;train\n")
    assert [sample.name for sample in read("Table", path, "train").samples] == ["a,b.png"]


def test_identifiers_that_a_spreadsheet_has_rounded_are_said(tmp_path, caplog):
    (tmp_path / "table.csv").write_text("path,label,split,patient_id\na.png,0,train,1.23E+12\nb.png,0,train,12\n")
    patients = [sample.patient for sample in read("Table", tmp_path, "train").samples]
    assert patients == [None, "12"]
    assert (
        "1 cells of patient_id count as unknown, because a spreadsheet has rounded them, such as 1.23E+12"
        in caplog.text
    )


def test_what_differs_in_capitals_is_said(nih, caplog):
    names_of = {path: path.with_name(path.name.upper()) for path in nih.glob("images_*/images/*.png")}
    for path, other in names_of.items():
        path.rename(other)
    assert "; there is images_001/images/00000001_000.PNG, which differs in capitals" in refused("NIH", nih, "train")


@pytest.mark.parametrize("suffix", ["", ".IMA", ".dcm"])
def test_rsna_by_content(rsna, suffix):
    uid = "1.2.276.0.7230010.3.1.4.8323329.{}"
    for path in rsna.glob("*.csv"):
        path.write_text(path.read_text().replace("a0", uid.format("")))
    for path in rsna.glob("*/*.dcm"):
        (path.parent / f"{uid.format(path.stem[1:].removeprefix('0'))}{suffix}").write_bytes(bytes(128) + b"DICM")
        path.unlink()
    found = [sample for split in SPLITS if (part := maybe("RSNA", rsna, split)) for sample in part.samples]
    assert len(found) == 9 and {sample.patient for sample in found} == {uid.format(i) for i in range(9)}


def maybe(name, data_path, split):
    """A split, None where it has no image."""
    try:
        return read(name, data_path, split)
    except InputError:
        return None


@pytest.mark.parametrize(("name", "table"), [("NIH", "Data_Entry_2017.csv"), ("CheXpert", "train.csv")])
def test_unknown_ages_that_min_age_drops_are_counted(name, table, request, caplog):
    root = request.getfixturevalue(name.lower())
    text = (root / table).read_text()
    (root / table).write_text(text.replace("058Y", "411Y").replace(",70,Frontal", ",,Frontal"))
    count = len(read(name, root, "train").samples)
    assert not [record for record in caplog.records if "--min_age" in record.getMessage()]
    assert len(read(name, root, "train", min_age=0).samples) < count
    shown = {
        "NIH": "leaves out 2 images whose age is unknown (411Y)",
        "CheXpert": "leaves out 1 images whose age is unknown (none)",
    }
    assert f"train: --min_age {shown[name]}" in caplog.text


# Table ----------------------------------------------------------------------------------------------------------


def test_table_with_a_column_split(tmp_path, write_image):
    elsewhere = write_image(tmp_path / "elsewhere/x.png")
    table = write_text(
        tmp_path / "data/list.csv",
        "label,path,split,patient_id,finding,age",
        "0,in/a.png,train,P1,,50",
        f'1,{elsewhere},Training,P1,"mass, left",',
        "0,./b.png,valid,,,",
        "1.0,c.png,TEST",
    )
    train = read("Table", table, "train")
    assert [(sample.name, sample.label) for sample in train.samples] == [("in/a.png", 0), (str(elsewhere), 1)]
    assert [sample.path for sample in train.samples] == [tmp_path / "data/in/a.png", elsewhere]
    assert [sample.patient for sample in train.samples] == ["P1", "P1"]
    assert train.samples[1].findings == ("mass, left",) and train.normal_class == "0"
    assert names(read("Table", table, "val")) == {"b.png": 0}
    assert names(read("Table", table, "test")) == {"c.png": 1}
    assert read("Table", tmp_path / "data", "train") == train  # the one table of a folder


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_tables_side_by_side(tmp_path, suffix):
    for split, labels in {"train": ("normal", "normal"), "test": ("normal", "abnormal")}.items():
        rows = [{"path": f"{split}{i}.png", "label": label} for i, label in enumerate(labels)]
        if suffix == ".jsonl":
            write_text(tmp_path / f"{split}.jsonl", *map(json.dumps, rows))
        else:
            mark = "\t" if suffix == ".tsv" else ","
            write_text(tmp_path / f"{split}{suffix}", f"path{mark}label", *(mark.join(row.values()) for row in rows))
    assert read("Table", tmp_path, "train").labels == [0, 0] and read("Table", tmp_path, "val") is None
    assert names(read("Table", tmp_path, "test")) == {"test0.png": 0, "test1.png": 1}
    (tmp_path / f"test{suffix}").unlink()
    assert "holds no table of test" in refused("Table", tmp_path, "test")


@pytest.mark.parametrize(
    ("labels", "asked", "expected"),
    [
        (["0", "1"], None, [0, 1]),
        (["1", "0.0"], None, [1, 0]),
        (["1", "0"], "1", [0, 1]),
        (["NORMAL", "pneumonia"], None, [0, 1]),
        (["abnormal", "normal"], None, [1, 0]),
        (["No Finding", "Mass"], None, [0, 1]),
        (["healthy knee", "torn"], "torn", [1, 0]),
        (["a", "b"], "b", [1, 0]),
        (["a", "b"], None, "which of the labels a, b is normal"),
        (["a", "b"], "c", "--normal_class is c, but the labels are a, b"),
        (["normal", "healthy"], None, "which of the labels"),
        (["0", "normal"], None, "which of the labels"),
        (["0", "2"], None, "which of the labels"),
        (["Not Normal", "Unremarkable"], None, [1, 0]),
        (["Not Normal", "mass"], None, "which of the labels Not Normal, mass is normal"),
        (["COVID negative", "COVID positive"], None, "which of the labels"),
        (["True", "False"], None, "which of the labels"),
        (["no", "yes"], None, "which of the labels"),
        (["Normal", "NORMAL", "sick"], None, [0, 0, 1]),  # one label
        (["Normal", "sick"], "normal", [0, 1]),
        (["0", "1.0"], "1.0", [1, 0]),
        (["No Finding", "1"], None, "--normal_class 'No Finding'"),
        (["", "0"], None, "line 2 has no label"),
    ],
)
def test_labels_of_a_table(tmp_path, labels, asked, expected):
    rows = [f"{i}.png,{label}" for i, label in enumerate(labels)]
    write_text(tmp_path / "train.csv", "path,label", *rows)
    if isinstance(expected, str):
        assert expected in refused("Table", tmp_path, "train", normal_class=asked)
    else:
        assert (
            list(dict(sorted(names(read("Table", tmp_path, "train", normal_class=asked)).items())).values()) == expected
        )


def test_test_part_of_a_table_without_the_normal_label(tmp_path):
    write_text(tmp_path / "test.csv", "path,label", "a.png,mass")
    assert read("Table", tmp_path, "test", normal_class="good").labels == [1]
    write_text(tmp_path / "test.csv", "path,label", "a.png,mass", "b.png,healthy")
    assert "the labels are healthy, mass" in refused("Table", tmp_path, "test", normal_class="good")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["path,label", "a.png,0"], "does not say which split"),
        (["path,split", "a.png,train"], "has no column 'label'; its columns are path, split"),
        (["path,label,path,split"], "more than one column 'path'"),
        (["path,label,split", "a.png,0,training set"], "its column split has training set, but must"),
        (["path,label,split", "a.png,0,train", "a.png,1,train"], "lines 2 and 3 name the same image of train, a.png"),
        (["path,label,split", "a.png,0,train", "./a.png,1,train"], "lines 2 and 3"),
        (["path,label,split", "a,b.png,0,train"], "line 2 has 4 fields, but there are 3 columns"),
        (["path,label,split", '"a.png,0,train'], "no row of a CSV file"),
        (["path,label,split", ",0,train"], "line 2 has no path"),
        (["path,label,split", "a.png,0,test"], "no image belongs to train"),
        (["path,label,split"], "no image belongs to train"),
        ([], "its columns are none"),
        (["path,label\0"], "NUL"),
    ],
)
def test_table_mistakes(tmp_path, lines, message):
    assert message in refused("Table", write_text(tmp_path / "list.csv", *lines), "train")


def test_names_of_other_systems_in_a_table(tmp_path, write_image):
    paths = [write_image(tmp_path / f"films/{name}.png") for name in ("a", "b", "\u00fc", "c d")]
    lines = ["films\\a.png,0", f"{paths[1].as_uri()},0", "films/u\u0308.png,0", '"""films/c d.png"" ",0']
    table = write_text(tmp_path / "train.csv", "path,label", *lines)
    assert sorted(sample.path for sample in read("Table", table.parent, "train").samples) == sorted(paths)
    write_text(table, "path,label", "films\\a.png,0", "films/a.png,0")
    assert "lines 2 and 3 name the same image" in refused("Table", table.parent, "train")


def test_columns_of_a_table_in_other_capitals(tmp_path, caplog):
    write_text(tmp_path / "train.csv", " Path , LABEL,Patient ID,STUDY-ID,Subject,Gender", "a.png,0,7.0,,1,F")
    (sample,) = read("Table", tmp_path, "train").samples
    assert (sample.patient, sample.study, sample.sex) == ("7", None, None)
    assert "its column 'Gender' is not read: is it 'sex'?" in caplog.text
    assert "'Subject'" not in caplog.text  # the patient is known
    write_text(tmp_path / "train.jsonl", '{"PATH": "a.png", "Label": 0, "patient id": null}')
    (tmp_path / "train.csv").unlink()
    assert read("Table", tmp_path, "train").labels == [0]
    write_text(tmp_path / "test.csv", "filename,label")
    assert "has no column 'path'; its columns are filename, label; is it 'filename'?" in refused(
        "Table", tmp_path, "test"
    )


def test_a_label_of_a_data_frame_that_means_nothing_is_no_class(tmp_path):
    write_text(tmp_path / "train.csv", "path,label", "a.png,0", "b.png,NaN")
    assert "line 3 has no label" in refused("Table", tmp_path, "train")


def test_what_is_no_table(tmp_path):
    assert "must be a table (.csv, .tsv, .jsonl, .ndjson)" in refused(
        "Table", write_text(tmp_path / "in/x.xlsx"), "train"
    )
    assert "no such folder or file" in refused("Table", tmp_path / "x.csv", "train")
    assert "holds no table" in refused("Table", tmp_path, "train")
    for name in ("a.csv", "b.csv"):
        write_text(tmp_path / name, "path,label,split")
    assert "holds several tables (a.csv, b.csv)" in refused("Table", tmp_path, "train")
    for name in ("val.csv", "valid.tsv", "train.csv"):
        write_text(tmp_path / name, "path,label,split", "a.png,0,val")
    assert "val.csv, valid.tsv: leave one" in refused("Table", tmp_path, "val")
    assert "is the table of train, but its column split has val" in refused("Table", tmp_path, "train")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is no JSON"),
        ("[1]", "line 2 is no object with path and label"),
        ('{"path": "a.png"}', "line 2 is no object"),
        ('{"path": ["a"], "label": 0, "split": "train"}', "line 2 has a list"),
        ('{"path": "a\\u0000", "label": 0, "split": "train"}', "line 2 names a\\x00"),
        ('{"path": "\\ud800", "label": 0, "split": "train"}', "line 2 names \\ud800"),
        ('{"path": "b", "label": null, "split": "train"}', "line 2 has no label"),
        ('{"path": "b", "label": 0}', "does not say which split"),
    ],
)
def test_json_line_mistakes(tmp_path, line, message):
    whole = '{"path": "x.png", "label": false, "split": "train", "patient_id": 7}'
    path = write_text(tmp_path / "a.jsonl", whole, "")
    assert read("Table", path, "train").samples[0].patient == "7" and read("Table", path, "train").labels == [0]
    assert message in refused("Table", write_text(path, whole, line), "train")


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode(),
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.encode("utf-16"),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace(",", ";").encode(),
        lambda text: text.replace(",", " \t ").encode(),
        lambda text: text.replace(",", "|").encode(),
    ],
)
def test_tables_as_programs_save_them(tmp_path, encode):
    (tmp_path / "t.csv").write_bytes(encode("path,label\nbild_ü.png,0\n"))
    assert list(read_rows(tmp_path / "t.csv", needed=("path",))) == [(2, {"path": "bild_ü.png", "label": "0"})]


def test_a_table_can_name_any_file(tmp_path):
    (tmp_path / "train.csv").write_bytes(b"path,label\nr\xf6ntgen.png,0\n")
    (sample,) = read("Table", tmp_path, "train").samples
    assert bytes(sample.path).endswith(b"/r\xf6ntgen.png") and sample.name == r"r\udcf6ntgen.png"


def test_a_file_that_a_table_names_in_vain_is_a_bad_image(tmp_path, write_image):
    for i in range(8):
        write_image(tmp_path / f"data/{i}.png")
    lines = [f"{i}.png,0" for i in range(9)]
    write_text(tmp_path / "data/train.csv", "path,label", *lines)
    words = ["Table", "unet", tmp_path / "xp", tmp_path / "data", *SHORT]
    line = stopped(invoke(cli.train, *words))
    assert "1 of 9 images" in line and "8.png (no such file)" in line
    result = invoke(cli.train, *words, "--on_bad_image", "skip")
    assert result.exit_code == 0, result.stderr
    assert [row["path"] for row in read_csv(tmp_path / "xp/skipped.csv")] == ["8.png"]


# Options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "option", "value", "message"),
    [
        ("CXR_author", "view", "PA", "--view selects from NIH, CheXpert, not from CXR_author: leave it out"),
        ("MURA", "min_age", "18", "--min_age selects from NIH, CheXpert, not from MURA"),
        ("NIH", "part", "XR_HAND", "--part selects from MURA, not from NIH"),
        ("Table", "split_dir", "lists", "--split_dir selects from NIH, RSNA, VinDr, not from Table"),
        ("RSNA", "normal_class", "Lung Opacity", "--normal_class is 'Lung Opacity', but in RSNA 'Normal' is normal"),
    ],
)
def test_an_option_that_a_data_set_does_not_take(tmp_path, name, option, value, message):
    for command, words in ((cli.train, SHORT), (cli.test, TINY)):
        line = stopped(invoke(command, name, "unet", tmp_path / "xp", tmp_path, *words, f"--{option}", value))
        assert message in line


@pytest.mark.parametrize("name", ["nih", "mura", "medianomaly", "rsna", "chexpert"])
def test_lists_and_tables_cut_at_every_tenth_byte(name, request):
    """Each is read as far as it goes, or refused in one line."""
    root = request.getfixturevalue(name)
    data_set = next(one for one in DATASETS if one.lower() == name)
    texts = [path for path in root.rglob("*") if path.suffix in (".csv", ".txt", ".json")]
    assert texts
    for path in texts:
        whole = path.read_bytes()
        for length in range(0, len(whole), 10):
            path.write_bytes(whole[:length])
            for split in SPLITS:
                try:
                    found = read(data_set, root, split)
                except InputError as error:
                    assert "\n" not in str(error) and len(str(error)) < 1000
                else:
                    assert found is None or found.samples
        path.write_bytes(whole)


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"CXR_phantom"}))
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_reader_names_a_data_path_that_is_not_there(tmp_path, name, split):
    assert str(tmp_path / "nowhere") in refused(name, tmp_path / "nowhere", split)


def test_scoring_takes_what_the_training_took(nih, tmp_path, write_image):
    rows, listed = [], []
    for number in range(8):
        name = f"0000001{number}_000.png"
        write_image(nih / name)
        rows.append(f"{name},No Finding,0,1{number},{10 * number:03d}Y,M,PA,1,1,1,1,")
        listed.append(f"{name} 0")
    with (nih / "Data_Entry_2017.csv").open("a") as file:
        file.write("\n".join(rows) + "\n")
    lists = tmp_path / "lists"
    write_text(lists / "train.txt", *listed)
    write_text(lists / "test.txt", *listed[:4], "00000001_000.png 0", "00000001_001.png 1", "00000003_000.png 1")
    xp = tmp_path / "xp"
    options = ["--split_dir", lists, "--view", "PA", "--min_age", 20, "--cache", "off"]
    result = invoke(cli.train, "NIH", "unet", xp, nih, *SHORT, *options)
    assert result.exit_code == 0, result.stderr
    config = read_json(xp / "config.json")
    assert (config["split_dir"], config["view"], config["min_age"]) == (str(lists), "PA", 20)
    result = invoke(cli.test, "NIH", "unet", xp, nih, *TINY, "--cache", "off")
    assert result.exit_code == 0, result.stderr
    scored = {Path(row["path"]).name for row in read_csv(xp / "scores.csv")}
    assert scored == {"00000012_000.png", "00000013_000.png", "00000001_000.png"}
    # what is typed wins
    result = invoke(cli.test, "NIH", "unet", xp, nih, *TINY, "--cache", "off", "--view", "AP", "--overwrite")
    assert result.exit_code == 0, result.stderr
    assert [Path(row["path"]).name for row in read_csv(xp / "scores.csv")] == ["00000001_001.png"]
    write_image(tmp_path / "author/test/0.normal/a.png")
    write_image(tmp_path / "author/test/1.abnormal/b.png")
    result = invoke(cli.test, "CXR_author", "unet", tmp_path / "xp2", tmp_path / "author", *TINY,
                    "--load_model", xp / "model.tar")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert [row["label"] for row in read_csv(tmp_path / "xp2/scores.csv")] == ["0", "1"]


def test_known_classes_of_medmnist_are_words_of_numbers():
    assert all(value.isdecimal() for value in medmnist.NORMAL_OF.values())


def test_body_parts_of_data_sets_are_words_that_headers_are_compared_with():
    parts = {data_set.part for data_set in DATASETS.values()}
    assert parts == {"", "CHEST"} and parts - {""} <= set(PARTS.values())
