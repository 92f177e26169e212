"""Sub-folders that mirror each other are doubted, folders of patients are not."""

import pytest

from salad.checks.siblings import find_mirrors
from salad.datasets import read_split
from salad.images.headers import read_headers


def mirrors(data_path):
    samples = read_split("CXR_author", data_path, "train").samples
    return find_mirrors(samples, read_headers(samples, num_threads=0))


@pytest.mark.parametrize("other", ["lungs", "b"])
def test_files_of_the_same_names(write_folders, other):
    inner = [f"train/0.normal/{folder}/{i}.png" for folder in ("images", other) for i in range(4)]
    (line,) = mirrors(write_folders(*inner))
    first, second = sorted(["images", other])
    assert line.startswith(f"0.normal/: {first}/ and {second}/ hold 4 files of the same names")


def test_images_of_the_same_sizes(tmp_path, write_image):
    for i in range(4):
        write_image(tmp_path / f"train/0.normal/images/film{i}.png", size=(8 + i, 9))
        write_image(tmp_path / f"train/0.normal/lungs/lung{i}.png", size=(8 + i, 9))
    (line,) = mirrors(tmp_path)
    assert "images/ and lungs/ hold as many images of the same sizes" in line


def test_folders_of_patients_are_none(write_folders):
    few = [f"train/0.normal/patient{i}/view{j}.png" for i in range(3) for j in (1, 2)]
    many = [f"train/1.ill/patient{i}/study1/{j}.png" for i in range(12) for j in range(4)]
    assert mirrors(write_folders(*few, *many, "train/0.normal/a.png")) == []
