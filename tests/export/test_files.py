"""`python -m salad export`: files that give, without this program, what it gives."""

import importlib.util
import json
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image, ImageOps
from running import ONE_THREAD, REPOSITORY, invoke, read_tar, stopped, tiny_unet, train
from safetensors import safe_open
from tiny_backbone import tiny_networks

from salad import Detector
from salad.checkpoint import Checkpoint, save_checkpoint
from salad.cli import main
from salad.config import Config
from salad.datasets import phantom
from salad.datasets.phantom import draw_radiograph
from salad.errors import DivergedError
from salad.export import files as exporting
from salad.export.statement import state
from salad.images import align
from salad.images.in_memory import read_source
from salad.images.read import read_image
from salad.memory import MemoryBank
from salad.networks import build_network
from salad.packages import install_command
from salad.scoring.stream import load_scorer

pytestmark = pytest.mark.slow

# What one grey level of a warped film, rounded the other way, can do to a tiny network.
GREY_LEVEL = 0.02

# A script in a process that cannot import this program nor torch.
BARE = """
import runpy, sys
sys.modules["salad"] = sys.modules["torch"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
# In a process that cannot import this program.
ALONE = """
import sys
sys.modules["salad"] = None
import numpy as np, torch
files = {"facts.json": ""}
module = torch.export.load(sys.argv[1], extra_files=files).module()
grey = torch.from_numpy(np.load(sys.argv[2]))
with torch.no_grad():
    z, scores = module(grey)
    assert torch.allclose(module(grey[:1])[1], scores[:1], atol=1e-6)
