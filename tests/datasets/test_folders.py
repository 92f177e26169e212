import os
import sys

import pytest
from torchvision.datasets import ImageFolder

from salad.datasets import DATASETS, read_split
from salad.datasets.folders import choose_normal_class
from salad.errors import InputError
from salad.samples import Selection

AUTHOR = ["train/0.normal/a.png", "train/1.abnormal/b.png", "test/0.normal/c.png", "test/1.abnormal/d.png"]


def names_and_labels(split):
    return [(sample.name, sample.label) for sample in split.samples]


def read(data_path, split, *, normal_class=None):
    return read_split("CXR_author", data_path, split, selection=Selection(normal_class=normal_class))


def test_author_layout(write_folders):
    data_path = write_folders(*AUTHOR)
    train, test = read(data_path, "train"), read(data_path, "test")
    assert names_and_labels(train) == [("train/0.normal/a.png", 0), ("train/1.abnormal/b.png", 1)]
    assert names_and_labels(test) == [("test/0.normal/c.png", 0), ("test/1.abnormal/d.png", 1)]
    assert train.normal_class == test.normal_class == "0.normal"
    assert all(sample.path == data_path / sample.name for sample in train.samples + test.samples)
    assert read(data_path, "val") is None


@pytest.mark.parametrize("folder", ["val", "valid"])
def test_validation_folder_has_two_names(write_folders, folder):
    val = read(write_folders(*AUTHOR, f"{folder}/0.normal/e.png", f"{folder}/1.abnormal/f.png"), "val")
    assert names_and_labels(val) == [(f"{folder}/0.normal/e.png", 0), (f"{folder}/1.abnormal/f.png", 1)]


def test_order_is_that_of_torchvision(write_folders):
    files = ["b.png", "a.png", "10.png", "9.PNG", "Z.jpg", "deep/z.png", "deep/er/a.bmp", "c/1.tif", "c.d/1.png"]
    data_path = write_folders(*(f"train/{label}/{file}" for label in ("0.normal", "1.ill", "B", "a") for file in files))
    expected = [(path, int(label > 0)) for path, label in ImageFolder(data_path / "train").samples]
    assert [(str(sample.path), sample.label) for sample in read(data_path, "train").samples] == expected
    assert len(expected) == 36


def test_hidden_files_and_other_files_are_skipped(write_folders, tmp_path):
    data_path = write_folders(*AUTHOR, "train/0.normal/._a.png", "train/.hidden/x.png", "train/0.normal/.x/y.txt.png")
    (data_path / "train/0.normal/notes.txt").write_text("no image")
    (data_path / "train/0.normal/Thumbs.db").write_bytes(b"")
    (data_path / "train/0.normal/.x/y.txt.png").unlink()
    assert [sample.name for sample in read(data_path, "train").samples] == AUTHOR[:2]


def test_hidden_folders_inside_a_class_are_skipped(write_folders):
    data_path = write_folders(*AUTHOR, "train/0.normal/.thumbnails/a.png", "train/0.normal/.ipynb_checkpoints/a.png")
    assert [sample.name for sample in read(data_path, "train").samples] == AUTHOR[:2]


def test_links_are_followed_and_a_circle_of_links_does_not_multiply_images(write_folders, tmp_path):
    data_path = write_folders(*AUTHOR)
    (tmp_path / "data/elsewhere").mkdir()
    (data_path / "train/0.normal/a.png").rename(tmp_path / "data/elsewhere/a.png")
    (data_path / "train/0.normal/link").symlink_to(tmp_path / "data/elsewhere")
    assert [sample.name for sample in read(data_path, "train").samples][0] == "train/0.normal/link/a.png"
    (tmp_path / "data/elsewhere/circle").symlink_to(tmp_path / "data/elsewhere")
    assert len(read(data_path, "train").samples) == 2


def test_classes_of_several_levels_count_by_the_first(write_folders):
    data_path = write_folders("train/0.normal/patient1/study1/a.png", "train/1.abnormal/patient2/b.png")
    assert [sample.label for sample in read(data_path, "train").samples] == [0, 1]


class Looked:
    """Notes what the process opens and lists, through an audit hook that stays installed but silent."""

    paths = None

    def __call__(self, event, args):
        if self.paths is not None and event in ("open", "os.listdir", "os.scandir"):
            self.paths.append(os.fspath(args[0]) if isinstance(args[0], (str, os.PathLike)) else "")


looked = Looked()
sys.addaudithook(looked)


