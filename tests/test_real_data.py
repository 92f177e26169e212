"""Real radiographs, from the folder that SALAD_DATA_DIR names (its README says what each part is)."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from running import SHORT, TINY, invoke, read_csv, read_json, read_lines

from salad import cli
from salad.cli import main
from salad.datasets import read_split
from salad.datasets.author_tree import build_tree, check_counts, read_lists
from salad.datasets.lists import read_list
from salad.datasets.loader import Loader
from salad.errors import InputError
from salad.evaluation.calibration import Calibration
from salad.evaluation.drift import find_drift
from salad.evaluation.films import measure_framing, measure_levels
from salad.images.align import build_template, register, shrink
from salad.images.decoder import DecodedImages, Decoder
from salad.images.grey_levels import measure_grey_levels
from salad.images.in_memory import read_source
from salad.images.read import read_image
from salad.images.trim import trim_borders
from salad.samples import ABNORMAL, NORMAL, Sample, Selection

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("SALAD_DATA_DIR" not in os.environ, reason="SALAD_DATA_DIR is not set"),
]
PARTS = {"kermany_dev": ".jpeg", "kermany_fullres": ".jpeg", "nih1024": ".png", "nih64": ".png"}


@pytest.fixture(scope="module")
def real() -> Path:
    return Path(os.environ["SALAD_DATA_DIR"]).resolve()


def images_below(folder: Path, suffix: str) -> list[Path]:
    found = sorted(folder.rglob(f"*{suffix}"))
    assert found, f"{folder} holds no {suffix}"
    return found


def link(paths: list[Path], folder: Path) -> Path:
    folder.mkdir(parents=True)
    for path in paths:
        (folder / path.name).symlink_to(path)
    return folder


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


# Decoding -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("resize", ["squash", "pad", "crop"])
def test_radiographs_decode_to_grey_squares(real, part, resize):
    found = images_below(real / part, PARTS[part])
    for path in found[:: max(1, len(found) // 6)]:
        grey = read_image(path, isize=64, resize=resize)
        assert grey.shape == (64, 64) and grey.dtype == np.uint8
        assert grey.std() > 15 and grey.max() - grey.min() > 100, path


@pytest.mark.parametrize("resize", ["squash", "pad", "crop"])
def test_mixed_sizes_make_one_batch(real, resize):
    paths = images_below(real / "kermany_fullres", ".jpeg")[::8]
    assert len({size_of(path) for path in paths}) > 3
    samples = [Sample(path, path.name, NORMAL) for path in paths]
    images = DecodedImages(samples, decoder=Decoder(isize=64, resize=resize))
    loader = Loader(images, batch_size=len(paths), num_threads=0)
    (batch,) = loader.epoch(0)
    assert batch.grey.shape == (len(paths), 1, 64, 64)


def test_padding_keeps_the_shape_and_squashing_fills_the_square(real):
    path = next(p for p in images_below(real / "kermany_fullres", ".jpeg") if size_of(p)[0] > 1.3 * size_of(p)[1])
    width, height = size_of(path)
    padded = read_image(path, isize=64, resize="pad")
    black = np.flatnonzero(padded.max(axis=1) == 0)
    assert abs(len(black) - (64 - 64 * height / width)) <= 2
    assert (read_image(path, isize=64, resize="squash").max(axis=1) > 0).all()


def test_rgba_files_decode_like_their_grey_levels(real):
    found = [path for path in images_below(real / "nih1024", ".png") if Image.open(path).mode == "RGBA"]
    assert found, "the sample is said to hold RGBA files"
    for path in found:
        with Image.open(path) as image:
            first = image.getchannel(0)
        expected = np.asarray(first.resize((64, 64), Image.Resampling.BILINEAR), dtype=int)
        grey = read_image(path, isize=64, resize="squash").astype(int)
        assert np.abs(grey - expected).max() <= 1
        assert grey.std() > 15


# Folder names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "normal", "counts"),
    [
        ("kermany_dev", "0.normal", {"train": (1029, 0), "val": (120, 120), "test": (200, 401)}),
        ("nih64", "0_normal", {"train": (300, 300), "val": (100, 100), "test": (100, 100)}),
    ],
)
def test_folders_give_the_classes(real, part, normal, counts):
    for split, (num_normal, num_abnormal) in counts.items():
        found = read_split("CXR_author", real / part, split)
        assert found.normal_class == normal
        assert found.labels == [NORMAL] * num_normal + [ABNORMAL] * num_abnormal
        assert all((normal in sample.name) == (sample.label == NORMAL) for sample in found.samples)


@pytest.mark.parametrize(
    ("part", "suffix", "normal", "abnormal"),
    [("kermany_fullres", ".jpeg", "NORMAL", "PNEUMONIA"), ("nih1024", ".png", "No_findings", "Pneumonia")],
)
def test_class_names_as_published_are_read_right(real, tmp_path, part, suffix, normal, abnormal):
    link(images_below(real / part / normal, suffix)[:6], tmp_path / "train" / normal)
    for name in (normal, abnormal):
        link(images_below(real / part / name, suffix)[6:10], tmp_path / "test" / name)
    assert read_split("CXR_author", tmp_path, "train").labels == [NORMAL] * 6
    test = read_split("CXR_author", tmp_path, "test")
    assert test.normal_class == normal and test.labels == [NORMAL] * 4 + [ABNORMAL] * 4


def test_class_names_that_sort_the_other_way_round_ask_for_the_normal_class(real, tmp_path):
    link(images_below(real / "kermany_fullres/NORMAL", ".jpeg")[:6], tmp_path / "train/healthy")
    link(images_below(real / "kermany_fullres/PNEUMONIA", ".jpeg")[:6], tmp_path / "train/bacteria")
    with pytest.raises(InputError, match="--normal_class healthy"):
        read_split("CXR_author", tmp_path, "train")
    assert read_split("CXR_author", tmp_path, "train", selection=Selection(normal_class="healthy")).num_normal == 6


# Training and test ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def few(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 linked images of kermany_dev."""
    root = tmp_path_factory.mktemp("kermany") / "data"
    parts = {"train/0.normal": 16, "val/0.normal": 4, "val/1.abnormal": 4, "test/0.normal": 8, "test/1.abnormal": 8}
    for part, count in parts.items():
        link(images_below(real / "kermany_dev" / part, ".jpeg")[:count], root / part)
    return root


