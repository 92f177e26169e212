import logging
import socket
from pathlib import Path

import pytest
import torch
from running import CPU
from torchvision.models import ResNet18_Weights, resnet18

from salad.build import RunContext
from salad.config import Config
from salad.errors import InputError
from salad.networks import build_network
from salad.networks import weights as initial

TRUNK_SAMPLES = ("conv1.weight", "bn1.running_var", "layer2.0.downsample.0.weight", "layer4.1.bn2.bias")


def build(weights, *, name="CXR_resnet18", isize=16, seed=0):
    torch.manual_seed(seed)
    return build_network(name, rep_dim=5, isize=isize, weights=weights)


@pytest.fixture
def state():
    """A ResNet-18 of ImageNet's 1000 classes, with numbers of its own in every tensor."""
    torch.manual_seed(1)
    state = resnet18().state_dict()
    return {name: torch.rand_like(one) if one.is_floating_point() else one + 3 for name, one in state.items()}


def assert_trunk_is(network, state):
    own = network.encoder.state_dict()
    assert all(torch.equal(own[name], state[name]) for name in TRUNK_SAMPLES)


def test_file(tmp_path, state):
    torch.save(state, tmp_path / "resnet18.pth")
    network = build(str(tmp_path / "resnet18.pth"))
    assert_trunk_is(network, state)
    assert network.weights_loaded == str(tmp_path / "resnet18.pth")


def test_last_layer_stays_as_it_was(tmp_path, state):
    torch.save(state, tmp_path / "resnet18.pth")
    loaded, plain = build(str(tmp_path / "resnet18.pth")), build(None)
    assert torch.equal(loaded.encoder.fc.weight, plain.encoder.fc.weight)
    assert loaded.encoder.fc.weight.shape == (5, 512)


def test_imagenet_from_the_cache_of_torch(torch_home, state):
    torch.save(state, torch_home)
    network = build("imagenet")
    assert_trunk_is(network, state)
    assert network.weights_loaded == "imagenet"


@pytest.mark.parametrize("source", ["imagenet", "file"])
def test_state_dict_of_before_torch_0_4_1(torch_home, state, source):
    torch.save({name: one for name, one in state.items() if not name.endswith("num_batches_tracked")}, torch_home)
    assert_trunk_is(build("imagenet" if source == "imagenet" else str(torch_home)), state)


def test_imagenet_out_of_reach_warns_and_starts_at_random(torch_home, caplog):
    network = build("imagenet")
    assert network.weights_loaded == "none"
    assert torch.equal(network.encoder.conv1.weight, build(None).encoder.conv1.weight)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    for part in ("no route to host", ResNet18_Weights.IMAGENET1K_V1.url, str(torch_home.parent), "--weights"):
        assert part in record.getMessage()
    assert "\n" not in record.getMessage()


def test_what_torch_says_of_a_download_goes_to_stderr(torch_home, capsys):
    build("imagenet")
    said = capsys.readouterr()
    assert said.out == "" and ResNet18_Weights.IMAGENET1K_V1.url in said.err


def test_a_user_without_a_home_gets_no_folder_of_that_name(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "~/.cache/torch/hub")  # as torch has it then
    monkeypatch.setattr(
        initial.ResNet18_Weights, "get_state_dict", lambda _, **how: seen.append(how["model_dir"]) or {}
    )
    assert initial._fetch_imagenet() == {}
    assert Path(seen[0]).is_absolute()


def test_fetching_leaves_the_timeout_of_sockets_alone(torch_home):
    before = socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(7.0)
        build("imagenet")
        assert socket.getdefaulttimeout() == 7.0
    finally:
        socket.setdefaulttimeout(before)


@pytest.mark.parametrize("content", [b"", b"<html>quota exceeded</html>", b"PK\x03\x04 cut off"])
def test_damaged_file_in_the_cache_of_torch(torch_home, content):
    torch_home.write_bytes(content)
    try:
        assert build("imagenet").weights_loaded == "none"
    except InputError as error:  # either way out is fine, a traceback is not
        assert str(torch_home) in str(error)


def test_no_weights_are_recorded_as_none():
    assert build(None).weights_loaded == "none"


def test_option_none_starts_at_random_without_a_warning(torch_home, caplog):
    config = Config.of(
        {"dataset_name": "CXR_author", "net_name": "CXR_resnet18", "xp_path": Path(), "data_path": Path(), "isize": 16}
    )
    default = RunContext(config=config, device=CPU).start_network(None)
    assert len(caplog.records) == 1  # imagenet is the default, and out of reach
    network = RunContext(config=config.changed(weights="none"), device=CPU).start_network(None)
    assert len(caplog.records) == 1
    assert default.weights_loaded == network.weights_loaded == "none"


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"--weights .*absent\.pth: there is no such file"):
        build(str(tmp_path / "absent.pth"))


@pytest.mark.parametrize("content", [b"", b"not a state dict", b"PK\x03\x04 cut off"])
def test_damaged_file(tmp_path, content):
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"weights\.pth") as caught:
        build(str(tmp_path / "weights.pth"))
    assert "\n" not in str(caught.value)


def test_folder_in_place_of_a_file(tmp_path):
    with pytest.raises(InputError, match="--weights"):
        build(str(tmp_path))


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": {}}, torch.zeros(2)])
def test_file_that_holds_no_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(InputError, match="holds no plain state dict"):
        build(str(tmp_path / "weights.pth"))


def test_state_dict_of_another_network(tmp_path, state):
    state["layer3.0.conv1.weight"] = torch.zeros(3)
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"weights\.pth.*layer3\.0\.conv1\.weight"):
        build(str(tmp_path / "weights.pth"))


def test_unet_takes_no_weights():
    with pytest.raises(InputError, match="--weights imagenet.*unet has none"):
        build("imagenet", name="unet", isize=64)
