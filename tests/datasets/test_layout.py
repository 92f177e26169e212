"""What is said where DATA_PATH does not hold what it should."""

import shutil

import pytest

from salad.datasets import DATASETS, read_split
from salad.errors import InputError


def refused(data_path, split="train", name="CXR_author") -> str:
    with pytest.raises(InputError) as caught:
        read_split(name, data_path, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def labels(data_path, split="train"):
    return [(sample.name, sample.label) for sample in read_split("CXR_author", data_path, split).samples]


def test_each_situation_is_said_with_its_way_out(write_folders, tmp_path):
    classes = write_folders("NORMAL/a.png", "PNEUMONIA/b.png", "@eaDir/c.png")
    said = refused(classes)
    own = f"--normal {classes / 'NORMAL'} --abnormal {classes / 'PNEUMONIA'} lets a digest split them"
    assert f"holds the classes NORMAL, PNEUMONIA without train/ and test/: {own}; or move them into train/" in said
    assert "--val_share 0.1" in said and "test/NORMAL/" in said
    images = tmp_path / "images"
    (classes / "NORMAL").rename(images)
    assert f"holds 1 images directly: if all are normal, --normal {images} trains on them; else put" in refused(images)
    assert "python -m salad predict" in refused(images)
    classes = write_folders("a/x.png", "b/y.png")
    shutil.rmtree(classes / "PNEUMONIA")
    assert "holds the classes a, b without train/ and test/: --normal DIR --abnormal DIR lets" in refused(classes)
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path / 'empty'} is empty" in refused(tmp_path / "empty")
    (tmp_path / "other/notes").mkdir(parents=True)
    assert "holds notes, but must hold train/ and test/" in refused(tmp_path / "other")
    write_folders("only/train/0.normal/a.png")
    assert "holds train: add test/ with one sub-folder per class" in refused(tmp_path / "data/only", "test")
    assert "is itself the folder of a split: give the folder above" in refused(tmp_path / "data/only/train")
    (tmp_path / "file.txt").touch()
    assert "file.txt is a file" in refused(tmp_path / "file.txt")


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"CXR_phantom"}))
def test_a_mistyped_path_is_met_with_one_that_is_like_it(tmp_path, name):
    (tmp_path / "my data/chest_xray").mkdir(parents=True)
    meant = f"no such folder or file: did you mean '{tmp_path / 'my data/chest_xray'}'?"
    assert refused(tmp_path / "my data/chest-xray/in", name=name).endswith(meant)
    assert refused(tmp_path / "my data/CHEST_XRAY", name=name).endswith(meant)
    assert refused(tmp_path / "zzz/y", name=name).endswith(f"no such folder or file, but {tmp_path} is there")
    (tmp_path / "link").symlink_to(tmp_path / "absent")
    assert "a link to a folder or file that is not there" in refused(tmp_path / "link", name=name)


@pytest.mark.parametrize(
    "names", [("TRAIN", "Test"), ("Train", "TEST"), ("training", "testing"), ("Training ", "test")]
)
def test_splits_in_other_capitals(write_folders, caplog, names):
    data_path = write_folders(f"{names[0]}/0.normal/a.png", f"{names[1]}/1.abnormal/b.png", "Validation/0.normal/c.png")
    for _ in range(2):
        assert labels(data_path) == [(f"{names[0]}/0.normal/a.png", 0)]
    if names[0] != "training":
        assert caplog.text.count(f"{names[0]}/ is read as train") == 1
    assert labels(data_path, "val") == [("Validation/0.normal/c.png", 0)]
    test = read_split("CXR_author", data_path, "test")
    assert test.labels == [1]


def test_a_split_that_two_folders_may_be_is_not_chosen(write_folders):
    data_path = write_folders("TRAIN/0.normal/a.png", "Train/0.normal/b.png")
    assert "which of TRAIN, Train is train? Call it train" in refused(data_path)
    write_folders("train/0.normal/c.png")
    assert labels(data_path) == [("train/0.normal/c.png", 0)]


def test_the_folder_in_a_folder_of_an_archive(write_folders, caplog):
    data_path = write_folders("x/chest_xray/train/NORMAL/a.png", "x/chest_xray/test/NORMAL/b.png", "x/notes/c.png",
                              "x/__MACOSX/train/NORMAL/d.png")  # fmt: skip
    for _ in range(2):
        assert labels(data_path) == [("train/NORMAL/a.png", 0)]
    assert caplog.text.count(f"the data set is in {data_path / 'x/chest_xray'}") == 1
    write_folders("x/copy/train/NORMAL/a.png")
    assert "holds the data set several times (x/chest_xray, x/copy): name one of these" in refused(data_path)