def test_two_epochs_on_real_radiographs(few, tmp_path):
    options = ["--weights", "none", "--n_epochs", 2, "--w_contrast", 1, "--ans_select_rate", 1]
    trained = invoke(cli.train, "CXR_author", "unet", tmp_path, few, *SHORT, *options)
    assert trained.exit_code == 0, trained.stderr
    lines = read_lines(tmp_path / "metrics.jsonl")
    assert len(lines) == 4 and all(np.isfinite(line["loss"]) and 0 <= line["val_auc"] <= 1 for line in lines)
    tested = invoke(cli.test, "CXR_author", "unet", tmp_path, few, *TINY)
    assert tested.exit_code == 0, tested.stderr
    rows = read_csv(tmp_path / "scores.csv")
    scores = np.array([float(row["score"]) for row in rows])
    assert np.isfinite(scores).all() and len(set(scores)) > 8
    assert [row["label"] for row in rows] == ["0"] * 8 + ["1"] * 8
    metrics = read_json(tmp_path / "metrics.json")
    found = [metrics["auc"], *metrics["baseline_auc"].values()]
    assert len(found) == 4 and all(0 <= one["low"] <= one["value"] <= one["high"] <= 1 for one in found)


# Inspection -----------------------------------------------------------------------------------------------------


def inspection_of(data_path: Path, *options: str, dataset: str = "CXR_author") -> dict:
    result = CliRunner().invoke(main, ["inspect", dataset, str(data_path), "--json", *options])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_inspection_finds_the_patients_and_the_mislabelled_image_of_nih64(real):
    found = inspection_of(real / "nih64", "--train_on", "all")
    patients = {
        split: {row["patient_id"] for row in read_csv(real / "nih64/nih_labels.csv") if row["path"].startswith(folder)}
        for split, folder in {"train": "train/", "val": "valid/", "test": "test/"}.items()
    }
    assert {(leak["kind"], leak["first"], leak["second"]): leak["num_shared"] for leak in found["leaks"]} == {
        ("patient", first, second): len(patients[first] & patients[second])
        for first, second in (("train", "val"), ("train", "test"), ("val", "test"))
    }
    assert {split: facts["num_patients"] for split, facts in found["splits"].items()} == {
        split: len(one) for split, one in patients.items()
    }
    (doubt,) = found["doubts"]
    assert doubt.endswith("1 of 1,000, the first: valid/0_normal/00000193_019.png (Pneumonia)")
    assert found["splits"]["val"]["views"] == {"PA": 129, "AP": 71}


