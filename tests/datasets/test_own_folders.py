"""Folders of films without a split of their own: what is normal, what is abnormal, and who is in which split."""

import shutil
from collections import Counter, defaultdict

import pytest

from salad.checks.leaks import compare_splits
from salad.datasets import read_split
from salad.datasets.lists import drawn_split
from salad.errors import InputError
from salad.samples import Selection

SPLITS = ("train", "val", "test")
FILMS = [f"films/normal/{'old/2019/' if i % 3 else ''}film{i:02d}.png" for i in range(40)]
NOT_OF_VAL = [i for i in range(40) if drawn_split(f"a{i}.png") != "val"][:14]
SICK = [f"films/sick/{'a/b/' if i % 2 else ''}sick{i}.png" for i in range(5)]


def read(normal, abnormal=None):
    """The samples of each split."""
    splits = {split: read_split("Folders", normal, split, selection=Selection(abnormal=abnormal)) for split in SPLITS}
    return {name: split.samples if split else [] for name, split in splits.items()}


def places(splits):
    """Split and label by the name of a film."""
    found = {sample.name: (name, sample.label) for name, samples in splits.items() for sample in samples}
    assert len(found) == sum(map(len, splits.values()))
    return found


def refused(normal, abnormal=None) -> str:
    with pytest.raises(InputError) as caught:
        read(normal, abnormal)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def films(write_folders):
    """Forty normal films and five abnormal ones, in nested folders."""
    return write_folders(*FILMS, *SICK) / "films"


def test_normal_films_are_shared_out_and_abnormal_ones_are_in_test(films, caplog):
    found = places(read(films / "normal", films / "sick"))

    assert Counter(found.values()) == {("train", 0): 27, ("val", 0): 7, ("test", 0): 6, ("test", 1): 5}
    assert all(split == drawn_split(name) for name, (split, label) in found.items() if label == 0)
    assert {name for name, (_, label) in found.items() if label == 1} == {
        f"abnormal/{name.removeprefix('films/sick/')}" for name in SICK
    }
    said = [line for line in caplog.text.splitlines() if "split by a digest" in line]
    assert len(said) == 1
    assert "as no patient is known: train 27, val 7, test 6; all 5 abnormal ones are in test" in said[0]


def test_without_abnormal_films_all_splits_are_normal(films, caplog):
    found = places(read(films / "normal"))

    assert {label for _, label in found.values()} == {0} and len(found) == 40
    assert "there are no abnormal ones" in caplog.text


def test_a_new_film_moves_no_other(films, write_image):
    before = places(read(films / "normal", films / "sick"))
    for number in range(20):
        write_image(films / f"normal/new/film{number}.png")
    write_image(films / "sick/new.png")

    after = places(read(films / "normal", films / "sick"))

    assert len(after) == len(before) + 21
    assert {name: after[name] for name in before} == before


def test_the_split_is_the_same_at_another_place(films, tmp_path):
    before = places(read(films / "normal", films / "sick"))
    shutil.move(films / "normal", tmp_path / "elsewhere")

    assert places(read(tmp_path / "elsewhere", films / "sick")) == before


@pytest.mark.parametrize("table", ["films/normal/facts.csv", "films/facts.csv"])
def test_a_patient_is_never_in_two_splits(films, table, caplog):
    """Films of twelve patients, of whom the last one has an abnormal film, too."""
    folder = "" if table.startswith("films/normal") else "normal/"
    rows = [f"{folder}{name.removeprefix('films/normal/')},p{i % 12}" for i, name in enumerate(FILMS)]
    (films.parent / table).write_text("\n".join(["path,patient_id", *rows, ""]))
    (films / "sick/facts.csv").write_text("path,patient_id\nsick0.png,p11\na/b/sick1.png,q1\n")

    splits = read(films / "normal", films / "sick")

    of_patient = defaultdict(set)
    for name, samples in splits.items():
        for sample in samples:
            of_patient[sample.patient].add(name)
    of_patient.pop(None)  # three abnormal films
    assert len(of_patient) == 13 and all(len(of_one) == 1 for of_one in of_patient.values())
    assert drawn_split("p11") != "test" and of_patient["p11"] == {"test"}
    assert "all 5 abnormal ones are in test; so are 3 normal ones of the same patients" in caplog.text
    assert "3 images of unknown patients count as a patient each" in caplog.text
    num_patients = sum(split == {"train"} for split in of_patient.values())
    assert f"train {len(splits['train'])} of {num_patients} patients" in caplog.text


@pytest.mark.parametrize("rows", [["normal/film00.png,p1"], ["film00.png,p1"]])
def test_what_is_known_of_normal_films_does_not_depend_on_the_abnormal_ones(write_folders, rows):
    films = write_folders(*FILMS, "films/sick/film00.png", "films/sick/NORMAL2-IM-0115-0001.png") / "films"
    write_folders("films/normal/IM-0001-0001.png")
    (films / "facts.csv").write_text("\n".join(["path,patient_id", *rows]))

    alone, both = read(films / "normal"), read(films / "normal", films / "sick")

    patients = {sample.name: sample.patient for samples in alone.values() for sample in samples}
    assert patients["film00.png"] == "p1" and patients["IM-0001-0001.png"] is None
    assert patients.items() <= {s.name: s.patient for samples in both.values() for s in samples}.items()
    assert {s.name: s.patient for s in both["test"]}["abnormal/film00.png"] is None


