"""Further normal images: how they are listed, joined to the training images, and found again."""

import shutil

import numpy as np
import pytest
from running import invoke, read_csv, read_json, read_tar, score, stopped, train

from salad import cli
from salad.build import RunContext
from salad.checkpoint import load_checkpoint
from salad.checks.more_normals import find_more_normals
from salad.config import Config
from salad.datasets import phantom
from salad.datasets.more_normals import describe_kinds, kinds_of, read_more_normals
from salad.device import choose_device
from salad.errors import InputError
from salad.samples import NORMAL, JoinedImages, Sample, Split
from salad.scoring.training_images import find_training_images

LOCAL = ["--score", "local", "--w_syn", 1, "--local_grid", 2]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six normal films to train on, three of each class to validate and to score."""
    root = tmp_path_factory.mktemp("phantom") / "data"
    phantom.write_phantom(root, size=32, num_train=6, num_val=3, num_test=3)
    return root


@pytest.fixture(scope="module")
def adults(tmp_path_factory, data):
    """Four other normal films, in two folders."""
    root = tmp_path_factory.mktemp("other")
    phantom.write_phantom(root / "drawn", size=40, num_train=4, num_val=0, num_test=0, seed=7)
    films = sorted((root / "drawn/train/0.normal").iterdir())
    for number, film in enumerate(films):
        folder = root / "adults" / ("PA" if number % 2 else "AP")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(film, folder / f"film{number}.png")
    return root / "adults"


@pytest.fixture(scope="module")
def run(data, adults, tmp_path_factory):
    xp = tmp_path_factory.mktemp("run") / "xp"
    train(xp, data, *LOCAL, "--more_normals", adults)
    return xp


def names(samples):
    return [sample.name for sample in samples]


def test_every_image_below_a_folder_counts_as_normal(adults):
    samples = read_more_normals([adults])

    kind = f"{adults.parent.name}/adults"
    assert names(samples) == [
        f"{kind}/{film}" for film in ("AP/film0.png", "AP/film2.png", "PA/film1.png", "PA/film3.png")
    ]
    assert {(sample.label, sample.kind) for sample in samples} == {(NORMAL, kind)}


def test_a_file_counts_once_however_often_it_is_named(adults):
    samples = read_more_normals([adults / "PA", adults, adults / "PA"])

    assert [sample.kind for sample in samples] == ["adults/PA"] * 2 + [f"{adults.parent.name}/adults"] * 2
    assert len({sample.path for sample in samples}) == 4


def test_kinds_of_the_same_last_parts_have_their_whole_path(tmp_path):
    first, second, other = tmp_path / "a/x/train", tmp_path / "b/x/train", tmp_path / "b/x/more"

    assert kinds_of([first, second, other, first]) == {str(first): first, str(second): second, "x/more": other}


@pytest.mark.parametrize("folder", ["1.abnormal", "sick/old", "normal/pneumonia"])
def test_a_folder_called_abnormal_is_refused(write_folders, folder):
    root = write_folders("0.normal/a.png", f"{folder}/b.png")

    with pytest.raises(InputError, match="holds a folder called .*: give the folder of its normal images"):
        read_more_normals([root])


def test_the_name_of_the_folder_itself_counts_unless_an_inner_one_says_normal(write_folders):
    root = write_folders("pneumonia/normal/a.png", "1.abnormal/b.png")

    assert len(read_more_normals([root / "pneumonia"])) == 1
    with pytest.raises(InputError, match=r"called 1\.abnormal"):
        read_more_normals([root / "1.abnormal"])


def test_a_folder_whose_table_names_an_abnormal_finding_is_refused(write_folders):
    root = write_folders("a.png", "b.png", "c.png")
    (root / "films.csv").write_text("path,finding\na.png,normal\nb.png,\nc.png,No Finding\n", encoding="utf-8")
    assert len(read_more_normals([root])) == 3

    (root / "films.csv").write_text("path,finding\na.png,normal\nb.png,lung opacity\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"say otherwise of 1 images, the first is b\.png \(lung opacity\)"):
        read_more_normals([root])


TABLES = {
    "path\na.png\nb.png\n": ["a.png", "b.png"],
    "path,label\na.png,0\nb.png,1\n": ["a.png"],
    "path;label\na.png;No Finding\nb.png;Effusion\nc.png;normal\n": ["a.png", "c.png"],
    "path,split,label\na.png,test,0\nb.png,train,0\nc.png,training,1\n": ["b.png"],
    "path,finding\na.png,\nb.png,normal\n": ["a.png", "b.png"],
}


@pytest.mark.parametrize("text", TABLES)
def test_a_table_gives_its_normal_rows_of_train(tmp_path, text):
    table = tmp_path / "films.csv"
    table.write_text(text, encoding="utf-8")

    kind = f"{tmp_path.name}/films.csv"
    assert names(read_more_normals([table])) == [f"{kind}/{name}" for name in TABLES[text]]


def test_lines_of_json_need_no_label(tmp_path):
    table = tmp_path / "films.jsonl"
    table.write_text('{"path": "a.png", "patient_id": 7}\n', encoding="utf-8")

    (sample,) = read_more_normals([table])
    assert (sample.path, sample.patient) == (tmp_path / "a.png", "7")


REFUSED = {
    "path,label\na.png,Effusion\n": "none of its labels means normal",
    "path,label\na.png,1\n": "holds no normal image",
    "path,finding\na.png,lung_opacity\n": "line 2 has the finding lung_opacity",
    "path,split\na.png,test\n": "holds no normal image",
    "file\na.png\n": "no column 'path'",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_table_without_normal_images_is_refused(tmp_path, text):
    table = tmp_path / "films.csv"
    table.write_text(text, encoding="utf-8")

    with pytest.raises(InputError, match=REFUSED[text]):
        read_more_normals([table])


def test_what_is_not_there_or_no_table_is_refused(tmp_path, write_image):
    (tmp_path / "empty").mkdir()
    for path, said in [
        (tmp_path / "emty", "did you mean"),
        (tmp_path / "empty", "holds no normal image"),
        (write_image(tmp_path / "film.png"), "must be a folder of images or a table"),
    ]:
        with pytest.raises(InputError, match=said):
            read_more_normals([path])


def test_shares_of_the_memory_are_said():
    assert describe_kinds({"train": 1000, "a/b": 3000}) == "1,000 of train (25 %), 3,000 of a/b (75 %)"


def test_they_join_the_training_and_the_memory(run, data, adults):
    content, config = read_tar(run / "model.tar"), read_json(run / "config.json")
    kind = f"{adults.parent.name}/adults"

    assert content["kinds"] == config["run"]["kinds"] == {"train": 6, kind: 4}
    assert config["run"]["num_train"] == 10 and config["run"]["num_val"] == 6
    assert content["local_memories"]["local"]["rows"].shape[1] == 10
    assert len(content["val_normal_scores"]) == 3  # of DATA_PATH alone
    log = (run / "log.txt").read_text(encoding="utf-8")
    assert f"more normals: 4 of {kind}" in log
    assert f"normal images of the memory: 6 of train (60 %), 4 of {kind} (40 %)" in log


def test_each_folder_has_a_cache_of_its_own(run, data, adults):
    for folder, name in ((data, "train"), (adults, "more_normals")):
        assert [*(folder / ".salad_cache").glob(f"{name}-*.u8")]


def test_results_say_what_the_memory_is_made_of(run, data, adults):
    score(run, data, "--report")

    kind = f"{adults.parent.name}/adults"
    assert read_json(run / "metrics.json")["memory"] == {"train": 6, kind: 4}
    assert f"6 of train (60 %), 4 of {kind} (40 %)" in (run / "report.html").read_text(encoding="utf-8")


def test_they_are_found_again_with_their_pixels(run, data, adults):
    checkpoint = load_checkpoint(run / "model.tar")
    context = RunContext(config=Config.from_json(checkpoint.config), device=choose_device("cpu"))

    found = find_training_images(context, checkpoint)
    pixels = np.empty((2, found.images.isize, found.images.isize), np.uint8)
    found.images.read([9, 0], pixels)

    assert len(found.samples) == len(found.images) == 10
    expected = [context.decoder.read(found.samples[i]) for i in (9, 0)]
    assert (pixels == expected).all() and (pixels[0] != pixels[1]).any()
    assert found.samples[9].path == adults / "PA/film3.png"


def test_a_score_that_the_file_lacks_is_built_from_all_of_them(run, data):
    before = score(run, data)

    rebuilt = score(run, data, "--local_grid", 1)  # another memory than that of the file

    assert len(rebuilt) == len(before) and rebuilt != pytest.approx(before)


def test_a_folder_that_has_moved_may_be_named_anew(run, data, adults, tmp_path):
    moved = tmp_path / adults.parent.name / "adults"
    shutil.copytree(adults, moved)
    held = adults.with_name("away")
    adults.rename(held)
    try:
        result = invoke(cli.test, "CXR_author", "unet", run, data, "--overwrite", "--local_grid", 1)
        assert "the training images are not available (--more_normals" in stopped(result)
        assert score(run, data, "--local_grid", 1, "--more_normals", moved)
    finally:
        held.rename(adults)


def test_a_run_goes_on_with_the_same_images_only(run, data, adults, tmp_path):
    xp = tmp_path / "xp"
    shutil.copytree(run, xp)

    result = invoke(
        cli.train, "CXR_author", "unet", xp, data, "--n_epochs", 2, "--resume", "--more_normals", adults / "PA"
    )

    assert "trains on 10 images" in stopped(result)


def test_copies_and_images_of_val_are_left_out(data, adults, tmp_path):
    films = tmp_path / "films"
    shutil.copytree(adults, films)
    shutil.copy(adults / "PA/film1.png", films / "again.png")
    for name in ("train/0.normal", "val/0.normal", "test/0.normal"):
        shutil.copy(sorted((data / name).iterdir())[0], films / f"{name[:2]}.png")
    options = ["--more_normals", films, "--n_epochs", 1]

    train(tmp_path / "xp", data, *LOCAL, *options)
    log = (tmp_path / "xp/log.txt").read_text(encoding="utf-8")
    tested = invoke(cli.test, "CXR_author", "unet", tmp_path / "xp", data)
    strict = invoke(cli.train, "CXR_author", "unet", tmp_path / "other", data, *LOCAL, *options, "--strict")

    reasons = ("1 that are in train/, too", "1 that are in val/, too", "1 that are copies of others")
    assert "more normals: 5 of " in log and all(reason in log for reason in reasons)
    assert "leak: images of val that are in more_normals, too: 1" in log
    assert "leak: images of test that are in more_normals, too: 1" in tested.stderr
    assert "--strict: images of val that are in more_normals" in stopped(strict)


def test_patients_of_val_are_a_leak_and_stay(tmp_path):
    table = tmp_path / "films.csv"
    table.write_text("path,patient_id\na.png,7\nb.png,8\n", encoding="utf-8")
    options = {"dataset_name": "CXR_author", "net_name": "unet", "xp_path": tmp_path, "data_path": tmp_path}
    train, val = (
        Split(
            samples=[Sample(tmp_path / f"{name}.png", f"{name}.png", NORMAL, patient=patient)],
            normal_class="",
            classes=(),
        )
        for name, patient in (("c", "9"), ("d", "7"))
    )

    more = find_more_normals(Config.of({**options, "more_normals": (table,)}).data, train=train, val=val)

    assert [sample.patient for sample in more.samples] == ["7", "8"]
    (leak,) = more.leaks
    assert (leak.kind, leak.first, leak.second, leak.num_images) == ("patient", "more_normals", "val", 1)


def test_films_that_cannot_be_read_are_left_out_and_listed(data, adults, tmp_path):
    films = tmp_path / "films"
    shutil.copytree(adults, films)
    (films / "bad.png").write_bytes(b"no image")
    options = [*LOCAL, "--more_normals", films]

    refused = invoke(cli.train, "CXR_author", "unet", tmp_path / "xp", data, *options)
    train(tmp_path / "xp", data, *options, "--on_bad_image", "skip")

    assert "1 of 5 images of more_normals/ cannot be read" in stopped(refused)
    (row,) = read_csv(tmp_path / "xp/skipped.csv")
    assert row["path"].endswith("films/bad.png") and row["split"] == "more_normals"
    assert score(tmp_path / "xp", data, "--local_grid", 1)


def test_joined_images_are_read_each_from_its_source():
    class Constant:
        isize = 2

        def __init__(self, values):
            self.values = values

        def __len__(self):
            return len(self.values)

        def read(self, index, out):
            for slot, i in enumerate(index):
                out[slot] = self.values[i]

    joined = JoinedImages([Constant([1, 2]), Constant([]), Constant([3])])
    pixels = np.zeros((3, 2, 2), np.uint8)
    joined.read([2, 0, 1], pixels)

    assert len(joined) == 3 and pixels[:, 0, 0].tolist() == [3, 1, 2]
