import json

import pytest

from salad.errors import InputError
from salad.samples import Selection
from salad.study.plan import Data, Method, describe, keep, plan

STRONG = Method(name="strong", words="unet --recipe strong", net_name="unet", train=("--recipe", "strong"))
QUICK = Method(name="quick", words="unet --recipe quick", net_name="unet", train=("--recipe", "quick"))


@pytest.fixture
def data(write_folders):
    return Data(dataset_name="CXR_author", path=write_folders("train/0/a.png", "test/0/b.png", "test/1/c.png"))


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def facts_of(data, *methods, folds=None):
    return describe(data, Selection(), folds=folds, methods=methods)


def test_runs_come_seed_by_seed_and_call_train_and_test(data, tmp_path):
    folds = [Data(dataset_name="Table", path=data.path, fold=fold) for fold in (1, 2)]
    runs = plan(folds, [STRONG, QUICK], [1, 2], tmp_path)
    assert [run.name for run in runs[:5]] == [
        "strong/seed1_fold1",
        "quick/seed1_fold1",
        "strong/seed1_fold2",
        "quick/seed1_fold2",
        "strong/seed2_fold1",
    ]
    called = []
    assert runs[0].do(lambda words, log: called.append((words, log)) is None)
    (train, log), (test, _) = called
    place = ["Table", "unet", str(tmp_path / "strong/seed1_fold1"), str(data.path)]
    assert train == ["train", *place, "--keep", "1", "--recipe", "strong", "--seed", "1", "--resume", "auto"]
    assert test == ["test", *place, "--no_report", "--overwrite", "--seed", "1"]
    assert log == tmp_path / "strong/seed1_fold1/output.txt" and runs[0].seconds >= 0


def test_a_run_whose_training_fails_is_not_scored_and_an_interrupted_one_has_no_time(data, tmp_path):
    [run] = plan([data], [STRONG], [1], tmp_path)
    called = []
    assert not run.do(lambda words, log: called.append(words[0]))
    assert called == ["train"] and run.seconds is None
    (run.folder / "last.tar").touch()
    assert run.do(lambda words, log: True) and run.seconds is None


def test_a_study_may_grow_and_goes_on_as_it_was(data, out):
    keep(facts_of(data, STRONG), out)
    keep(facts_of(data, QUICK), out)
    kept = json.loads((out / "study.json").read_text())
    assert kept["methods"] == {"strong": STRONG.words, "quick": QUICK.words}
    assert kept["images"]["train"].startswith("1 images") and kept["images"]["val"] == "none"


def test_another_study_is_refused_with_what_differs(data, out, write_folders):
    keep(facts_of(data, STRONG), out)
    before = (out / "study.json").read_bytes()
    with pytest.raises(InputError, match=r"--folds was none, not 3.*choose another --out"):
        keep(facts_of(data, STRONG, folds=3), out)
    other = Method(name="strong", words="unet --recipe strong --lr 1.0", net_name="unet")
    with pytest.raises(InputError, match=r"method strong was 'unet --recipe strong', not 'unet --recipe strong --lr"):
        keep(facts_of(data, other), out)
    write_folders("train/0/new.png")
    with pytest.raises(InputError, match=r"images was train 1 images .*, not train 2 images"):
        keep(facts_of(data, STRONG), out)
    assert (out / "study.json").read_bytes() == before


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"methods": 3}', '{"methods": {}}'])
def test_a_folder_of_other_files_is_refused(data, out, text):
    (out / "study.json").write_text(text)
    with pytest.raises(InputError, match="was not written by salad study"):
        keep(facts_of(data, STRONG), out)
    (out / "study.json").rename(out / "thesis.pdf")
    with pytest.raises(InputError, match="holds thesis.pdf, but no study"):
        keep(facts_of(data, STRONG), out)
    assert (out / "thesis.pdf").read_text() == text