@pytest.mark.parametrize("split", ["train", "val"])
def test_training_never_looks_into_the_test_folder(write_folders, monkeypatch, split):
    data_path = write_folders(*AUTHOR, "val/0.normal/e.png", "test/-1.first/f.png")
    monkeypatch.setattr(looked, "paths", [])
    found = read(data_path, split)
    assert any(path.startswith(str(data_path / "train")) for path in looked.paths)
    assert not any(path.startswith(str(data_path / "test")) for path in looked.paths)
    assert found.normal_class == "0.normal"  # not the class that sorts first and is known to test/ alone
    read(data_path, "test", normal_class="0.normal")
    assert any(path.startswith(str(data_path / "test")) for path in looked.paths)  # the hook does see it


def test_train_of_normals_only(write_folders):
    data_path = write_folders("train/normal/a.png", "test/abnormal/b.png", "test/normal/c.png")
    train = read(data_path, "train")
    assert train.normal_class == "normal"
    assert train.num_normal == 1
    test = read(data_path, "test", normal_class=train.normal_class)
    assert names_and_labels(test) == [("test/abnormal/b.png", 1), ("test/normal/c.png", 0)]
    assert test.has_both_classes


@pytest.mark.parametrize("label", ["1.abnormal", "abnormal", "anomalies"])
def test_test_folder_of_abnormal_images_only(write_folders, label):
    data_path = write_folders("train/0.normal/a.png", f"test/{label}/b.png")
    assert names_and_labels(read(data_path, "test", normal_class="0.normal")) == [(f"test/{label}/b.png", 1)]


def test_test_folder_of_abnormal_images_only_and_no_train_folder(write_folders):
    data_path = write_folders("test/1.abnormal/b.png")
    assert [sample.label for sample in read(data_path, "test", normal_class="0.normal").samples] == [1]


def test_test_folder_of_normal_images_only(write_folders):
    test = read(write_folders(*AUTHOR[:3]), "test")
    assert names_and_labels(test) == [("test/0.normal/c.png", 0)]
    assert not test.has_both_classes


@pytest.mark.parametrize(
    "classes",
    [
        ["ABNORMAL", "NORMAL"],
        ["abnormal", "normal"],
        ["0.disease", "1.healthy"],
        ["Cardiomegaly", "No Finding"],
        ["effusion", "no_findings", "pneumonia"],
        ["anomaly", "other"],
        ["Non-Normal", "Normal"],
        ["No Lung Opacity Not Normal", "Normal"],
        ["COVID negative", "COVID positive"],  # it may be another disease
        ["Lung Opacity", "No Lung Opacity"],
        ["False", "True"],
        ["no", "yes"],
        ["Healthy", "Normal", "Pneumonia"],
        ["Not Normal", "other"],
        ["not_good", "unhealthy"],
        ["nok", "ok"],
        ["atypical", "typical"],
        ["a", "x_ray_normal_not"],
    ],
)
def test_names_that_contradict_the_order(tmp_path, classes):
    with pytest.raises(InputError, match="--normal_class") as caught:
        choose_normal_class(classes, None, where=tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}: ")
    assert all(f"{number} = {name}" in message for number, name in enumerate(classes))
    assert "\n" not in message


def test_error_proposes_the_class_that_is_called_normal(tmp_path):
    with pytest.raises(InputError, match="--normal_class NORMAL$"):
        choose_normal_class(["ABNORMAL", "NORMAL"], None, where=tmp_path)


@pytest.mark.parametrize(
    ("classes", "advice"),
    [
        (["Lung Opacity", "No Lung Opacity Not Normal", "Normal"], "Normal"),
        (["Mass", "No Finding"], "'No Finding'"),
        (["Non-Normal", "other"], "NAME"),
        (["abnormal", "healthy", "normal"], "NAME"),
    ],
)
def test_advice_names_a_class_that_is_surely_normal_and_quotes_it(tmp_path, classes, advice):
    with pytest.raises(InputError) as caught:
        choose_normal_class(classes, None, where=tmp_path)
    assert str(caught.value).endswith(f"--normal_class {advice}")


def test_capitals_make_no_other_class(write_folders):
    data_path = write_folders("train/Normal/a.png", "test/NORMAL/b.png", "test/normal/c.png", "test/sick/d.png")
    train = read(data_path, "train")
    test = read(data_path, "test", normal_class=train.normal_class)
    assert (train.labels, sorted(names_and_labels(test), key=lambda pair: pair[0])) == (
        [0],
        [("test/NORMAL/b.png", 0), ("test/normal/c.png", 0), ("test/sick/d.png", 1)],
    )