def test_inspection_tells_patients_of_nih64_by_name_alone(real, tmp_path):
    link(sorted((real / "nih64/train/0_normal").iterdir()), tmp_path / "train/0_normal")
    link(sorted((real / "nih64/valid/1_abnormal").iterdir()), tmp_path / "val/1_abnormal")
    (leak,) = inspection_of(tmp_path)["leaks"]
    assert (leak["kind"], leak["first"], leak["second"]) == ("patient", "train", "val") and leak["num_shared"] > 5


def test_inspection_of_kermany(real):
    found = inspection_of(real / "kermany_dev")
    assert {split: facts["num_images"] for split, facts in found["splits"].items()} == {
        "train": 1029, "val": 240, "test": 601,
    }  # fmt: skip
    assert found["leaks"] == [] and found["doubts"] == []
    assert found["num_copies"] == 5
    first, second = found["copies"][0]
    assert (real / "kermany_dev" / first).read_bytes() == (real / "kermany_dev" / second).read_bytes()
    assert all(facts["sizes"] == {"224 x 224": facts["num_images"]} for facts in found["splits"].values())
    assert found["baselines"]["auc"]["file size"]["value"] < 0.2  # abnormal files are smaller


def test_inspection_of_nih1024_in_class_folders(real, tmp_path):
    for split, part in (("train", slice(0, 12)), ("val", slice(12, 15)), ("test", slice(15, None))):
        for label in ("No_findings", "Pneumonia"):
            link(images_below(real / "nih1024" / label, ".png")[part], tmp_path / split / label)
    shutil.copy(real / "nih1024/Data_Entry_2017_sample.csv", tmp_path)
    found = inspection_of(tmp_path)
    assert found["doubts"] == [] and found["baselines"]["num_images"] == 6
    assert {size for facts in found["splits"].values() for size in facts["sizes"]} == {"1024 x 1024"}
    assert sum(sum(facts["views"].values()) for facts in found["splits"].values()) == 38


def test_inspection_of_nih1024_as_it_is_downloaded(real):
    found = inspection_of(real / "nih1024", dataset="NIH")
    rows = read_csv(real / "nih1024/Data_Entry_2017_sample.csv")
    facts = found["splits"].values()
    assert sum(one["num_normal"] for one in facts) == sum(row["Finding Labels"] == "No Finding" for row in rows)
    assert sum(one["num_patients"] for one in facts) == len({row["Patient ID"] for row in rows})
    assert found["leaks"] == [] and found["doubts"] == []


def test_inspection_of_pneumoniamnist(real):
    found = inspection_of(real / "pneumoniamnist_dev.npz", dataset="MedMNIST")
    assert {name: (one["num_images"], one["sizes"]) for name, one in found["splits"].items()} == {
        name: (count, {"28 x 28": count}) for name, count in (("train", 980), ("val", 524), ("test", 624))
    }
    with np.load(real / "pneumoniamnist_dev.npz") as arrays:
        images = [row.tobytes() for name in ("train", "val", "test") for row in arrays[f"{name}_images"]]
    assert found["num_copies"] + sum(leak["num_images"] for leak in found["leaks"]) == len(images) - len(set(images))
    assert found["doubts"] == []


def test_inspection_of_dicom_files(real, tmp_path):
    link(images_below(real / "dicom", ".dcm"), tmp_path / "train/0.normal")
    (facts,) = inspection_of(tmp_path)["splits"].values()
    assert facts["num_unread"] == 0 and sum(facts["modes"].values()) == 4
    assert {mode.split()[0] for mode in facts["modes"]} == {"DICOM"}


def test_the_authors_tree_from_the_lists_of_tang(real, tmp_path):
    lists = read_lists(real / "nih_lists")
    assert {split: [*labels.values()].count(NORMAL) for split, labels in lists.items()} == {
        "train": 4261, "val": 849, "test": 677,
    }  # fmt: skip
    check_counts(lists, real / "nih_lists")
    (tmp_path / "nih/images_001/images").mkdir(parents=True)
    for path in images_below(real / "nih1024", ".png"):
        shutil.copy(path, tmp_path / "nih/images_001/images")
    with pytest.raises(InputError, match="11,614 of 11,624 images are missing"):
        build_tree(tmp_path / "nih", real / "nih_lists", out=tmp_path / "author")
    lines = build_tree(tmp_path / "nih", real / "nih_lists", out=tmp_path / "author", allow_missing=True)
    assert lines[0] == "train  0 normal, 8 abnormal" and len(list((tmp_path / "author").rglob("*.png"))) == 10


# DICOM ----------------------------------------------------------------------------------------------------------

RSNA = "1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819.dcm"


