"""Normal films of a new place join the memory of a model, and calibrate it, without training."""

import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from running import invoke, read_json, read_tar, stopped, tiny_unet, train

from salad import Detector, cli
from salad.checkpoint import load_checkpoint
from salad.cli import main
from salad.datasets import phantom
from salad.errors import InputError
from salad.evaluation.calibration import Standards
from salad.explaining.make import make_explainer
from salad.scores.knn import knn_angle
from salad.scoring import enrol as enrolling
from salad.scoring.training_images import enrolled_in

pytestmark = pytest.mark.trains

NUM_FILMS = 5
FUSED = ["--score", "fused", "--fuse", "knn", "--fuse", "local", "--w_syn", 1, "--local_grid", 2, "--n_views", 2]


@pytest.fixture(scope="module", autouse=True)
def _tiny():
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with tiny_unet():
        yield
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight normal films to train on, four of each class to validate and three of each to score."""
    root = tmp_path_factory.mktemp("phantom") / "data"
    phantom.write_phantom(root, size=80, num_train=8, num_val=4, num_test=3)
    return root


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Five normal films of another place, with brighter borders."""
    root = tmp_path_factory.mktemp("place")
    phantom.write_phantom(root / "drawn", size=80, num_train=NUM_FILMS, num_val=0, num_test=0, seed=9)
    (root / "films").mkdir()
    for path in sorted((root / "drawn/train/0.normal").iterdir()):
        pixels = np.asarray(Image.open(path)) // 2 + 60
        Image.fromarray(pixels.astype(np.uint8)).save(root / "films" / path.name)
    return root / "films"


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A run whose fused score uses the memory bank, of two views, and a patch memory."""
    xp = tmp_path_factory.mktemp("run") / "xp"
    train(xp, data, *FUSED, "--n_epochs", 3, "--lr", 0.003)
    return xp


def load(path, **options):
    return Detector.load(path, device="cpu", **{"n_jobs_dataloader": 0, **options})


def files(folder):
    return sorted(folder.iterdir())


def decoded(scorer, paths):
    """Pixels of films, as a batch."""
    return torch.from_numpy(np.stack([scorer.read(path).content for path in paths]))[:, None]


@pytest.fixture(scope="module")
def enrolled(run, films):
    return load(run / "model.tar").enrol(files(films))


def command(run, *words):
    return invoke(main, "enrol", run / "model.tar", *words, "--device", "cpu", "--n_jobs_dataloader", 0)


def test_each_memory_gets_the_rows_of_the_films(run, enrolled):
    before, after = load(run / "model.tar").scorer_, enrolled.scorer_

    for earlier, later, num_rows in (
        (before.model.normals.rows, after.model.normals.rows, 2 * NUM_FILMS),
        (before.checkpoint.bank.rows, after.checkpoint.bank.rows, 2 * NUM_FILMS),
        (before.checkpoint.row_labels, after.checkpoint.row_labels, 2 * NUM_FILMS),
        *(
            (cell, extended, NUM_FILMS)
            for cell, extended in zip(
                before.model.memories["local"].rows, after.model.memories["local"].rows, strict=True
            )
        ),
    ):
        assert len(later) == len(earlier) + num_rows
        torch.testing.assert_close(later[: len(earlier)], earlier)
    assert after.model.kinds == {"train": 8, "enrolled films": NUM_FILMS}


def test_the_calibration_is_of_the_films_each_without_its_own_rows(run, films, enrolled):
    """Against models that hold all films but one, built one by one; the spacing of their rows is that of all films."""
    model, alone = enrolled.scorer_.model, []
    full = model.memories["local"].spacing
    for number, film in enumerate(files(films)):
        others = [other for other in files(films) if other != film]
        scorer = load(run / "model.tar", min_normals=2).enrol(others).scorer_
        row = full.shape[1] - NUM_FILMS + number
        spacing = torch.cat([full[:, :row], full[:, row + 1 :]], dim=1)
        memory = replace(scorer.model.memories["local"], spacing=spacing)
        normals = replace(scorer.model.normals, memories={"local": memory})
        alone.append(replace(scorer.model, normals=normals).score(decoded(scorer, [film])).parts)
    parts = {part: np.concatenate([of_film[part] for of_film in alone]) for part in ("knn", "local")}

    standards = Standards.measure(parts)
    assert len(model.held_out.scores) == NUM_FILMS
    for part, (mean, std) in standards.of.items():
        assert model.standards.of[part] == pytest.approx((mean, std), rel=1e-3)
    assert model.held_out.scores == pytest.approx(np.sort(standards.fuse(parts)), rel=1e-3, abs=1e-4)
    assert enrolled.threshold == model.held_out.scores.max()


def test_enrolled_films_score_lower_than_before(run, films, enrolled):
    before = load(run / "model.tar").scorer_.model
    after = enrolled.scorer_.model
    grey = decoded(enrolled.scorer_, files(films))

    parts = before.score(grey).parts
    assert (after.score(grey).parts["local"] < 0.1).all() and (parts["local"] > 0.1).all()  # its own nearest row
    alone = enrolling.leave_one_out(
        after, [enrolling.Film("", pixels, "", {}) for pixels in grey[:, 0].numpy()], num_views=2
    )
    assert (alone["local"] <= parts["local"] + 1e-5).all() and (alone["local"] < parts["local"]).any()
    assert alone["knn"] == pytest.approx(
        [
            float(knn_angle(z[None], after.normals.rows[keep], k=int(keep.sum())))
            for z, keep in zip(after.score(grey).inputs.z, keeps(len(after.normals.rows)), strict=True)
        ],
        abs=1e-5,
    )


def keeps(num_rows):
    for number in range(NUM_FILMS):
        keep = torch.ones(num_rows, dtype=torch.bool)
        keep[num_rows - 2 * (NUM_FILMS - number) :][:2] = False
        yield keep


def test_a_file_scores_as_the_detector_that_wrote_it(enrolled, films, data, tmp_path):
    enrolled.save(tmp_path / "new.tar")

    again = load(tmp_path / "new.tar")
    pickled = pickle.loads(pickle.dumps(enrolled))

    images = [*files(films), *files(data / "test/1.abnormal")]
    assert again.score(images) == pytest.approx(enrolled.score(images), abs=1e-5)
    assert pickled.score(images) == pytest.approx(enrolled.score(images), abs=1e-5)
    assert pickled.threshold == enrolled.threshold
    assert again.threshold == pytest.approx(enrolled.threshold, abs=1e-6)
    assert [name for name, _ in enrolled_in(again.scorer_.checkpoint)] == [film.name for film in files(films)]


def test_the_command_writes_a_file_and_says_how_far_the_films_lie(run, films, enrolled, data, tmp_path):
    result = command(run, films, "--out", tmp_path / "new.tar")

    assert result.exit_code == 0, result.stderr
    first, before, medians, threshold = result.stdout.splitlines()
    assert first == f"enrolled {NUM_FILMS} films"
    assert before.startswith("before, half of them scored above percentile ") and "of the 4 normal images" in before
    assert medians.startswith("median of their scores: ") and threshold.startswith("threshold: ")
    assert "threshold and percentiles come from only 5 normal images" in result.stderr
    assert load(tmp_path / "new.tar").threshold == pytest.approx(enrolled.threshold, abs=1e-5)


def test_results_explanations_and_exports_know_the_enrolled_films(run, films, enrolled, data, tmp_path):
    new = tmp_path / "new.tar"
    enrolled.save(new)

    tested = invoke(
        cli.test, "CXR_author", "unet", run, data, "--load_model", new, "--out", tmp_path / "out", "--report"
    )
    metrics = read_json(tmp_path / "out/metrics.json")
    again = load(new)
    explainer = make_explainer(again.scorer_.model, again.scorer_.checkpoint)
    (explanation,) = explainer.explain(decoded(again.scorer_, files(films)[:1]))

    assert tested.exit_code == 0, tested.stderr
    assert metrics["memory"] == {"train": 8, "enrolled films": NUM_FILMS}
    assert metrics["at_threshold"]["threshold"] == pytest.approx(enrolled.threshold, abs=1e-5)
    assert "5 of enrolled films (38 %)" in (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert explanation.neighbours[0].name == files(films)[0].name and explanation.neighbours[0].pixels is None
    pictured = [one for one in explanation.neighbours if one.name.startswith("train/")]
    assert all(one.pixels is not None for one in pictured)
    exported = invoke(main, "export", new, "--format", "safetensors", "--out", tmp_path / "new.safetensors")
    assert exported.exit_code == 0, exported.stderr


def test_the_map_of_embeddings_compares_with_films_that_have_pixels(run, films, data, tmp_path):
    detector = load(run / "model.tar", score="knn").enrol(files(films))

    explanation = detector.explain(files(films)[0])

    assert explanation.neighbours[0].name == files(films)[0].name
    assert np.isfinite(explanation.memory_map).all()


def test_enrolling_again_adds_to_it_and_leaves_copies_out(run, films, data, tmp_path, caplog):
    first = load(run / "model.tar", min_normals=2).enrol(files(films)[:3])
    first.save(tmp_path / "first.tar")

    copy = shutil.copy(files(films)[0], tmp_path / "again.png")
    second = load(tmp_path / "first.tar", min_normals=2).enrol([copy, *files(films)[3:], files(films)[4]])

    assert "again.png: is the same film as 0000.png" in caplog.text
    assert [name for name, _ in enrolled_in(second.scorer_.checkpoint)] == [film.name for film in files(films)]
    assert len(second.scorer_.model.held_out.scores) == 2
    assert second.scorer_.model.memories["local"].rows.shape[1] == 8 + NUM_FILMS
    assert (
        "enrolled 2 films; 5 with those enrolled before" in caplog.text
        or second.scorer_.model.kinds["enrolled films"] == 5
    )


def test_training_images_are_left_out(run, data, films, caplog):
    detector = load(run / "model.tar").enrol([*files(data / "train/0.normal")[:2], *files(films)])

    assert caplog.text.count("the memory holds it already") == 2
    assert detector.scorer_.model.kinds["enrolled films"] == NUM_FILMS


def test_films_that_cannot_be_read_are_left_out(run, films, tmp_path):
    shutil.copytree(films, tmp_path / "films")
    (tmp_path / "films/bad.png").write_bytes(b"no image")

    result = command(run, tmp_path / "films", "--out", tmp_path / "new.tar")

    assert "left out: 1 that cannot be read, 0 that are copies or in the memory already" in result.stdout
    assert "not enrolled: " in result.stderr and "bad.png" in result.stderr


def test_arrays_are_named_by_their_number(run, films):
    pixels = [np.asarray(Image.open(film)) for film in files(films)]

    checkpoint = load(run / "model.tar").enrol(pixels).scorer_.checkpoint

    assert [name for name, _ in enrolled_in(checkpoint)] == [f"enrolled film {n}" for n in range(1, NUM_FILMS + 1)]


def test_too_few_films_and_existing_files_are_refused(run, films, tmp_path):
    out = tmp_path / "new.tar"
    out.write_bytes(b"precious")

    assert "--overwrite replaces it" in stopped(command(run, films, "--out", out))
    assert "is one of the inputs" in stopped(command(run, films, "--out", run / "model.tar"))
    few = command(run, *files(films)[:2], "--out", out, "--overwrite")
    assert "there are 2 normal films to enrol (0 are left out), but it takes 3" in stopped(few)
    assert "there are no normal films" in stopped(command(run, tmp_path / "new.tar", "--out", tmp_path / "x.tar"))
    assert out.read_bytes() == b"precious" and not (tmp_path / "x.tar").exists()
    assert command(run, films, "--out", out, "--overwrite").exit_code == 0


def test_a_full_memory_keeps_the_films_and_a_coreset_of_the_rest(data, films, tmp_path):
    train(tmp_path / "xp", data, *FUSED, "--local_rows", 6)
    detector = load(tmp_path / "xp/model.tar").enrol(files(films))

    rows = detector.scorer_.model.memories["local"].rows
    earlier = load_checkpoint(tmp_path / "xp/model.tar").memories["local"].rows
    assert rows.shape[1] == earlier.shape[1] == 6
    assert all((cell[:1] == before).all(dim=1).any() for cell, before in zip(rows, earlier, strict=True))
    with pytest.raises(InputError, match="--local_rows of the model is 6"):
        load(tmp_path / "xp/model.tar").enrol([*files(films), *files(data / "val/0.normal")[:1]])


def test_films_of_test_that_are_enrolled_are_a_leak(run, data, tmp_path):
    load(run / "model.tar").enrol(files(data / "test/0.normal")).save(tmp_path / "new.tar")
    words = ["CXR_author", "unet", run, data, "--load_model", tmp_path / "new.tar", "--out", tmp_path / "out"]

    tested, strict = invoke(cli.test, *words), invoke(cli.test, *words, "--strict")

    leak = "images of test that are in enrolled films, too: 3, the first: test/0.normal/0000.png and 0000.png"
    assert f"leak: {leak}" in tested.stderr and tested.exit_code == 0
    assert f"--strict: {leak}" in stopped(strict)


def test_a_file_without_memory_bank_is_enrolled_into_and_names_its_neighbours(data, films, tmp_path):
    train(tmp_path / "xp", data, "--recipe", "strong", "--isize", 64, "--n_epochs", 1, "--lr_milestone", 1)
    detector = load(tmp_path / "xp/model.tar").enrol(files(films))
    detector.save(tmp_path / "new.tar")

    again = load(tmp_path / "new.tar")
    neighbours = again.explain(files(films)[1]).neighbours

    assert len(again.scorer_.checkpoint.bank.rows) == 0
    assert again.scorer_.model.kinds == {"train": 8, "enrolled films": NUM_FILMS}
    assert (neighbours[0].name, neighbours[0].pixels) == (files(films)[1].name, None)
    assert any(one.name.startswith("train/") and one.pixels is not None for one in neighbours)
    assert again.scorer_.checkpoint.digest() != load_checkpoint(tmp_path / "xp/model.tar").digest()


def test_another_score_says_that_its_memory_lacks_the_films(run, films, data, tmp_path):
    load(run / "model.tar").enrol(files(films)).save(tmp_path / "new.tar")

    detector = load(tmp_path / "new.tar", score="local", local_grid=1)

    assert f"the {NUM_FILMS} enrolled films are not in the memory of the score local" in detector.warnings


def test_published_files_can_be_enrolled_into(run, films, data, tmp_path):
    content = read_tar(run / "model.tar")
    published = {name: value for name, value in content.items() if name.endswith("_state_dict")}
    torch.save(published, tmp_path / "published.tar")
    options = {"isize": 64, "data_path": data, "score": "knn"}

    load(tmp_path / "published.tar", **options).enrol(files(films)).save(tmp_path / "new.tar")

    assert len(load(tmp_path / "new.tar", data_path=data).scorer_.model.normals.rows) == 16 + NUM_FILMS


@pytest.mark.parametrize("enrolled_as", [3, [3], [("a", 3)], [("a",)]])
def test_a_damaged_list_of_enrolled_films_is_refused(run, tmp_path, enrolled_as):
    torch.save({**read_tar(run / "model.tar"), "enrolled": enrolled_as}, tmp_path / "model.tar")

    with pytest.raises(InputError, match="not a checkpoint"):
        load_checkpoint(tmp_path / "model.tar")


def test_the_drift_is_that_from_the_enrolled_films(enrolled, films):
    films_known = enrolled.scorer_.model.held_out.films
    assert len(films_known["brightness"]) == NUM_FILMS
    enrolled.score(files(films))
    assert enrolled.drift is not None and not any("calibrate anew" in line for line in enrolled.drift.lines)


def test_the_threshold_of_the_map_comes_from_the_enrolled_films(run, enrolled, films):
    """The map itself stays as it is."""
    before = load(run / "model.tar").explain(files(films)[0]).score_map
    maps = [enrolled.explain(film).score_map for film in files(films)]

    assert maps[0].values == pytest.approx(before.values, abs=1e-4)
    assert maps[0].threshold == pytest.approx(max(one.values.max() for one in maps), rel=1e-3)
    assert maps[0].threshold != pytest.approx(before.threshold, rel=1e-3)
