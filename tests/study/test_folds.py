from collections import Counter

import pytest

from salad.datasets import read_split
from salad.datasets.hold_out import patient_of
from salad.errors import InputError
from salad.samples import Sample, Selection
from salad.study.folds import deal, divide, write_folds
from salad.study.plan import Data

TRAIN = [f"train/0.normal/t{i}.png" for i in range(8)] + ["train/1.abnormal/ta.png", "train/1.abnormal/tb.png"]
VAL = ["val/0.normal/v0.png", "val/0.normal/v1.png", "val/1.abnormal/va.png"]
TEST = [f"test/0.normal/n{i}.png" for i in range(3)] + [f"test/1.abnormal/a{i}.png" for i in range(6)]
# t0, v0 and a0 are of one patient, t1 and t2 of another, ta and a1 of a third; the others are unknown
PATIENTS = {
    **dict.fromkeys(["train/0.normal/t0.png", "val/0.normal/v0.png", "test/1.abnormal/a0.png"], "P1"),
    **dict.fromkeys(["train/0.normal/t1.png", "train/0.normal/t2.png"], "P2"),
    **dict.fromkeys(["train/1.abnormal/ta.png", "test/1.abnormal/a1.png"], "P3"),
}


@pytest.fixture
def data(write_folders):
    path = write_folders(*TRAIN, *VAL, *TEST)
    lines = [f"{name},{patient},PA" for name, patient in PATIENTS.items()]
    (path / "facts.csv").write_text("\n".join(["path,patient_id,view", *lines]), encoding="utf-8")
    return Data(dataset_name="CXR_author", path=path)


def samples(fold, split):
    return read_split(fold.dataset_name, fold.path, split).samples


@pytest.mark.parametrize("count", [2, 3])
def test_every_film_is_tested_once_and_by_no_model_that_has_seen_its_patient(data, tmp_path, count):
    folds = write_folds(divide(data, Selection(), count), tmp_path)
    assert [fold.fold for fold in folds] == [*range(1, count + 1)]
    tested = [sample.path.name for fold in folds for sample in samples(fold, "test")]
    expected = [name for name in [*TRAIN, *VAL, *TEST] if "normal/" in name and "abnormal" not in name]
    expected += [name for name in TEST if "abnormal" in name]
    assert Counter(tested) == Counter(name.rpartition("/")[2] for name in expected)
    for fold in folds:
        test, train = samples(fold, "test"), samples(fold, "train")
        assert {sample.label for sample in test} == {0, 1}
        assert not {map_patient(sample) for sample in test} & {map_patient(sample) for sample in train}
        assert "va.png" not in {sample.path.name for sample in train}
        held = {patient for sample in test if (patient := map_patient(sample))}
        left = [name for name in [*TRAIN, *VAL, *TEST] if "normal/" in name and PATIENTS.get(name, name) not in held]
        assert {sample.path.name for sample in train} == {
            name.rpartition("/")[2]
            for name in left
            if name not in ("val/1.abnormal/va.png", *(test for test in TEST if "abnormal" in test))
        }
        assert {sample.view for sample in test if sample.patient} <= {"PA"}


def map_patient(sample):
    """Patient of a sample of a table, whose own names are paths."""
    name = "/".join(sample.path.parts[-3:])
    return PATIENTS.get(name, name)


def test_folds_stay_the_same_and_those_of_other_images_are_kept(data, tmp_path):
    first = write_folds(divide(data, Selection(), 2), tmp_path)
    before = [fold.path.read_bytes() for fold in first]
    assert write_folds(divide(data, Selection(), 2), tmp_path) == first
    (data.path / TRAIN[0]).unlink()
    with pytest.raises(InputError, match="is a table of other images"):
        write_folds(divide(data, Selection(), 2), tmp_path)
    assert [fold.path.read_bytes() for fold in first] == before


def film(number, patient=None):
    return Sample(path=f"{number}", name=f"{number}.png", label=0, patient=patient)


def test_patients_are_dealt_out_evenly_whatever_the_order_of_the_films():
    normal = [film(i, patient=f"P{i // 3}") for i in range(60)]
    abnormal = [film(i, patient=f"P{i}") for i in range(15, 35)]  # P15 to P19 have normal films, too
    fold_of = deal([normal, abnormal], 5)
    assert Counter(fold_of[f"P{i}"] for i in range(20)) == dict.fromkeys(range(1, 6), 4)
    assert max(Counter(fold_of[patient_of(sample)] for sample in abnormal).values()) <= 5
    assert deal([normal[::-1], abnormal[::-1]], 5) == fold_of


def test_too_many_folds_are_refused(data):
    with pytest.raises(InputError, match=r"--folds is 7, but 6 patients have abnormal test images.*choose fewer"):
        divide(data, Selection(), 7)
    with pytest.raises(InputError, match=r"--folds is 3, but 2 patients have normal images"):
        deal([[film(0, "a"), film(1, "a"), film(2, "b")], [film(3)]], 3)