def test_real_dicom_files_decode(real):
    for path in images_below(real / "dicom", ".dcm"):
        grey = read_image(path, isize=64, resize="squash")
        assert grey.std() > 15 and grey.max() - grey.min() > 150, path


def test_a_file_tagged_as_its_negative_is_shown_as_its_negative(real):
    plain, inverted = (
        read_image(real / "dicom" / name, isize=64, resize="squash") for name in (RSNA, "Fake_MONOHR1.dcm")
    )
    assert np.abs(255 - inverted.astype(int) - plain).max() <= 1


def test_one_radiograph_in_two_lossless_syntaxes(real):
    first, second = (read_image(real / f"dicom/RG2_{name}.dcm", isize=256, resize="pad") for name in ("JLSL", "JPLL"))
    assert np.array_equal(first, second) and first.std() > 15


def test_a_dicom_file_under_another_name_is_read(real, tmp_path):
    path = Path(shutil.copy(real / "dicom" / RSNA, tmp_path / "renamed.png"))
    assert np.array_equal(
        read_image(path, isize=64, resize="pad"), read_image(real / "dicom" / RSNA, isize=64, resize="pad")
    )


def test_training_and_test_on_dicom_files(real, few, tmp_path):
    """The four files, several times under other names, among others."""
    root = shutil.copytree(few, tmp_path / "data", symlinks=True)
    found = images_below(real / "dicom", ".dcm")
    shutil.rmtree(root / "train/0.normal")
    for part, count in (("train/0.normal", 8), ("test/0.normal", 2), ("test/1.abnormal", 2)):
        (root / part).mkdir(exist_ok=True)
        for number in range(count):
            (root / part / f"{number}.dcm").symlink_to(found[number % len(found)])
    options = ["--normalize", "standardize", "--trim"]
    trained = invoke(cli.train, "CXR_author", "unet", tmp_path / "xp", root, *SHORT, *options)
    assert trained.exit_code == 0, trained.stderr
    tested = invoke(cli.test, "CXR_author", "unet", tmp_path / "xp", root, *TINY)
    assert tested.exit_code == 0, tested.stderr
    rows = read_csv(tmp_path / "xp/scores.csv")
    assert sum(row["path"].endswith(".dcm") for row in rows) == 4
    assert np.isfinite([float(row["score"]) for row in rows]).all()


