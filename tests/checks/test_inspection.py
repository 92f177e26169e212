"""What is said of a data set before a training: numbers, leaks, doubts and baselines, on the screen and as JSON."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from dicom_files import DEFLATED, SECRET, dataset, written
from PIL import Image
from running import REPOSITORY, SHORT, TINY, invoke, read_csv, score, stopped, train

from salad import cli
from salad.checks.baselines import measure_baselines
from salad.checks.inspection import Inspection, inspect_splits
from salad.checks.labels import find_contradictions
from salad.checks.leaks import Leak, compare_splits
from salad.checks.screen import MAX_WARNINGS, baseline_lines, fact_lines, warning_lines
from salad.cli import main
from salad.datasets import read_split
from salad.evaluation.metrics import auc
from salad.images import headers
from salad.images.decoder import Decoder
from salad.samples import ABNORMAL, NORMAL, Sample, Selection, Split

DECODER = Decoder(isize=8, resize="squash")
TREE = [f"{part}/{label}.png" for part in ("train/0.normal", "val/0.normal", "val/1.ill", "test/0.normal", "test/1.ill")
        for label in (part.replace("/", "-"), f"{part.replace('/', '-')}2")]  # fmt: skip


def read(data_path, name, *, normal_class=None):
    return read_split("CXR_author", data_path, name, selection=Selection(normal_class=normal_class))


def splits_of(data_path, *, names=("train", "val", "test"), normal_class=None):
    found = {name: read(data_path, name, normal_class=normal_class) for name in names}
    return {name: split for name, split in found.items() if split}


def look(data_path, *, train_on="normal", num_threads=0, **options) -> Inspection:
    splits = splits_of(data_path, **options)
    return inspect_splits(splits, train_on=train_on, num_threads=num_threads)


def samples(label, *findings, names=None):
    names = names or [f"{number}.png" for number in range(len(findings))]
    return [
        Sample(Path(name), name, label, findings=tuple(found.split("|")) if found else ())
        for name, found in zip(names, findings or [""] * len(names), strict=True)
    ]


def copy(data_path, name, to):
    (data_path / to).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(data_path / name, data_path / to)


def inspect(*words):
    return CliRunner().invoke(main, ["inspect", *map(str, words)])


# Numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_threads", [0, 3])
def test_numbers(write_folders, write_image, num_threads):
    data_path = write_folders(*TREE, "train/1.ill/a.png", "train/2.worse/b.png", "train/2.worse/c.png")
    write_image(data_path / "train/0.normal/wide.png", size=(20, 10))
    Image.new("RGB", (8, 8)).save(data_path / "train/0.normal/rgb.jpg")
    (data_path / "train/0.normal/bad.png").write_text("no image")
    rows = [f"{name},{number % 3},PA" for number, name in enumerate(TREE[:2])] + ["train/0.normal/wide.png,0,LL"]
    (data_path / "t.csv").write_text("path,patient,view\n" + "\n".join(rows))
    found = look(data_path, num_threads=num_threads)
    facts = found.splits["train"]
    assert (facts.num_images, facts.num_normal, facts.num_abnormal, facts.num_left_out) == (8, 5, 3, 3)
    assert facts.classes == {"0.normal": 5, "2.worse": 2, "1.ill": 1} and facts.normal_class == "0.normal"
    assert (facts.num_patients, facts.num_without_patient) == (2, 5)
    assert facts.views == {"PA": 2, "LL": 1}
    assert facts.sizes == {"8 x 8": 6, "20 x 10": 1} and facts.modes == {"PNG L": 6, "JPEG RGB": 1}
    assert (facts.num_headers, facts.num_unread) == (8, 1)
    assert (found.splits["val"].num_left_out, found.leaks, found.copies, found.num_uncompared) == (0, (), (), 0)
    assert look(data_path, train_on="all").splits["train"].num_left_out == 0
    (line, *_) = fact_lines(found)
    assert line == (
        "train  8 images: 5 normal (0.normal), 3 abnormal (2.worse 2, 1.ill 1), left out; "
        "2 patients (5 images without); PA 2, LL 1; 8 x 8 6, 20 x 10 1; PNG L 6, JPEG RGB 1"
    )


def test_headers_are_sampled_where_there_are_many(write_folders, monkeypatch):
    data_path = write_folders(*(f"train/0.normal/{number}.png" for number in range(12)))
    monkeypatch.setattr(headers, "MAX_SAMPLED", 5)
    found = look(data_path, names=["train"])
    assert found.splits["train"].num_headers == sum(found.splits["train"].sizes.values()) == 5
    assert "PNG L (of 5)" in fact_lines(found)[0]
    assert headers.draw_places(12) == headers.draw_places(12) != list(range(5))
    assert headers.draw_places(5) == list(range(5))


def test_headers_of_arrays_and_of_dicom(tmp_path):
    path = tmp_path / "a.dcm"
    path.write_bytes(written(dataset(np.zeros((6, 9), np.uint16), bits=12)))
    np.savez(tmp_path / "set.npz", grey=np.zeros((2, 5, 7), np.uint8), colour=np.zeros((2, 5, 7, 3), np.uint8))
    rows = [Sample(tmp_path / "set.npz", name, NORMAL, row=1, array=name) for name in ("grey", "colour", "absent")]
    assert headers.read_headers([Sample(path, "a", NORMAL), *rows], num_threads=0) == [
        headers.Header(9, 6, "DICOM MONOCHROME2 12 bit"),
        headers.Header(7, 5, "array, grey"),
        headers.Header(7, 5, "array, RGB"),
        None,
    ]


def test_the_view_of_the_data_set_counts_before_that_of_the_header(tmp_path, write_image):
    path, picture = tmp_path / "a.dcm", write_image(tmp_path / "a.png")
    path.write_bytes(written(dataset(np.zeros((6, 9), np.uint8), ViewPosition="PA", BodyPartExamined="CHEST")))
    samples = [Sample(path, "a", NORMAL, view=view) for view in (None, "LATERAL", "odd")]

    samples += [Sample(picture, "b", NORMAL, view="AP"), Sample(picture, "c", NORMAL)]

    told = headers.read_told(samples, part="", num_threads=0)

    assert [facts.get("view") for facts in told] == ["PA", "lateral", "PA", "AP", None]
    assert [facts.get("part") for facts in told] == ["CHEST", "CHEST", "CHEST", None, None]


def test_the_body_part_of_a_header_counts_before_that_of_the_image_and_of_the_set(tmp_path, write_image):
    path, picture = tmp_path / "a.dcm", write_image(tmp_path / "a.png")
    path.write_bytes(written(dataset(np.zeros((6, 9), np.uint8), BodyPartExamined="FOOT")))
    samples = [Sample(path, "a", NORMAL), *(Sample(picture, "b", NORMAL, part=part) for part in ("HAND", None, "odd"))]

    parts = [[facts.get("part") for facts in headers.read_told(samples, part=of, num_threads=0)] for of in ("KNEE", "")]

    assert parts == [["FOOT", "HAND", "KNEE", None], ["FOOT", "HAND", None, None]]


def test_headers_quote_nothing_of_a_dicom_file(tmp_path):
    path = tmp_path / "a.dcm"
    pixels = np.zeros((6, 9), np.uint8)
    path.write_bytes(written(dataset(pixels, PhotometricInterpretation=SECRET)))
    assert headers.read_headers([Sample(path, "a", NORMAL)], num_threads=0) == [None]
    path.write_bytes(written(dataset(pixels, Modality=SECRET, ViewPosition=SECRET, BodyPartExamined=SECRET), DEFLATED))
    (header,) = headers.read_headers([Sample(path, "a", NORMAL)], num_threads=0)
    assert header == headers.Header(9, 6, "DICOM MONOCHROME2 8 bit") and header.facts == {"pixels": "MONOCHROME2"}


def test_nothing_is_decoded_for_sizes(write_folders):
    data_path = write_folders("train/0.normal/a.png")
    path = data_path / "train/0.normal/a.png"
    path.write_bytes(path.read_bytes()[:60])  # the pixels are cut off
    assert look(data_path, names=["train"]).splits["train"].sizes == {"8 x 8": 1}


# Leaks ----------------------------------------------------------------------------------------------------------


def test_the_same_image_in_two_splits(write_folders):
    data_path = write_folders(*TREE)
    copy(data_path, TREE[0], "val/0.normal/again.png")
    copy(data_path, TREE[0], "test/0.normal/again.png")
    copy(data_path, TREE[1], "test/0.normal/again2.png")
    leaks = {(leak.first, leak.second): leak for leak in look(data_path).leaks}
    assert {places: (leak.kind, leak.num_images) for places, leak in leaks.items()} == {
        ("train", "val"): ("content", 1),
        ("train", "test"): ("content", 2),
        ("val", "test"): ("content", 1),
    }
    assert leaks["train", "test"].pairs == (
        ("test/0.normal/again.png", TREE[0]),
        ("test/0.normal/again2.png", TREE[1]),
    )
    assert str(leaks["train", "val"]) == (
        f"images of val that are in train, too: 1, the first: val/0.normal/again.png and {TREE[0]}"
    )


def test_patients_in_two_splits(write_folders):
    data_path = write_folders(
        *(f"train/0.normal/0000000{patient}_000.png" for patient in (1, 2, 3)),
        *(f"val/1.ill/0000000{patient}_00{visit}.png" for patient in (2, 3, 4) for visit in (1, 2)),
        "test/1.ill/00000005_000.png",
    )
    (leak,) = look(data_path).leaks
    assert (leak.kind, leak.first, leak.second, leak.num_shared, leak.num_images) == ("patient", "train", "val", 2, 4)
    assert "4, of 2 patients, the first: val/1.ill/00000002_001.png and train/0.normal/00000002_000.png" in str(leak)


def test_images_that_are_left_out_leak_nothing(write_folders):
    data_path = write_folders(*TREE, "train/1.ill/00000001_000.png", "val/1.ill/00000001_001.png")
    copy(data_path, "train/1.ill/00000001_000.png", "val/1.ill/again.png")
    assert look(data_path).leaks == ()
    assert [leak.kind for leak in look(data_path, train_on="all").leaks] == ["content", "patient"]


def test_copies_in_one_split_are_no_leak(write_folders):
    data_path = write_folders(*TREE)
    copy(data_path, TREE[0], "train/0.normal/again.png")
    found = look(data_path)
    assert found.leaks == () and found.copies == ((TREE[0], "train/0.normal/again.png"),)
    assert any("copies within a split: 1, the first: " in line for line in fact_lines(found))


def test_a_bound_that_is_reached_is_said(write_folders):
    data_path = write_folders(*TREE)
    copy(data_path, TREE[0], "val/0.normal/again.png")
    splits = splits_of(data_path)
    found = inspect_splits(splits, train_on="normal", num_threads=0, max_bytes=10)
    assert found.leaks == () and found.num_uncompared == 2
    assert "compared by content: 9 images; 2 others were not" in "\n".join(fact_lines(found))


def test_any_two_splits_can_be_compared(write_folders):
    data_path = write_folders(*TREE)
    copy(data_path, "val/1.ill/val-1.ill.png", "test/1.ill/x.png")
    for names, expected in [(["train", "val"], 0), (["val", "test"], 1), (["test"], 0)]:
        splits = splits_of(data_path, names=names)
        found = compare_splits(splits, train_on="normal", num_threads=0)
        assert len(found.leaks) == expected


# Labels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["No Finding", "no_findings", "NORMAL", "0.normal", "negative"])
def test_findings_against_labels(word):
    normal = samples(NORMAL, word, "Edema", "Mass|Edema", "", f"{word}|Edema")
    ill = samples(ABNORMAL, "Not Normal", word, "", "Mass")
    first, second = find_contradictions(normal + ill)
    assert first == "images labelled normal whose findings say otherwise: 2 of 7, the first: 1.png (Edema)"
    assert second == f"images labelled abnormal whose findings say otherwise: 1 of 7, the first: 1.png ({word})"


def test_findings_of_unknown_words_are_not_compared():
    (line,) = find_contradictions(samples(NORMAL, "klar") + samples(ABNORMAL, "krank"))
    assert "none means normal (klar, krank)" in line
    assert find_contradictions(samples(NORMAL, "5") + samples(ABNORMAL, "4")) == []
    assert find_contradictions(samples(ABNORMAL, "krank")) == []  # where nothing is labelled normal, none should
    assert find_contradictions(samples(NORMAL, "", "")) == []


def test_names_against_labels():
    normal = samples(NORMAL, names=["person1_bacteria_2.jpeg", "NORMAL2-IM-1.jpeg", "abnormal_1.png", "a.png"])
    ill = samples(ABNORMAL, names=["normal.png", "person1_virus_2.jpeg", "normal_or_pneumonia.png", "subnormal.png"])
    first, second = find_contradictions(normal + ill)
    assert first.endswith("names say otherwise: 2, the first: person1_bacteria_2.jpeg") and "labelled normal" in first
    assert second.endswith("names say otherwise: 1, the first: normal.png") and "labelled abnormal" in second
    (line,) = find_contradictions(samples(NORMAL, names=["not_normal_1.png", "Unhealthy2.png", "normal.png"]))
    assert "names say otherwise: 2, the first: not_normal_1.png" in line
    assert find_contradictions([replace(sample, row=0) for sample in normal + ill]) == []


def test_the_same_content_with_both_labels(write_folders):
    data_path = write_folders(*TREE, "train/1.ill/x.png")
    copy(data_path, TREE[0], "train/1.ill/again.png")
    found = look(data_path)
    assert found.leaks == ()
    (doubt,) = found.doubts
    assert doubt == (
        f"identical images labelled normal and abnormal: 1, the first: {TREE[0]} (normal) and "
        "train/1.ill/again.png (abnormal)"
    )


def test_folders_that_are_not_what_they_seem(write_folders):
    data_path = write_folders(
        "train/a/1.png", "train/b/2.png", "train/lost.png", "train/lost2.JPG", "train/.hidden.png",
        "val/a/3.png", "valid/a/4.png", "test/a/5.png", "test/normal/6.png",
    )  # fmt: skip
    (data_path / "train/notes.txt").touch()
    splits = {name: read(data_path, name) for name in ("train", "val")}
    assert splits["train"].doubts == (
        "train/: 2 images in no class folder are not used, the first is lost.png",
        "train/: a counts as normal only because it is first; choose with --normal_class",
    )
    assert splits["val"].doubts[-1] == "valid/ is not used, because val/ exists"
    test = read(data_path, "test", normal_class="a")
    assert test.doubts == ("test/normal/ counts as abnormal: the normal class is a",)
    asked = read(data_path, "train", normal_class="a")
    assert not any("only because" in doubt for doubt in asked.doubts)


def test_classes_below_a_class_are_doubted(write_folders):
    data_path = write_folders("train/images/normal/1.png", "train/images/sick/2.png", "train/other/healthy/3.png")
    assert read(data_path, "train", normal_class="images").doubts == (
        "train/images/ holds sick, whose images all count as normal",
        "train/other/ holds healthy, whose images all count as abnormal",
    )
    assert read(write_folders("test/normal/p1/1.png", "test/sick/p2/2.png"), "test", normal_class="normal").doubts == ()


def test_usual_folders_raise_no_doubt(write_folders):
    assert look(write_folders(*TREE)).doubts == ()


# Baselines ------------------------------------------------------------------------------------------------------


@pytest.fixture
def val(tmp_path):
    """Abnormal images are brighter, flatter and smaller."""
    samples = []
    for number in range(8):
        label = number % 2
        path = tmp_path / f"{number}.png"
        pixels = np.random.default_rng(number).normal(80 + 60 * label, 20 - 10 * label, (9 - label, 9 - label))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
        samples.append(Sample(path, path.name, label))
    return Split(samples=samples, normal_class="normal", classes=("normal", "ill"))


@pytest.mark.parametrize("num_threads", [0, 3])
def test_baselines(val, num_threads):
    found = measure_baselines(val, decoder=DECODER, num_threads=num_threads)
    assert list(found.aucs) == ["image mean", "image std", "image sharpness", "file size", "image size"]
    assert (found.aucs["image mean"].value, found.aucs["image std"].value, found.aucs["image size"].value) == (1, 0, 0)
    sizes = [sample.path.stat().st_size for sample in val.samples]
    assert found.aucs["file size"] == auc(val.labels, sizes)
    assert (found.num_images, found.is_sample) == (8, False)
    assert json.loads(json.dumps(found.as_json()))["auc"]["image mean"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_baselines_of_a_sample_and_of_bad_files(val, monkeypatch):
    val.samples[0].path.write_text("no image")
    assert measure_baselines(val, decoder=DECODER, num_threads=0).num_images == 7
    monkeypatch.setattr(headers, "MAX_SAMPLED", 6)
    found = measure_baselines(val, decoder=DECODER, num_threads=0)
    assert found.is_sample and found.num_images in (5, 6)
    assert "(a sample)" in baseline_lines(found)[0]


def test_baselines_that_tell_nothing(val):
    normal = val.only_normal()
    assert measure_baselines(normal, decoder=DECODER, num_threads=0) is None
    content = val.samples[0].path.read_bytes()
    for sample in val.samples:
        sample.path.write_bytes(content)
    found = measure_baselines(val, decoder=DECODER, num_threads=0)
    assert set(found.aucs.values()) == {None}
    assert baseline_lines(found)[1].endswith("undefined or the same for all")


# The screen -----------------------------------------------------------------------------------------------------


def test_the_worst_data_set_fits_one_screen():
    leak = Leak(kind="content", first="train", second="val", num_shared=1, num_images=1, pairs=(("x" * 400, "y"),))
    counts = {f"{number} x 7": 1 for number in range(30)}
    facts = look_like(counts)
    found = Inspection(
        few=("only 1 normal image",),
        splits=dict.fromkeys(("train", "val", "test"), facts),
        absent={},
        leaks=(leak,) * 6,
        copies=(("a", "b"),) * 9,
        num_uncompared=3,
        doubts=("odd",) * 40,
    )
    lines = [*fact_lines(found), *warning_lines(found)]
    assert len(warning_lines(found)) == MAX_WARNINGS and "and 36 more" in lines[-1]
    assert len(lines) + 5 <= 25 and max(map(len, lines)) < 310  # five lines of baselines
    assert "30 sizes from 0 x 7 to 29 x 7" in lines[0]


def look_like(counts):
    from salad.checks.inspection import SplitFacts

    return SplitFacts(
        num_normal=30, num_abnormal=0, num_left_out=0, classes={"n": 30}, normal_class="n", num_patients=0,
        num_without_patient=30, views=counts, sizes=counts, modes=counts, num_headers=30, num_unread=0,
    )  # fmt: skip


# python -m salad inspect ----------------------------------------------------------------------------------------


@pytest.fixture
def leaking(write_folders):
    """A data set with an image in train and test, and a patient in train and val."""
    data_path = write_folders(*TREE, "train/0.normal/00000001_000.png", "val/1.ill/00000001_001.png")
    copy(data_path, TREE[0], "test/0.normal/again.png")
    return data_path


def test_inspect_prints_text(leaking):
    result = inspect("CXR_author", leaking)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["train", "val", "test"]
    assert sum(line.startswith("leak: ") for line in lines) == 2
    assert lines[-5].startswith("  image mean") and len(lines) <= 25


def test_inspect_prints_json(leaking):
    result = inspect("CXR_author", leaking, "--json")
    found = json.loads(result.stdout)
    assert {name: split["num_normal"] for name, split in found["splits"].items()} == {"train": 3, "val": 2, "test": 3}
    assert [(leak["kind"], leak["first"], leak["second"]) for leak in found["leaks"]] == [
        ("content", "train", "test"),
        ("patient", "train", "val"),
    ]
    assert found["baselines"]["num_images"] == 5 and found["num_copies"] == 0
    assert 'patient": "' not in result.stdout  # they are counted, never named


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_inspect_strict(leaking, options):
    result = inspect("CXR_author", leaking, "--strict", *options)
    assert result.exit_code == 2 and result.stdout
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: --strict: images of test that are in train, too: 1") and "1 more kind" in line
    shutil.rmtree(leaking / "val")
    (leaking / "test/0.normal/again.png").unlink()
    assert inspect("CXR_author", leaking, "--strict").exit_code == 0


def test_inspect_takes_what_is_there(write_folders):
    data_path = write_folders(*TREE[:2], "val/0.normal/v.png")
    result = inspect("CXR_author", data_path)
    assert result.exit_code == 0
    assert "test " in result.stdout and "no such folder" in result.stdout and "AUC" not in result.stdout
    shutil.rmtree(data_path)
    result = inspect("CXR_author", data_path)
    assert result.exit_code == 2 and result.stderr.startswith("Error: ") and "no such folder" in result.stderr


def test_inspect_doubts_films_that_show_nothing(write_folders):
    data_path = write_folders(*TREE[:2], "val/0.normal/v.png")
    Image.new("L", (32, 32)).save(data_path / "val/0.normal/black.png")
    (line,) = [one for one in inspect("CXR_author", data_path).stdout.splitlines() if "are doubtful" in one]
    assert line.endswith("doubt: 1 of 2 images of val/ are doubtful, namely val/0.normal/black.png (nearly black)")


def test_inspect_normal_class_holds_for_all_splits(write_folders):
    data_path = write_folders("train/b/1.png", "train/a/2.png", "val/a/3.png", "val/b/4.png", "test/a/5.png")
    found = json.loads(inspect("CXR_author", data_path, "--json", "--normal_class", "b").stdout)
    assert [(one["num_normal"], one["num_abnormal"]) for one in found["splits"].values()] == [(1, 1), (1, 1), (0, 1)]
    assert found["doubts"] == []
    (doubt,) = json.loads(inspect("CXR_author", data_path, "--json").stdout)["doubts"]  # once, and not for each split
    assert doubt == "train/: a counts as normal only because it is first; choose with --normal_class"


def test_inspect_refuses_what_main_refuses(tmp_path):
    assert inspect("nowhere", tmp_path).exit_code == 2
    assert inspect("CXR_author", tmp_path, "--n_jobs_dataloader", -1).exit_code == 2
    assert inspect("CXR_author", tmp_path, "--epochs", 1).exit_code == 2


def test_inspect_writes_nothing(leaking):
    before = sorted(leaking.rglob("*"))
    inspect("CXR_author", leaking)
    assert sorted(leaking.rglob("*")) == before


def test_commands_start_without_torch():
    code = "import sys;from salad.cli import main; main(['inspect', '--help'], standalone_mode=False); "
    code += "import salad.checks.inspection, salad.checks.screen, salad.datasets.author_tree; "
    code += "assert not {'torch', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, capture_output=True)
    shown = subprocess.run(
        [sys.executable, "-m", "salad", "--help"], cwd=REPOSITORY, check=True, capture_output=True, text=True
    )
    assert "inspect" in shown.stdout and "prepare" in shown.stdout and "python -m salad" in shown.stdout


# main.py and test.py --------------------------------------------------------------------------------------------


@pytest.fixture
def films(data, tmp_path):
    """The phantom, with a val/, whose first film is in train/, too; one of train/ is in test/."""
    root = shutil.copytree(data, tmp_path / "films")
    normal, ill = (sorted((root / "test").glob(f"{label}.*/*.png")) for label in (0, 1))
    for number, path in enumerate([*normal[:2], *ill[:2]]):
        folder = root / "val" / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.asarray(Image.open(path))[:, ::-1]
        Image.fromarray(pixels).save(folder / f"{number}.png")
    first, second = sorted((root / "train/0.normal").iterdir())[:2]
    shutil.copyfile(first, root / "val/0.normal/0.png")
    shutil.copyfile(second, root / "test/0.normal/leak.png")
    return root


def test_main_shows_one_screen_and_does_not_look_at_test(films, tmp_path):
    result = invoke(cli.train, "CXR_author", "unet", tmp_path / "xp", films, *SHORT)
    assert result.exit_code == 0, result.stderr
    log = (tmp_path / "xp/log.txt").read_text()
    for text in (result.stderr, log):
        assert "train  8 images: 8 normal (0.normal); 32 x 32; PNG L" in text
        assert "leak: images of val that are in train, too: 1, the first: val/0.normal/0.png" in text
        assert "AUC on val without any model, 4 images" in text
        assert "leak.png" not in text and "of test" not in text
    assert "WARNING leak: " in log


def test_main_strict_stops_before_anything_is_decoded_or_touched(films, tmp_path):
    result = invoke(cli.train, "CXR_author", "unet", tmp_path / "xp", films, *SHORT, "--strict")
    assert stopped(result).startswith("Error: --strict: images of val that are in train, too: 1")
    assert not (films / ".salad_cache").exists() and not (tmp_path / "xp/last.tar").exists()
    (films / "val/0.normal/0.png").unlink()
    train(tmp_path / "xp", films, "--strict")


def test_test_py_compares_with_what_was_trained_on(films, tmp_path):
    xp = tmp_path / "xp"
    train(xp, films)
    tested = invoke(cli.test, "CXR_author", "unet", xp, films, *TINY)
    assert tested.exit_code == 0
    assert "leak: images of test that are in train, too: 1, the first: test/0.normal/leak.png" in tested.stderr
    assert "of val" not in tested.stderr  # which was said when the model was trained
    (xp / "scores.csv").unlink()
    line = stopped(invoke(cli.test, "CXR_author", "unet", xp, films, *TINY, "--strict"))
    assert "images of test that are in train" in line and not (xp / "scores.csv").exists()
    shutil.rmtree(films / "train")
    shutil.rmtree(films / "val")
    score(xp, films, "--strict")  # nothing to compare with
    assert len(read_csv(xp / "scores.csv")) == 7


def test_files_that_cannot_be_read_are_counted_named_and_refused_with_strict(write_folders):
    data_path = write_folders(*TREE)
    broken = data_path / TREE[0]
    whole = broken.read_bytes()
    for content, reason in [(b"no image", "not an image"), (b"", "an empty file"), (whole[:60], "damaged, cut off")]:
        broken.write_bytes(content)
        result = invoke(main, "inspect", "CXR_author", data_path)
        assert result.exit_code == 0
        assert f"1 image of train cannot be read, the first: {TREE[0]} ({reason}" in result.stdout
    assert result.stdout.startswith("train  2 images: 2 normal (0.normal); 1 cannot be read;")
    result = invoke(main, "inspect", "CXR_author", data_path, "--strict")
    assert result.exit_code == 2
    assert f"Error: --strict: 1 image of train cannot be read, the first: {TREE[0]} (damaged" in result.stderr
    found = json.loads(invoke(main, "inspect", "CXR_author", data_path, "--json").stdout)["unread"]
    assert found["train"]["num_images"] == 1 and found["train"]["first"][0][0] == TREE[0]
    assert found["test"]["num_images"] == 0


def test_missing_files_of_a_table_are_unread_beyond_the_sample_too(tmp_path, write_image, monkeypatch):
    monkeypatch.setattr(headers, "MAX_SAMPLED", 2)
    write_image(tmp_path / "A.png")
    lines = [f"nowhere/{i}.png,0,train" for i in range(4)] + ["a.png,0,test", "A.png,0,val"]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,split", *lines]))
    result = invoke(main, "inspect", "Table", tmp_path / "t.csv")
    assert "4 images of train cannot be read, the first: nowhere/0.png (no such file)" in result.stdout
    assert (
        "1 image of test cannot be read, the first: a.png (no such file; there is A.png, which differs" in result.stdout
    )
    assert invoke(main, "inspect", "Table", tmp_path / "t.csv", "--strict").exit_code == 2


@pytest.mark.parametrize("patients", [("012", "12"), ("P1", "p1"), ("P-12", "P012")])
def test_identifiers_that_may_be_of_one_patient_are_doubted(tmp_path, write_image, patients):
    for name in ("a.png", "b.png", "c.png"):
        write_image(tmp_path / name)
    rows = [f"a.png,0,train,{patients[0]}", f"b.png,0,val,{patients[1]}", "c.png,0,val,nan"]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,split,patient_id", *rows]))
    found = inspect_splits({name: read_split("Table", tmp_path / "t.csv", name) for name in ("train", "val")},
                           train_on="normal", num_threads=0)  # fmt: skip
    assert found.leaks == ()
    (doubt,) = found.doubts
    assert doubt.startswith("images of val whose patients may be in train, too") and doubt.endswith("b.png and a.png")


@pytest.mark.parametrize("ids", [("12", "12.0"), ("12.0", '="12"'), ("P1", " P1 ")])
def test_one_patient_in_two_forms_is_a_leak_and_unknown_ones_are_none(tmp_path, write_image, ids):
    for name in "abcd":
        write_image(tmp_path / f"{name}.png")
    rows = [f"a.png,0,{ids[0]}", "c.png,0,None"], [f"b.png,0,{ids[1]}", "d.png,0,None"]
    for split, lines in zip(("train", "val"), rows, strict=True):
        (tmp_path / f"{split}.csv").write_text("\n".join(["path,label,patient_id", *lines]))
    found = inspect_splits({name: read_split("Table", tmp_path, name) for name in ("train", "val")},
                           train_on="normal", num_threads=0)  # fmt: skip
    assert [(leak.kind, leak.num_images) for leak in found.leaks] == [("patient", 1)] and found.doubts == ()
