"""Backbones of timm: their features against the same by hand, their weights, and every command with them."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from running import CPU, SHORT, TINY, invoke, read_csv, read_tar, score, stopped, train
from torch.testing import assert_close

from salad import Detector, cli
from salad.cli import main
from salad.datasets import phantom
from salad.errors import InputError
from salad.networks.backbones import check_backbone, load_backbone
from salad.networks.efficientnet_lite0 import find_source

timm = pytest.importorskip("timm")
safetensors = pytest.importorskip("safetensors.torch")

VIT, CNN = "timm:test_vit", "timm:test_resnet"
QUICK = ["--recipe", "quick", "--isize", 64, "--batch_size", 4]
LITE0_STAGES = (1, 2, 2, 3, 3, 4, 1)  # blocks of each


def random_state(name, *, seed=0, head=True):
    """Numbers of their own in every tensor of a network of timm, statistics that keep its values in range."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, tensor in timm.create_model(name).state_dict().items():
        scale = (2 / tensor[0].numel()) ** 0.5 if tensor.dim() > 1 else 0.3
        drawn = torch.randn(tensor.shape, generator=generator) * scale
        drawn = drawn.abs() + 0.5 if key.endswith("running_var") else drawn
        state[key] = tensor if key.endswith("num_batches_tracked") else drawn
    return {key: tensor for key, tensor in state.items() if head or not key.startswith(("head.", "fc."))}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of weights by name, one of each kind: of safetensors without a classifier, and of torch.save with it."""
    folder = tmp_path_factory.mktemp("weights")
    safetensors.save_file(random_state("test_vit", head=False), folder / "vit.safetensors")
    torch.save(random_state("test_resnet"), folder / "resnet.pth")
    safetensors.save_file(random_state("test_resnet", seed=1), folder / "other.safetensors")
    return {VIT: folder / "vit.safetensors", CNN: folder / "resnet.pth", "other": folder / "other.safetensors"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "data"
    phantom.write_phantom(root, size=64, num_train=9, num_val=4, num_test=3)
    return root


@pytest.fixture(scope="module")
def runs(data, files, tmp_path_factory):
    """A run of the recipe quick with each of the two networks."""
    root = tmp_path_factory.mktemp("runs")
    for name in (VIT, CNN):
        words = ["CXR_author", "unet", root / name[5:], data, *TINY, *QUICK, "--backbone", name]
        assert invoke(cli.train, *words, "--backbone_weights", files[name]).exit_code == 0
    return {VIT: root / "test_vit", CNN: root / "test_resnet"}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of the hub and no network; the function that it gives puts a file of weights into the cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: pytest.fail("fetched"))

    def put(file):
        repository = tmp_path / "hub/models--timm--test_resnet.r160_in1k"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs/main").write_text("abc")
        (repository / "snapshots/abc").mkdir(parents=True)
        return Path(shutil.copy(file, repository / "snapshots/abc/model.safetensors"))

    return put


def tokens_by_hand(state, images, *, last, heads=2):
    """Patch tokens of a vision transformer as its paper has it, behind the last norm, as a grid."""

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-6)

    def linear(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    weight = state["patch_embed.proj.weight"]
    size, grid = weight.shape[-1], images.shape[-1] // weight.shape[-1]
    patches = (
        images.unfold(2, size, size).unfold(3, size, size).permute(0, 2, 3, 1, 4, 5).reshape(-1, grid**2, 3 * size**2)
    )
    x = patches @ weight.flatten(1).T + state["patch_embed.proj.bias"]
    x = torch.cat([state["cls_token"].expand(len(x), -1, -1), x], dim=1) + state["pos_embed"]
    for i in range(last + 1):
        parts = linear(norm(x, f"blocks.{i}.norm1"), f"blocks.{i}.attn.qkv").chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts)
        attention = (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)
        x = x + linear((attention @ v).transpose(1, 2).flatten(2), f"blocks.{i}.attn.proj")
        wide = F.gelu(linear(norm(x, f"blocks.{i}.norm2"), f"blocks.{i}.mlp.fc1"))
        x = x + linear(wide, f"blocks.{i}.mlp.fc2")
    return norm(x, "norm")[:, 1:].transpose(1, 2).unflatten(2, (grid, grid))


@pytest.mark.trains
@pytest.mark.parametrize(("block", "last"), [("", 5), (":2", 2)])
def test_a_transformer_gives_its_patch_tokens_as_a_grid(files, block, last):
    images = torch.rand(2, 3, 160, 160) * 2 - 1  # its mean and standard deviation are those of [-1, 1]
    backbone = load_backbone(f"{VIT}{block}", CPU, weights=str(files[VIT]), size=160)

    maps = backbone.patch_features(images)

    assert backbone.name == f"{VIT}:{last}" and maps.shape == (2, 64, 10, 10)
    assert_close(maps, tokens_by_hand(random_state("test_vit"), images, last=last), rtol=1e-3, atol=1e-4)


@pytest.mark.trains
def test_a_convolutional_network_gives_a_stage_of_its_own(files):
    images = torch.rand(2, 3, 80, 80) * 2 - 1
    whole = timm.create_model("test_resnet").eval()
    whole.load_state_dict(random_state("test_resnet"))
    outputs = {}
    for name in ("layer1", "layer3"):
        getattr(whole, name).register_forward_hook(lambda *args, name=name: outputs.update({name: args[2]}))
    whole(images)  # its mean and standard deviation are those of [-1, 1]

    for block, stage in (("", "layer3"), (":1", "layer1")):
        backbone = load_backbone(f"{CNN}{block}", CPU, weights=str(files[CNN]), size=80)
        assert_close(backbone.patch_features(images), outputs[stage], rtol=1e-4, atol=1e-5)


def test_images_are_enlarged_to_whole_patches_and_shrunk_to_the_only_size_of_a_network(files, monkeypatch):
    images = torch.rand(1, 3, 150, 150) * 2 - 1
    larger = F.interpolate(images, size=(160, 160), mode="bilinear")
    native = load_backbone(VIT, CPU, weights=str(files[VIT]), size=160)
    backbone = load_backbone(VIT, CPU, weights=str(files[VIT]), size=150)
    assert_close(backbone.patch_features(images), native.patch_features(larger), rtol=1e-3, atol=1e-4)
    assert backbone.digest == native.digest  # though its positions are resampled for other sizes
    assert (
        load_backbone(VIT, CPU, weights=str(files[VIT]), size=60).patch_features(images[..., :60, :60]).shape[-1] == 4
    )

    from timm.models import VisionTransformer

    monkeypatch.delattr(VisionTransformer, "set_input_size")  # as of networks that lack it
    fixed = load_backbone(VIT, CPU, weights=str(files[VIT]), size=320)
    double = larger.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    halved = F.interpolate(double, size=(160, 160), mode="bilinear", antialias=True)
    assert_close(fixed.patch_features(double), native.patch_features(halved), rtol=1e-3, atol=1e-4)


@pytest.mark.trains
def test_lite0_of_timm_gives_the_features_of_our_own(tmp_path):
    package = find_source("").file or pytest.skip("needs the extra pretrained")
    stage_of = [f"{stage}.{i}" for stage, depth in enumerate(LITE0_STAGES) for i in range(depth)]
    parts = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
    parts |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    renamed = {}
    for name, tensor in torch.load(package, weights_only=True).items():
        module, _, rest = name.partition(".")
        if module == "_blocks":
            number, part, leaf = rest.split(".")
            name = f"blocks.{stage_of[int(number)]}.{(first if number == '0' else parts)[part]}.{leaf}"
        renamed[name.replace("_conv_stem", "conv_stem").replace("_bn0.", "bn1.")] = tensor
    torch.save(renamed, tmp_path / "lite0.pth")
    images = torch.rand(2, 3, 80, 80, generator=torch.Generator().manual_seed(0)) * 2 - 1

    own = load_backbone("efficientnet_lite0", CPU, size=80).patch_features(images / 1.5)  # it raises the contrast
    theirs = load_backbone("timm:tf_efficientnet_lite0", CPU, weights=str(tmp_path / "lite0.pth"), size=80)
    assert_close(theirs.patch_features(images), own, rtol=1e-3, atol=1e-3)


def test_unknown_names_and_blocks_are_one_line(files):
    with pytest.raises(InputError, match=r"has no model of this name; did you mean .*\bresnet50\b"):
        check_backbone("timm:resnett50", str(files[CNN]))
    with pytest.raises(InputError, match="no model of this name; timm.list_models"):
        check_backbone("timm:qqqqqqqqqq")
    with pytest.raises(InputError, match="test_resnet has the blocks 0 to 4$"):
        load_backbone(f"{CNN}:5", CPU, weights=str(files[CNN]), size=64)


def test_a_size_that_a_network_cannot_take_is_one_line(files, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("not divisible\nby 7")

    monkeypatch.setattr("timm.models.VisionTransformer.set_input_size", refuse)
    with pytest.raises(
        InputError, match=r"takes no images of 64 pixels \(AssertionError not .*\): .*--isize$"
    ) as caught:
        load_backbone(VIT, CPU, weights=str(files[VIT]), size=64)
    assert "\n" not in str(caught.value)


def test_without_timm_a_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r'--backbone timm:resnet50 needs .*: pip install -e ".*\[timm\]"$'):
        check_backbone("timm:resnet50")


def test_weights_of_another_network_are_refused(files, tmp_path):
    with pytest.raises(
        InputError, match=r"timm:test_resnet and its weights .*: conv1\.0\.weight is missing, .* more do"
    ):
        load_backbone(CNN, CPU, weights=str(files[VIT]), size=64)
    torch.save({**random_state("test_vit"), "pos_embed": torch.zeros(3)}, tmp_path / "odd.pth")
    with pytest.raises(InputError, match="odd.pth: its tensors are of another network") as caught:
        load_backbone(VIT, CPU, weights=str(tmp_path / "odd.pth"), size=64)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="absent: there is no such file; --backbone_weights takes"):
        check_backbone(CNN, "absent")


def test_weights_are_never_fetched_without_being_asked(hub, files):
    for refused in (lambda: check_backbone(CNN), lambda: load_backbone(CNN, CPU, size=64)):
        with pytest.raises(InputError, match=r"not on this machine: fetch http\S*test_resnet\S*model.safetensors and"):
            refused()
    check_backbone(CNN, "download")  # fetches nothing yet
    hub(files["other"])
    cached = load_backbone(CNN, CPU, size=64)
    assert cached.digest == load_backbone(CNN, CPU, weights="download", size=64).digest  # which is there already
    assert cached.digest == load_backbone(CNN, CPU, weights=str(files["other"]), size=64).digest


def test_weights_are_fetched_on_demand(hub, files, monkeypatch):
    from huggingface_hub.errors import EntryNotFoundError

    asked = []

    def download(repository, name):
        asked.append((repository, name))
        if name == "model.safetensors":
            raise EntryNotFoundError("404")
        return str(files[CNN])

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert load_backbone(CNN, CPU, weights="download", size=64).name == f"{CNN}:3"
    assert asked == [("timm/test_resnet.r160_in1k", name) for name in ("model.safetensors", "pytorch_model.bin")]

    def fail(*_):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(InputError, match="cannot be downloaded .*no route.* fetch http") as caught:
        load_backbone(CNN, CPU, weights="download", size=64)
    assert "\n" not in str(caught.value)


def test_models_without_weights_on_the_hub_are_no_dead_end(monkeypatch):
    for config, advice in (
        (SimpleNamespace(hf_hub_id=None, url="https://x/y"), "fetch https://x/y and"),
        (None, "none"),
    ):
        monkeypatch.setattr("timm.models.get_pretrained_cfg", lambda _, config=config: config)
        for weights in (None, "download"):
            with pytest.raises(InputError, match=f"{advice}.* give their file as --backbone_weights FILE"):
                check_backbone(CNN, weights)


def test_every_command_scores_with_the_remembered_file(runs, data, tmp_path, monkeypatch):
    model = runs[VIT] / "model.tar"
    facts = read_tar(model)["backbone"]
    assert facts["name"] == f"{VIT}:5" and len(facts["digest"]) == 64
    expected = sorted(score(tmp_path / "xp", data, "--load_model", model))
    assert len(set(expected)) == 6
    monkeypatch.chdir(tmp_path)

    command = ["predict", "--load_model", model, "--device", "cpu", "--out", "scores.csv", data / "test"]
    assert invoke(main, *command).exit_code == 0
    assert sorted(float(row["score"]) for row in read_csv(Path("scores.csv"))) == pytest.approx(expected, abs=1e-4)
    films = sorted((data / "val").rglob("*.png"))
    assert invoke(main, "enrol", model, *films, "--device", "cpu", "--out", "new.tar").exit_code == 0
    assert read_tar(Path("new.tar"))["backbone"] == facts
    detector = Detector.load("new.tar", device="cpu")
    assert detector.backbone == VIT and detector.explain(films[0]).score_map is not None


def test_a_transformer_is_exported_for_batches_of_any_size(files):
    backbone = load_backbone(VIT, CPU, weights=str(files[VIT]), size=60)

    class Portable(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = backbone

        def forward(self, images):
            return self.backbone.patch_features(images)

    images = torch.rand(3, 3, 60, 60) * 2 - 1
    with torch.no_grad():
        batch = {"images": {0: torch.export.Dim("batch")}}
        program = torch.export.export(Portable(), (images[:2],), dynamic_shapes=batch)
    assert_close(program.module()(images), backbone.patch_features(images), rtol=1e-4, atol=1e-5)


def test_other_weights_are_refused_and_a_moved_file_is_asked_for(runs, data, files, tmp_path):
    digest = read_tar(runs[CNN] / "model.tar")["backbone"]["digest"][:12]
    command = [
        "predict",
        "--load_model",
        runs[CNN] / "model.tar",
        "--device",
        "cpu",
        data / "test",
        "--backbone_weights",
    ]
    line = stopped(invoke(main, *command, files["other"]))
    assert f"{CNN}:3 of the digest {digest}" in line and "--backbone_weights" in line
    moved = shutil.copy(files[CNN], tmp_path / "moved.pth")
    words = ["CXR_author", "unet", tmp_path / "xp", data, *TINY, *QUICK, "--backbone", CNN]
    assert invoke(cli.train, *words, "--backbone_weights", moved).exit_code == 0
    moved.unlink()
    command[2] = tmp_path / "xp/model.tar"
    assert f"{moved}: there is no such file; --backbone_weights takes" in stopped(invoke(main, *command[:-1]))
    assert invoke(main, *command, files[CNN]).exit_code == 0


def test_a_model_that_changed_its_backbone_is_saved_with_the_memory_of_the_new_one(runs, data, files, tmp_path):
    other = {"backbone": VIT, "backbone_weights": str(files[VIT]), "data_path": data}
    detector = Detector.load(runs[CNN] / "model.tar", device="cpu", **other)
    films = sorted((data / "test").rglob("*.png"))
    scores = detector.score(films)
    detector.save(tmp_path / "model.tar")

    again = Detector.load(tmp_path / "model.tar", device="cpu")
    assert again.score(films) == pytest.approx(scores, rel=1e-4)
    assert again.explain(films[0]).score_map is not None  # of the new memory: the finer one is of the former backbone
    assert read_tar(tmp_path / "model.tar")["backbone"]["name"] == f"{VIT}:5"


def test_what_was_fetched_in_training_is_not_fetched_in_scoring(hub, files, data, tmp_path):
    held = hub(files["other"])
    words = ["CXR_author", "unet", tmp_path / "xp", data, *TINY, *QUICK, "--backbone", CNN]
    assert invoke(cli.train, *words, "--backbone_weights", "download").exit_code == 0
    command = ["predict", "--load_model", tmp_path / "xp/model.tar", "--device", "cpu", data / "test"]
    assert invoke(main, *command).exit_code == 0
    held.unlink()
    assert "weights, which are not on this machine" in stopped(invoke(main, *command))


def test_a_run_goes_on_with_the_weights_that_it_began_with(files, data, tmp_path):
    options = ["--score", "fused", "--backbone", CNN, "--backbone_weights"]
    train(tmp_path, data, *options, files[CNN])
    again = ["CXR_author", "unet", tmp_path, data, *SHORT, *options]
    line = stopped(invoke(cli.train, *again, files["other"], "--n_epochs", 2, "--resume"))
    assert "last.tar was made with timm:test_resnet:3 of the digest" in line
    moved = shutil.copy(files[CNN], tmp_path / "moved.pth")
    assert invoke(cli.train, *again, moved, "--n_epochs", 2, "--resume").exit_code == 0