np.savez(sys.argv[3], z=z, scores=scores, facts=files["facts.json"])
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Eight normal films to train on, four of each class to validate and three of each to score."""
    root = tmp_path_factory.mktemp("phantom") / "data"
    phantom.write_phantom(root, size=80, num_train=8, num_val=4, num_test=3)
    return root


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    xp = tmp_path_factory.mktemp("run")
    train(xp, data, "--normalize", "standardize", "--n_epochs", 10, "--k", 5)
    return xp


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory) -> tuple[Path, str]:
    """The ONNX file of `run`, and what was said."""
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    return path, write(run / "model.tar", "onnx", path, "--specificity", 0.5)


@pytest.fixture(scope="module")
def published(run) -> Path:
    state = {name: value for name, value in read_tar(run / "model.tar").items() if name.endswith("_state_dict")}
    torch.save(state, run / "published.tar")
    return run / "published.tar"


@pytest.fixture(scope="module")
def resnet(tmp_path_factory) -> Path:
    """A checkpoint of the real other network, its weights as they are drawn."""
    path = tmp_path_factory.mktemp("resnet") / "model.tar"
    torch.manual_seed(0)
    config = Config.of(
        {"dataset_name": "CXR_author", "net_name": "CXR_resnet18", "xp_path": Path(), "data_path": Path(), "isize": 32}
    )
    save_checkpoint(
        [path],
        Checkpoint(
            path=path,
            model_state=build_network("CXR_resnet18", rep_dim=200, isize=32).state_dict(),
            bank=MemoryBank(150, 200, temperature=0.1, momentum=0.5),
            anchors=None,
            config=config.as_json(),
            normal_class="0.normal",
            row_labels=(torch.arange(150) % 5 == 0).long(),
            svdd=None,
            training={},
            memories={},
        ),
    )
    return path


def write(checkpoint: Path, form: str, out: Path, *options: object) -> str:
    result = invoke(main, "export", checkpoint, "--format", form, "--out", out, *options)
    assert result.exit_code == 0, result.stderr
    assert "Error" not in result.stderr and "Warning" not in result.stderr  # of the exporters
    return result.stdout


def expected(checkpoint: Path, **options: object) -> tuple[np.ndarray, np.ndarray]:
    """Grey images (5, 1, S, S) of one contrast after the other, and the scores that the detector gives them."""
    with tiny_unet():
        detector = Detector.load(checkpoint, device="cpu", **options)
    side = detector.get_params()["isize"]
    noise = np.random.default_rng(1).random((5, 70, 90)) * np.linspace(40, 255, 5)[:, None, None]
    films = noise.astype(np.uint8)
    grey = np.stack([read_source(film, detector.scorer_.model.context.decoder) for film in films])[:, None]
    assert grey.shape == (5, 1, side, side)
    return grey, detector.score(films)


def infer(path: Path, grey: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"grey": grey})


def infer_torch(path: Path, grey: np.ndarray) -> list[np.ndarray]:
    with torch.no_grad():
        return [found.numpy() for found in torch.export.load(path).module()(torch.from_numpy(grey))]


@pytest.mark.trains
def test_an_onnx_file_gives_the_scores_of_the_checkpoint_and_says_what_its_user_has_to_know(run, exported):
    path, said = exported

    assert (
        "grey (B, 1, 64, 64) uint8 -> embedding (B, 8), score (B,) of the 5 nearest rows; differs from predict by"
        in said
    )
    grey, scores = expected(run / "model.tar")
    z, found = infer(path, grey)
    assert found == pytest.approx(scores, abs=1e-5)
    assert np.ptp(scores) > 1e-3
    assert z.shape == (5, 8)
    assert infer(path, grey[:1])[1] == pytest.approx(scores[:1], abs=1e-5)
    onnx.checker.check_model(path)
    assert [other.name for other in path.parent.iterdir()] == ["model.onnx"]
    facts = {one.key: one.value for one in onnx.load(path).metadata_props}
    assert {"isize": "64", "resize": "squash", "trim": "false", "normalize": "standardize", "k": "5"}.items() <= (
        facts.items()
    )
    with tiny_unet():
        assert float(facts["threshold"]) == Detector.load(run / "model.tar", specificity=0.5).threshold
    assert json.loads(facts["config"])["n_epochs"] == 10


def test_clahe_is_in_the_graph(published, tmp_path):
    """As `standardize` is in the first test, and `fixed` in that of the crop."""
    write(published, "onnx", tmp_path / "model.onnx", "--normalize", "clahe", "--k", 3)

    grey, scores = expected(published, normalize="clahe", k=3)
    assert infer(tmp_path / "model.onnx", grey)[1] == pytest.approx(scores, abs=1e-5)


@pytest.mark.trains
def test_framing_is_in_the_graph(data, tmp_path, monkeypatch):
    monkeypatch.setattr(align, "NUM_STEPS", 2)  # all twelve take a minute to write
    monkeypatch.setattr(exporting, "ALIGNED_DIFFERENCE", GREY_LEVEL)
    xp = tmp_path / "xp"
    train(xp, data, "--align", "--crop", 0.7, "--normalize", "standardize", "--n_epochs", 2, "--k", 5)
    said = write(xp / "model.tar", "onnx", tmp_path / "model.onnx")

    assert "grey (B, 1, 92, 92) uint8 -> embedding (B, 8)" in said
    with tiny_unet():
        detector = Detector.load(xp / "model.tar", device="cpu")
    films = sorted((data / "test").rglob("*.png"))
    grey = np.stack([read_source(film, detector.scorer_.model.context.decoder) for film in films])[:, None]
    for batch, scores in ((grey, detector.score(films)), (grey[:1], detector.score(films[:1]))):
        assert infer(tmp_path / "model.onnx", batch)[1] == pytest.approx(scores, abs=5e-3)
    assert np.ptp(detector.score(films)) > 0.02
    monkeypatch.undo()
    aligned = detector.scorer_
    for extra in (exporting.ALIGNED_DIFFERENCE / 2, exporting.ALIGNED_DIFFERENCE * 2):
        allows = (
            nullcontext() if extra < exporting.ALIGNED_DIFFERENCE else pytest.raises(DivergedError, match="above 1e-02")
        )
        with allows:
            exporting.compare(
                aligned, lambda grey, extra=extra: [out + extra for out in exporting._expected(aligned, grey)]
            )
    facts = {one.key: one.value for one in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert {"isize": "64", "crop": "0.7", "align": "true", "decoded_size": "92"}.items() <= facts.items()
    write(xp / "model.tar", "safetensors", tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("mean_image"), read_tar(xp / "model.tar")["mean_image"])


def test_the_crop_is_in_the_graph(published, tmp_path):
    write(published, "onnx", tmp_path / "model.onnx", "--crop", 0.5, "--k", 3)

    with tiny_unet():
        detector = Detector.load(published, device="cpu", crop=0.5, k=3)
    film = np.random.default_rng(1).integers(0, 256, (70, 90), np.uint8)
    grey = read_source(film, detector.scorer_.model.context.decoder)[None, None]
    assert grey.shape == (1, 1, 128, 128)
    assert infer(tmp_path / "model.onnx", grey)[1] == pytest.approx(detector.score(film), abs=1e-5)


def test_the_other_network_is_exported_too(resnet, tmp_path):
    write(resnet, "onnx", tmp_path / "model.onnx")
    write(resnet, "torch", tmp_path / "model.pt2")

    grey, scores = expected(resnet)
    assert infer(tmp_path / "model.onnx", grey)[1] == pytest.approx(scores, abs=1e-5)
    with torch.no_grad():
        module = torch.export.load(tmp_path / "model.pt2").module()
    assert module(torch.from_numpy(grey))[1].detach().numpy() == pytest.approx(scores, abs=1e-6)


LOCAL_SCORES = {
    "local": ["--score", "local"],
    "backbone": ["--score", "backbone"],
    "fused": ["--score", "fused", "--fuse", "local", "--fuse", "backbone", "--fuse", "knn", "--k", 5],
}


# until images differ by more than rounding, which standardised parts of a score enlarge
LONGER = ["--backbone", "efficientnet_lite0", "--n_epochs", 5, "--lr", 0.01]


@pytest.mark.parametrize("name", LOCAL_SCORES)
def test_a_local_score_is_exported_where_the_model_is_kept_with_it(data, tmp_path, name):
    xp, embedding = tmp_path / "xp", "embedding (B, 8), " if name == "fused" else ""
    which = "fused of local, backbone, knn" if name == "fused" else name
    with tiny_networks():
        train(xp, data, *LOCAL_SCORES[name], *LONGER, "--crop", 0.8)
        said = write(xp / "model.tar", "onnx", tmp_path / "model.onnx")
        if name == "fused":  # which holds the other two
            write(xp / "model.tar", "torch", tmp_path / "model.pt2")
        detector = Detector.load(xp / "model.tar", device="cpu")
    films = sorted((data / "test").rglob("*.png"))
    grey = np.stack([read_source(film, detector.scorer_.model.context.decoder) for film in films])[:, None]
    scores = detector.score(films)

    assert f"grey (B, 1, 80, 80) uint8 -> {embedding}score (B,) {which}; differs" in said
    least = 1e-4 if name == "fused" else 1e-7  # standard deviations, which may be near 0
    assert np.ptp(scores) > 1e-2
    of_torch = [infer_torch(tmp_path / "model.pt2", grey)] if name == "fused" else []
    for found in (infer(tmp_path / "model.onnx", grey), *of_torch):
        assert len(found) == (2 if embedding else 1)
        assert found[-1] == pytest.approx(scores, rel=1e-4, abs=least)
    assert infer(tmp_path / "model.onnx", grey[:1])[-1] == pytest.approx(scores[:1], rel=1e-4, abs=least)
    facts = {one.key: one.value for one in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert facts["score"] == name and facts["threshold"] == str(detector.threshold)
    assert json.loads(facts["parts"]) == (["local", "backbone", "knn"] if name == "fused" else [name])


def test_a_fused_score_with_its_framing(data, tmp_path, monkeypatch):
    monkeypatch.setattr(align, "NUM_STEPS", 1)
    monkeypatch.setattr(exporting, "ALIGNED_DIFFERENCE", GREY_LEVEL)
    xp = tmp_path / "xp"
    options = ["--score", "fused", *LONGER, "--align", "--crop", 0.7]
    with tiny_networks():
        train(xp, data, *options, "--normalize", "standardize")
        write(xp / "model.tar", "torch", tmp_path / "model.pt2")  # ONNX takes three times as long
        write(xp / "model.tar", "safetensors", tmp_path / "model.safetensors")
        detector = Detector.load(xp / "model.tar", device="cpu")
    films = sorted((data / "test").rglob("*.png"))
    grey = np.stack([read_source(film, detector.scorer_.model.context.decoder) for film in films])[:, None]

    found = infer_torch(tmp_path / "model.pt2", grey)[-1]

    # of a standard deviation, that of four films; a grey level, or what is seen, may be rounded the other way
    assert found == pytest.approx(detector.score(films), rel=1e-4, abs=0.02)
    assert np.ptp(found) > 1
    had = read_tar(xp / "model.tar")
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        for part in ("local", "backbone"):
            for key in ("rows", "mean", "whitening"):
                assert torch.equal(file.get_tensor(f"memory.{part}.{key}"), had["local_memories"][part][key])
            assert file.get_tensor(f"standards.{part}").tolist() == list(had["standards"][part])
        assert torch.equal(file.get_tensor("mean_image"), had["mean_image"])
        assert file.metadata()["score"] == "fused" and file.metadata()["backbone"] == "efficientnet_lite0"
        assert file.metadata()["backbone_digest"] == "tiny"


@pytest.mark.parametrize("form", ["onnx", "torch", "safetensors"])
def test_other_scores_are_refused(run, tmp_path, form):
    with tiny_unet():
        Detector.load(run / "model.tar", score="weighted", device="cpu").save(tmp_path / "weighted.tar")

    result = invoke(main, "export", tmp_path / "weighted.tar", "--format", form, "--out", tmp_path / "model")

    assert "its score weighted is made of weighted, but only backbone, knn, local and fused ones" in stopped(result)
    assert not (tmp_path / "model").exists()


@pytest.mark.trains
def test_a_torch_file_needs_nothing_of_this_program(run, tmp_path):
    write(run / "model.tar", "torch", tmp_path / "model.pt2")
    grey, scores = expected(run / "model.tar")
    np.save(tmp_path / "grey.npy", grey)

    words = [sys.executable, "-c", ALONE, tmp_path / "model.pt2", tmp_path / "grey.npy", tmp_path / "found.npz"]
    subprocess.run(list(map(str, words)), check=True, env=ONE_THREAD, cwd=tmp_path)

    with np.load(tmp_path / "found.npz") as found:
        assert found["scores"] == pytest.approx(scores, abs=1e-6)
        assert np.linalg.norm(found["z"], axis=1) == pytest.approx(1)
        assert json.loads(str(found["facts"]))["normalize"] == "standardize"


def test_safetensors_hold_the_network_and_the_memory(run, tmp_path):
    write(run / "model.tar", "safetensors", tmp_path / "model.safetensors")
    had = read_tar(run / "model.tar")

    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dict
        facts = file.metadata()
    network = {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}
    assert network.keys() == had["model_state_dict"].keys()
    assert all(torch.equal(value, had["model_state_dict"][name]) for name, value in network.items())
    assert torch.equal(tensors["memory.rows"], had["memory_state_dict"]["memory"])
    assert torch.equal(tensors["memory.row_labels"], had["row_labels"])
    assert sorted(tensors["val_normal_scores"].tolist()) == sorted(had["val_normal_scores"].tolist())
    assert json.loads(facts["config"])["isize"] == 64


@pytest.mark.parametrize(
    ("form", "package"), [("onnx", "onnx"), ("onnx", "onnxscript"), ("safetensors", "safetensors")]
)
def test_a_missing_package_is_named_and_how_to_get_it(run, tmp_path, monkeypatch, form, package):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))

    result = invoke(main, "export", run / "model.tar", "--format", form, "--out", tmp_path / "model")

    assert stopped(result) == f"Error: --format {form} needs the package {package}: {install_command('export')}"
    assert list(tmp_path.iterdir()) == []


def test_without_onnxruntime_the_file_is_written_and_that_is_said(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    said = write(run / "model.tar", "onnx", tmp_path / "model.onnx")

    assert "not compared with predict, for which onnxruntime is needed: pip install" in said
    assert (tmp_path / "model.onnx").stat().st_size > 0


def test_a_file_that_computes_something_else_is_not_written(run, tmp_path, monkeypatch):
    (tmp_path / "model.pt2").write_text("as before")
    monkeypatch.setattr(exporting, "MAX_DIFFERENCE", -1)

    result = invoke(main, "export", run / "model.tar", "--format", "torch", "--out", tmp_path / "model.pt2")

    assert "the file differs from predict by" in stopped(result, status=1)
    assert (tmp_path / "model.pt2").read_text() == "as before"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("is_wrong", "wrong"),
    [
        pytest.param(lambda grey: grey.max() > 250, np.nan, id="nan at full contrast"),
        pytest.param(lambda grey: not grey[-1, 0, :, :2].any(), 2e-3, id="with black borders only"),
        pytest.param(lambda grey: len(grey) == 1, 2e-3, id="in a batch of one"),
    ],
)
def test_a_file_that_is_wrong_for_some_images_only_is_found(padded, is_wrong, wrong):
    def run(grey):
        scored = padded.model.score(torch.from_numpy(grey))
        return [scored.inputs.z.numpy(), padded.model.combine(scored.parts) + (wrong if is_wrong(grey) else 0)]

    with pytest.raises(DivergedError, match=f"differs from predict by {wrong:.1e}"):
        exporting.compare(padded, run)


@pytest.fixture
def padded(published):
    with tiny_unet():
        yield load_scorer(published, {"device": "cpu", "resize": "pad", "trim": True, "k": 3})


@pytest.mark.parametrize("resize", ["squash", "pad", "crop"])
@pytest.mark.parametrize("size", [(700, 520), (90, 200)])
def test_the_metadata_tell_how_large_jpegs_are_read(padded, tmp_path, size, resize):
    """The way of docs/export.md, with Pillow alone."""
    film = Image.fromarray(draw_radiograph(np.random.default_rng(0), size=200, abnormal=False)).resize(size)
    film.save(tmp_path / "film.jpeg")
    facts = exporting.facts(padded)
    side, least = int(facts["isize"]), int(facts["shrink_jpeg_to"])

    with Image.open(tmp_path / "film.jpeg") as image:
        image.draft("L", (least, least))
        grey = ImageOps.exif_transpose(image).convert("L")
    fit = {"squash": Image.Image.resize, "pad": ImageOps.pad, "crop": ImageOps.fit}[resize]
    square = fit(grey, (side, side), Image.Resampling.BILINEAR)

    assert np.array_equal(square, read_image(tmp_path / "film.jpeg", isize=side, resize=resize))


EXAMPLE = REPOSITORY / "examples/onnx_score.py"


def run_example(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BARE, EXAMPLE, *words]
    return subprocess.run(list(map(str, command)), capture_output=True, env=ONE_THREAD, text=True)


@pytest.mark.parametrize("resize", ["squash", "pad", "crop"])
def test_the_example_reproduces_predict_on_full_size_films_without_this_program(run, exported, tmp_path, resize):
    """Films as a detector gives them, with the metadata alone; the graph is the same for all ways of resizing."""
    model = onnx.load(exported[0])
    (entry,) = [entry for entry in model.metadata_props if entry.key == "resize"]
    entry.value = resize
    onnx.save(model, tmp_path / "model.onnx")
    paths = [tmp_path / name for name in ("0.png", "0.jpeg", "1.jpeg", "2.jpeg")]
    for path, size in zip(paths, [(2048, 2500), (2048, 2500), (1857, 1317), (300, 260)], strict=True):
        rng = np.random.default_rng(size[0])
        film = Image.fromarray(draw_radiograph(rng, size=512, abnormal=False)).resize(size)
        noisy = Image.fromarray(
            (np.asarray(film) + rng.normal(scale=12, size=size[::-1])).clip(0, 255).astype(np.uint8)
        )
        noisy.convert("RGB" if size[0] == 1857 else "L").save(path, **{"quality": 95} if path.suffix == ".jpeg" else {})

    done = run_example(tmp_path / "model.onnx", *paths)

    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    with tiny_unet():
        model = load_scorer(run / "model.tar", {"device": "cpu"}).model
    grey = np.stack([read_image(path, isize=64, resize=resize) for path in paths])[:, None]
    scores = model.combine(model.score(torch.from_numpy(grey)).parts)
    assert [row["path"] for row in found] == list(map(str, paths))
    assert [row["score"] for row in found] == pytest.approx(scores, abs=1e-5)
    assert np.diff(np.sort(scores)).min() > 1e-4


def test_the_example_says_which_films_are_abnormal_and_refuses_deeper_ones(run, exported, data, tmp_path):
    films = [next((data / name).rglob("*.png")) for name in ("train", "test/1.abnormal")]
    Image.fromarray(np.zeros((80, 80), np.uint16)).save(tmp_path / "deep.png")

    done = run_example(exported[0], *films, tmp_path / "deep.png")

    with tiny_unet():
        detector = Detector.load(run / "model.tar", device="cpu", specificity=0.5)
    abnormal = [json.loads(line)["abnormal"] for line in done.stdout.splitlines()]
    assert abnormal == (detector.score(films) > detector.threshold).tolist() == [False, True]
    assert done.returncode == 1 and "deep.png: mode I;16, trim false" in done.stderr


@pytest.mark.parametrize("resize", ["squash", "pad", "crop"])
def test_the_metadata_state_all_that_a_reader_has_to_know(padded, resize):
    config = padded.config.changed(resize=resize)
    stated = state(config, has_threshold=True)

    size = config.images.decoded_size
    assert stated["input"] | {"meaning": ""} == {
        **{"name": "grey", "dtype": "uint8", "shape": ["batch", 1, size, size], "range": [0, 255], "meaning": ""}
    }
    assert {"squash": "stretch", "pad": "black", "crop": "middle"}[resize] in str(stated["preparation"])
    assert "BILINEAR" in str(stated["preparation"]) and "trim" in str(stated["preparation"])
    assert "trim" not in str(state(config.changed(trim=False), has_threshold=True)["preparation"])
    assert (
        "score > threshold" in stated["decision"] and "no threshold" in state(config, has_threshold=False)["decision"]
    )
    assert "MONOCHROME1" in str(stated["outside"]) and "knn (mean angle" in stated["output"]["meaning"]
    assert exporting.facts_to_score(padded).items() >= exporting.facts(padded).items()


def test_a_place_that_cannot_be_written_is_named(run, tmp_path):
    result = invoke(main, "export", run / "model.tar", "--format", "safetensors", "--out", tmp_path / "absent" / "m")

    assert f"there is no folder {tmp_path / 'absent'}" in stopped(result)


def test_a_checkpoint_a_folder_and_a_missing_one_are_no_output(run, tmp_path):
    before = (run / "model.tar").read_bytes()
    other = shutil.copy(run / "model.tar", tmp_path / "other.onnx")
    for out, said in [
        (run / "model.tar", "is one of the inputs, which it would replace"),
        (other, "is a checkpoint"),
        (tmp_path, "is a folder"),
        (tmp_path / "absent/a.onnx", "there is no folder"),
    ]:
        assert said in stopped(invoke(main, "export", run / "model.tar", "--format", "safetensors", "--out", out))
    assert (run / "model.tar").read_bytes() == before == other.read_bytes()