def test_a_table_above_both_folders_tells_which_of_two_files_of_one_name(write_folders):
    films = write_folders(*FILMS, "films/sick/film00.png") / "films"
    (films / "facts.csv").write_text("path,patient_id\nnormal/film00.png,p1\nsick/film00.png,p2\n")

    patients = {s.name: s.patient for of_split in read(films / "normal", films / "sick").values() for s in of_split}

    assert patients["film00.png"] == "p1" and patients["abnormal/film00.png"] == "p2"


def test_one_folder_within_the_other(films, write_image):
    expected = places(read(films / "normal", films / "sick"))
    shutil.move(films / "normal", films / "sick/films")
    assert places(read(films / "sick/films", films / "sick")) == expected, "the normal folder in the abnormal one"

    shutil.move(films / "sick/films", films / "normal")
    shutil.move(films / "sick", films / "normal/sick")
    found = places(read(films / "normal", films / "normal/sick"))
    assert found == expected, "the abnormal folder in the normal one"


def test_a_film_and_a_link_to_it_are_one(films):
    before = places(read(films / "normal", films / "sick"))
    for number in range(9):
        (films / f"normal/z{number}.png").symlink_to(films / "normal/film00.png")
    (films / "normal/link.png").symlink_to(films / "sick/sick0.png")

    assert places(read(films / "normal", films / "sick")) == before


@pytest.mark.parametrize("folder", ["1.abnormal", "old/pneumonia", "x/not normal"])
def test_a_folder_of_abnormal_films_below_data_path_is_refused_unless_it_is_named(films, write_image, folder):
    write_image(films / "normal" / folder / "a.png")

    said = refused(films / "normal", films / "sick")
    assert folder.rpartition("/")[2] in said and "--abnormal" in said and "CXR_author" in said
    assert places(read(films / "normal", films / "normal" / folder))["abnormal/a.png"] == ("test", 1)


def test_the_folder_above_both_is_refused(films):
    assert "it holds a folder called sick" in refused(films)
    shutil.move(films / "sick", films / "other")
    train = read_split("Folders", films, "train")
    assert "images of other beside normal count as normal, too" in train.doubts


def test_folders_whose_names_leave_a_doubt_are_said(write_folders):
    root = write_folders(*FILMS, "films/COVID negative/a.png", "films/train/b.png", "films/test/c.png") / "films"

    splits = {name: read_split("Folders", root, name) for name in SPLITS}

    assert splits["train"].doubts == (
        "images of COVID negative may not be normal, but count as normal",
        "images of test, train beside normal count as normal, too",
        "train/ and test/ are not read as splits; the data set CXR_author does that",
    )
    assert splits["val"].doubts == splits["test"].doubts == ()


def test_findings_that_are_abnormal_are_refused(films):
    (films / "normal/facts.csv").write_text("path,label\nfilm00.png,1\n")
    assert "its tables say otherwise of 1 images, the first is film00.png" in refused(films / "normal")


def test_folders_that_cannot_be_used(films, tmp_path, write_image):
    normal, sick = films / "normal", films / "sick"
    (tmp_path / "empty").mkdir()
    write_image(tmp_path / "film.png")
    write_image(films / "x/film.png")
    assert "holds no image (" in refused(tmp_path / "empty")
    assert f"--abnormal {tmp_path / 'empty'}: holds no image" in refused(normal, tmp_path / "empty")
    assert "is DATA_PATH" in refused(normal, sick.parent / "normal")
    assert "did you mean" in refused(normal, films / "sik")
    assert "is a file" in refused(normal, tmp_path / "film.png")
    assert "is a file" in refused(tmp_path / "film.png")
    assert "would count as normal, but it is called sick" in refused(sick)
    assert "would count as abnormal, but it is called normal" in refused(films / "x", normal)
    with pytest.raises(InputError, match="--abnormal selects from Folders, not from CXR_author"):
        read_split("CXR_author", films, "train", selection=Selection(abnormal=sick))


@pytest.mark.parametrize("number", [1, 3, 9])
def test_too_few_films_are_refused(write_folders, number):
    said = refused(write_folders(*FILMS[:number]) / "films/normal")
    assert f"the normal images, {number} of {number} patients, are too few" in said


def test_an_empty_val_has_a_way_out(write_folders, caplog):
    films = write_folders(*(f"films/a{i}.png" for i in NOT_OF_VAL)) / "films"
    splits = read(films)
    assert not splits["val"] and "--val_share 0.1 holds images of train out, since val is empty" in caplog.text
    held = read_split("Folders", films, "val", selection=Selection(val_share=0.1))
    assert held and {sample.name for sample in held.samples} < {sample.name for sample in splits["train"]}


def test_copies_in_two_splits_are_a_leak(films):
    name = next(s.name for s in read(films / "normal")["train"])
    copy = next(f"copy{i}.png" for i in range(99) if drawn_split(f"copy{i}.png") == "test")
    shutil.copy(films / "normal" / name, films / "normal" / copy)
    splits = {split: read_split("Folders", films / "normal", split) for split in SPLITS}

    (leak,) = compare_splits(splits, train_on="normal", num_threads=1).leaks

    assert (leak.kind, leak.second, leak.pairs) == ("content", "test", ((copy, name),))