def test_training_on_a_lone_abnormal_class_needs_to_be_asked_for(tmp_path):
    with pytest.raises(InputError, match="--normal_class"):
        choose_normal_class(["abnormal"], None, where=tmp_path)


@pytest.mark.parametrize(
    "classes",
    [
        ["0.normal", "1.abnormal"],
        ["NORMAL", "PNEUMONIA"],
        ["negative", "positive"],
        ["a", "b"],
        ["a", "ab"],
        ["good", "hole"],
        ["benign", "malignant"],
    ],
)
def test_first_class_counts_as_normal(tmp_path, classes):
    assert choose_normal_class(classes, None, where=tmp_path) == classes[0]


@pytest.mark.parametrize(("asked", "expected"), [("b", "b"), ("0", "a"), ("2", "1"), ("1", "1"), ("B ", "b")])
def test_class_by_name_or_by_index(tmp_path, asked, expected):
    assert choose_normal_class(["a", "b", "1"], asked, where=tmp_path) == expected  # a name goes before an index


@pytest.mark.parametrize("asked", ["c", "3", "-1", ""])
def test_unknown_class(tmp_path, asked):
    with pytest.raises(InputError, match=rf"'{asked}' \(found 0 = a, 1 = b, 2 = 1\).*--normal_class"):
        choose_normal_class(["a", "b", "1"], asked, where=tmp_path)


def test_asked_class_decides_the_labels(write_folders):
    data_path = write_folders("train/ABNORMAL/a.png", "train/NORMAL/b.png", "train/NORMAL/c.png")
    with pytest.raises(InputError, match="--normal_class NORMAL"):
        read(data_path, "train")
    for asked in ("NORMAL", "1"):
        found = read(data_path, "train", normal_class=asked)
        assert (found.labels, found.normal_class, found.num_normal) == ([1, 0, 0], "NORMAL", 2)
        assert [sample.name for sample in found.only_normal().samples] == ["train/NORMAL/b.png", "train/NORMAL/c.png"]


def test_index_of_a_class_means_the_same_in_train_and_test(write_folders):
    data_path = write_folders("train/normal/a.png", "test/abnormal/b.png", "test/normal/c.png")
    found = [read(data_path, split, normal_class="0").normal_class for split in ("train", "test")]
    assert found == ["normal", "normal"]


def test_images_without_a_class_folder(write_folders):
    data_path = write_folders("train/a.png", "train/b.png")
    with pytest.raises(InputError, match=f"^{data_path / 'train'}: holds no class folder"):
        read(data_path, "train")


@pytest.mark.parametrize("split", ["train", "test"])
def test_missing_folder(write_folders, split):
    data_path = write_folders("other/0.normal/a.png")
    with pytest.raises(InputError, match=f"^{data_path / split}: no such folder"):
        read(data_path, split)


def test_missing_data_path(tmp_path):
    with pytest.raises(InputError, match=str(tmp_path / "absent")):
        read(tmp_path / "absent", "train")


def test_class_folders_without_images(tmp_path):
    (tmp_path / "train/0.normal").mkdir(parents=True)
    with pytest.raises(InputError, match=rf"{tmp_path / 'train'}: holds no image \(.*\.png"):
        read(tmp_path, "train")


def test_unknown_data_set(tmp_path):
    with pytest.raises(InputError, match=f"'CXR'.*{', '.join(DATASETS)}"):
        read_split("CXR", tmp_path, "train")


def test_masks_are_found_by_stem_in_any_format(write_folders, caplog):
    images = ["1.ill/a.png", "1.ill/1.2.3.dcm", "1.ill/1.2.4", "1.ill/u\u0308.png", "1.ill/b.png", "1.ill/C.png"]
    masks = ["1.ill/a.png", "1.ill/a.bmp", "1.ill/1.2.3.png", "1.ill/1.2.4.PNG", "1.ill/\u00fc.tif", "1.ill/c.png"]
    data_path = write_folders("train/0.normal/a.png", *(f"masks/test/{name}" for name in masks))
    for name in images:
        (data_path / "test" / name).parent.mkdir(parents=True, exist_ok=True)
        (data_path / "test" / name).write_bytes((data_path / "masks/test/1.ill/a.png").read_bytes())
    found = {sample.name: sample.mask for sample in read(data_path, "test").samples}
    expected = [masks[0], masks[2], masks[3], masks[4], None, None]
    assert found == {
        f"test/{name}": mask and data_path / "masks/test" / mask for name, mask in zip(images, expected, strict=True)
    }
    assert "1 masks differ from images in capitals, the first: 1.ill/c" in caplog.text