@pytest.mark.parametrize("part", PARTS)
def test_trimming_leaves_most_of_a_radiograph(real, part):
    found = images_below(real / part, PARTS[part])
    for path in found[:: max(1, len(found) // 10)]:
        with Image.open(path) as image:
            grey = image.convert("L")
        trimmed = trim_borders(grey)
        assert trimmed.width >= 0.6 * grey.width and trimmed.height >= 0.6 * grey.height
        assert np.asarray(trimmed).std() > 10


# Other data sets ------------------------------------------------------------------------------------------------


def test_nih_with_its_csv_file(real):
    found = {split: read_split("NIH", real / "nih1024", split) for split in ("train", "val", "test")}
    samples = [sample for split in found.values() for sample in split.samples]
    assert len(samples) == len({sample.name for sample in samples}) == 38
    assert all(sample.name.startswith("No_findings/") == (sample.label == NORMAL) for sample in samples)
    patients = [{sample.patient for sample in split.samples} for split in found.values()]
    assert sum(map(len, patients)) == len(set.union(*patients)), "a patient is in two splits"
    views = {sample.view for sample in samples}
    assert views == {"PA", "AP"}
    frontal = read_split("NIH", real / "nih1024", "train", selection=Selection(view="PA", min_age=18))
    assert {sample.view for sample in frontal.samples} == {"PA"}
    assert 0 < len(frontal.samples) < len(found["train"].samples)


def test_nih_with_the_public_lists(real, caplog):
    selection = Selection(split_dir=real / "nih_lists")
    train = read_split("NIH", real / "nih1024", "train", selection=selection)
    assert train.labels == [ABNORMAL] * 8
    assert "8566 of 8574 images of train are missing" in caplog.text
    with pytest.raises(InputError, match="none of the 1344 images of test was found"):
        read_split("NIH", real / "nih1024", "test", selection=selection)


def test_counts_of_the_public_lists(real):
    counts = {}
    for name in ("train", "val", "test_attending_rad"):
        labels = list(read_list(real / "nih_lists" / f"{name}.txt").values())
        counts[name] = labels.count(NORMAL), labels.count(ABNORMAL)
    assert counts == {"train": (4261, 4313), "val": (849, 857), "test_attending_rad": (677, 667)}


def test_a_table_that_comes_with_the_images(real, tmp_path):
    """labels.csv of kermany_dev is such a table; nih_labels.csv has other names of columns, and says so."""
    for split, counts in {"train": (1029, 0), "val": (120, 120), "test": (200, 401)}.items():
        found = read_split("Table", real / "kermany_dev/labels.csv", split)
        assert (found.num_normal, len(found.samples) - found.num_normal) == counts
        folders = read_split("CXR_author", real / "kermany_dev", split)
        assert [sample.path for sample in found.samples] == [sample.path for sample in folders.samples]
        assert all(sample.patient and sample.findings for sample in found.samples)
    with pytest.raises(InputError, match="no column 'label'; its columns are path, finding_labels, patient_id"):
        read_split("Table", real / "nih64/nih_labels.csv", "train")


def test_medmnist_file(real):
    for data_path in (real / "pneumoniamnist_dev.npz", real):
        for split, counts in {"train": (980, 0), "val": (135, 389), "test": (234, 390)}.items():
            found = read_split("MedMNIST", data_path, split)
            assert (found.num_normal, len(found.samples) - found.num_normal) == counts
    with np.load(real / "pneumoniamnist_dev.npz") as file:
        expected = file["test_images"]
    images = DecodedImages(found.samples, decoder=Decoder(isize=28, resize="squash"))
    out = np.empty((624, 28, 28), np.uint8)
    images.read(list(range(624)), out)
    assert (out == expected).all()


@pytest.mark.parametrize(("name", "place"), [("NIH", "nih1024"), ("MedMNIST", "pneumoniamnist_dev.npz")])
def test_training_and_test_on_other_data_sets(real, tmp_path, name, place):
    before = sorted(real.iterdir())
    words = [name, "unet", tmp_path / "xp", real / place, "--cache", tmp_path / "cache"]
    result = invoke(cli.train, *words, *SHORT, "--batch_size", 100)
    assert result.exit_code == 0, result.stderr
    result = invoke(cli.test, *words, *TINY, "--batch_size", 100)
    assert result.exit_code == 0, result.stderr
    metrics = read_json(tmp_path / "xp/metrics.json")
    assert metrics["num_normal"] + metrics["num_abnormal"] == {"NIH": 8, "MedMNIST": 624}[name]
    assert sorted(real.iterdir()) == before


# Drift ----------------------------------------------------------------------------------------------------------


def measured(films: list[Path] | list[np.ndarray], template: torch.Tensor) -> dict[str, np.ndarray]:
    """Measurements of films, by their registration to a template."""
    decoder = Decoder(isize=128, resize="squash")
    grey = np.stack([read_source(film, decoder) for film in films])
    params = register(template, torch.from_numpy(grey)[:, None]).numpy()
    return {**measure_levels(measure_grey_levels(grey)), **measure_framing(params)}


def test_drift_tells_other_children_and_adults_but_not_sick_films(real):
    kermany = real / "kermany_dev"
    decoder = Decoder(isize=128, resize="squash")
    train = [read_image(path, isize=128, resize="squash") for path in images_below(kermany / "train", ".jpeg")[::5]]
    template = build_template(shrink(torch.from_numpy(np.stack(train))[:, None]))
    calibration = Calibration.of(np.arange(120.0), measured(images_below(kermany / "val/0.normal", ".jpeg"), template))
    shifted = read_csv(kermany / "shifted_normals.csv")

    def drifted(films: list[Path] | list[np.ndarray]) -> tuple[str, ...]:
        return find_drift(np.full(len(films), 60.0), measured(films, template), calibration).drifted

    normal = images_below(kermany / "test/0.normal", ".jpeg")
    assert drifted(normal) == drifted(images_below(kermany / "test/1.abnormal", ".jpeg")[::2]) == ()
    assert drifted([kermany / row["path"] for row in shifted if row["tall"] == "1"]) == ("chest_height",)
    adults = images_below(real / "nih_adult_dev/holdout_normals", ".jpg")[:150]
    assert {"chest_width", "chest_down"} <= {*drifted(adults)}
    pixels = [decoder.read(Sample(path, path.name, NORMAL)) for path in normal[::4]]
    assert drifted(pixels) == ()
    assert {"chest_width", "chest_height"} <= {*drifted([np.pad(film, 16) for film in pixels])}
    assert drifted([film // 2 for film in pixels])[:2] == ("brightness", "contrast")
    assert "chest_down" in drifted([255 - film for film in pixels])
