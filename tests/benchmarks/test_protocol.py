import json

import click
import pytest

from benchmarks.protocol import Data, Group, across_scorings, enrol_scorings
from benchmarks.quality_table import measure, table
from salad.errors import InputError
from salad.evaluation.metrics import BASELINES
from salad.runs.csv_file import read_csv
from salad.study.folds import COLUMNS

NAMES = [
    *(f"train/0.normal/t{i}.png" for i in range(5)),
    *(f"val/0.normal/v{i}.png" for i in range(3)),
    "val/1.abnormal/va.png",
    *(f"test/0.normal/n{i}.png" for i in range(3)),
    *(f"test/1.abnormal/a{i}.png" for i in range(2)),
]
TALL = ["train/0.normal/t0.png", "val/0.normal/v1.png", "test/0.normal/n2.png"]


@pytest.fixture
def source(write_folders):
    """A data set of 8 patients: t0 and t1 are of one, and so are t2 and v1."""
    path = write_folders(*NAMES)
    patient = {"train/0.normal/t1.png": TALL[0], "train/0.normal/t2.png": TALL[1]}
    lines = [f"{name},{patient.get(name, name)},{'PA' if '0.png' in name else 'AP'},7" for name in NAMES]
    (path / "facts.csv").write_text("\n".join(["path,patient_id,view,age", *lines]), encoding="utf-8")
    rows = [f"{name},{int(name in TALL)}" for name in NAMES if "normal/" in name and "abnormal" not in name]
    (path / "groups.csv").write_text("\n".join(["path,tall", *rows]), encoding="utf-8")
    return Data(name="small", dataset_name="CXR_author", path=path)


def stems(data, split):
    return [sample.path.stem for sample in data.read(split)]


def test_a_group_is_left_out_with_its_patients_and_is_tested(source, tmp_path):
    group = Group.parse("tall=small:groups.csv:tall", [source])
    data = group.write(tmp_path / "out/tall")
    assert (data.name, data.dataset_name) == ("tall", "Table")
    assert stems(data, "train") == ["t3", "t4"]  # not t1 and t2, whose patients are tested
    assert stems(data, "val") == ["v0", "v2", "va"]
    assert stems(data, "test") == ["n2", "t0", "v1", "a0", "a1"]
    assert [sample.label for sample in data.test.samples] == [0, 0, 0, 1, 1]
    assert data.test.normal_class == "0"
    first = data.test.samples[1]
    assert (first.path.resolve(), first.view, first.age) == ((source.path / TALL[0]).resolve(), "PA", 7)
    assert [*read_csv(data.path)[0]] == [*COLUMNS]
    assert group.write(tmp_path / "out/tall") == data  # once more


def test_a_table_of_other_images_is_kept(source, tmp_path):
    Group.parse("tall=small:groups.csv:tall", [source]).write(tmp_path)
    before = (tmp_path / "table.csv").read_bytes()
    (source.path / "groups.csv").write_text(f"path,tall\n{TALL[0]},1\n", encoding="utf-8")
    with pytest.raises(InputError, match="other images.*choose another --out"):
        Group.parse("tall=small:groups.csv:tall", [source]).write(tmp_path)
    assert (tmp_path / "table.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("path,tall\ntrain/0.normal/x.png,1", "x.png is no normal image"),
        ("path,tall\ntest/1.abnormal/a0.png,1", "a0.png is no normal image"),
        (f"path,tall\n{TALL[0]},0", "no image has 1 in tall"),
        (f"path,small\n{TALL[0]},1", "no column 'tall'"),
    ],
)
def test_a_file_that_names_no_group_is_refused(source, tmp_path, rows, said):
    (source.path / "groups.csv").write_text(rows, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        Group.parse("tall=small:groups.csv:tall", [source]).write(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["tall", "tall=small", "tall=small:groups.csv", "=small:g:c", "tall=other:g:c"])
def test_other_words_for_a_group_are_refused(source, text):
    with pytest.raises(click.BadParameter, match="--leave_out"):
        Group.parse(text, [source])


def test_a_set_of_abnormal_images_alone_is_scored_and_none_with_itself(source, write_folders):
    boxes = Data(name="boxes", dataset_name="CXR_author", path=source.path / "boxes")
    write_folders("boxes/test/1.abnormal/b.png")
    assert (boxes.test.normal_class, boxes.test.labels) == ("0.normal", [1])
    [scoring] = across_scorings(source, [source, boxes])
    assert (scoring.data, scoring.title) == (boxes, "small, scored on boxes")


def test_images_to_enrol_are_nested_and_the_same_others_are_tested(write_folders, tmp_path):
    path = write_folders(*NAMES, *(f"test/0.normal/m{i:02}.png" for i in range(9)))
    lines = [f"test/0.normal/{name}.png,same" for name in ("m00", "m01", "m02", "m03", "m04", "m05")]
    (path / "facts.csv").write_text("\n".join(["path,patient_id", *lines]), encoding="utf-8")
    data = Data(name="tall", dataset_name="CXR_author", path=path)
    none, two, five = enrol_scorings(data, (5, 2), tmp_path)
    assert [one.title for one in (none, two, five)] == [f"tall, {count} enrolled" for count in (0, 2, 5)]
    assert none.enrolled == [] and two.enrolled == five.enrolled[:2] and len({*five.enrolled}) == 5
    assert none.data == two.data == five.data
    tested = none.data.test
    enrolled = {sample.path for sample in data.test.samples if sample.path in five.enrolled}
    patients = {sample.patient for sample in data.test.samples if sample.path in enrolled} - {None}
    assert patients == {"same"}  # else the next line shows nothing
    assert not any(sample.path in enrolled or sample.patient in patients for sample in tested.samples)
    assert 0 < tested.num_normal < 7 and tested.labels.count(1) == 2
    with pytest.raises(InputError, match="--enrol is 12, but tall has 12 test normals"):
        enrol_scorings(data, (12,), tmp_path)


def write_results(folder, **more):
    folder.mkdir(parents=True)
    facts = {"auc": None, "auc_within_sharpness": None, "baseline_auc": dict.fromkeys(BASELINES)}
    (folder / "metrics.json").write_text(json.dumps(facts | more), encoding="utf-8")


def test_what_a_set_of_one_class_tells_is_in_the_table(tmp_path):
    place = {"pixel_auc": {"value": 0.7}, "pointing_game": {"value": 0.5}}
    for seed, sensitivity in ((1, 0.4), (2, 0.6)):
        write_results(
            tmp_path / f"{seed}/on_boxes",
            at_threshold={"sensitivity": {"value": sensitivity}, "specificity": None},
            auc_by_view={"PA": {"value": 0.8}, "AP": {"value": None}},
            localisation={"num_marked": 3, "pointing_game_by_chance": 0.1, "score_map": place, "error_map": {}},
        )
    facts = {"data": "small, scored on boxes", "method": "knn", "words": "unet", "seeds": [1, 2]}
    row = facts | measure([tmp_path / "1", tmp_path / "2"], "on_boxes")
    assert table([row]).splitlines() == [
        "| data | method | seeds | sensitivity | by view | pointing (by chance) | pixel AUC |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| small, scored on boxes | knn | 2 | 50% | PA 0.800 | 0.500 (0.100) | 0.700 |",
    ]


def test_results_without_a_threshold_and_marks_have_no_such_columns(tmp_path):
    write_results(tmp_path / "1/on_boxes", at_threshold=None)
    row = {"data": "a", "method": "b", "seeds": [1]} | measure([tmp_path / "1"], "on_boxes")
    assert table([row]).splitlines()[0] == "| data | method | seeds |"
