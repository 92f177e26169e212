import functools

import pytest
import torch
import torch.nn.functional as F
from naming_rule import CHECKPOINT_KEYS
from torch.testing import assert_close

from salad.errors import InputError
from salad.networks import NETWORKS, build_network, network_spec
from salad.networks.compiled import compile_network
from salad.networks.layers import BatchNorm2d, upsample
from salad.networks.resnet18 import ResidualBlock, UpsamplingBlock
from salad.networks.unet import Up

pytestmark = pytest.mark.trains

SMALLEST = {"unet": 64, "CXR_resnet18": 16}
SIZES = [("unet", 64), ("unet", 128), ("CXR_resnet18", 16), ("CXR_resnet18", 64)]
NEVER_USED = tuple(f"decoder.decoder.{block}.conv1." for block in (2, 4, 6))  # of CXR_resnet18


def build(name, *, isize, rep_dim=12, seed=0):
    torch.manual_seed(seed)
    return build_network(name, rep_dim=rep_dim, isize=isize)


def images(num, size):
    return torch.rand(num, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(params=list(CHECKPOINT_KEYS))
def name(request):
    return request.param


@pytest.mark.parametrize(("name", "isize"), SIZES)
def test_shapes_and_ranges(name, isize):
    network, inputs = build(name, isize=isize), images(2, isize)
    z, recon = network(inputs)
    assert z.shape == (2, 12)
    assert recon.shape == inputs.shape
    assert_close(z.norm(dim=1), torch.ones(2))
    assert recon.abs().max() <= 1
    assert recon.std() > 1e-3


def test_batch_of_one_trains_at_the_smallest_size(name):
    network = build(name, isize=SMALLEST[name]).train()
    z, recon = network(images(1, SMALLEST[name]))
    (z.square().sum() + recon.square().sum() + z.sum()).backward()
    assert all(one.grad is not None and one.grad.isfinite().all() for one in network.parameters())


def test_encode_gives_z_in_eval_mode(name):
    network, inputs = build(name, isize=64).eval(), images(3, 64)
    with torch.no_grad():
        assert_close(network.encode(inputs), network(inputs)[0])


def test_eval_mode_treats_images_one_by_one(name):
    network, inputs = build(name, isize=64).eval(), images(3, 64)
    with torch.no_grad():
        together, alone = network(inputs), [network(one[None]) for one in inputs]
    for part, pieces in zip(together, zip(*alone, strict=True), strict=True):
        assert_close(part, torch.cat(pieces), rtol=1e-4, atol=1e-5)


def test_inputs_stay_as_they_were(name):
    network, inputs = build(name, isize=64), images(2, 64)
    before = inputs.clone()
    network(inputs)
    assert torch.equal(inputs, before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_only_what_is_inside_is_rounded(name, dtype):
    network, inputs = build(name, isize=64).eval(), images(3, 64)
    inside = []
    (network.d6 if name == "unet" else network.decoder.decoder[7]).register_forward_hook(
        lambda *args: inside.append(args[2].dtype)
    )
    with torch.no_grad():
        exact = network(inputs)
        with torch.autocast("cpu", dtype=dtype):
            z, recon = network(inputs)
    assert inside == [torch.float32, dtype]
    assert z.dtype == recon.dtype == torch.float32
    assert_close(z.norm(dim=1), torch.ones(3))
    assert_close((z, recon), exact, rtol=0, atol=0.05)
    assert not torch.equal(z, exact[0])


def plainly(network):
    """Compiled without a compiler: traced, then run as it stands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
        assert compile_network(network, torch.device("cpu"))
    return network


@pytest.mark.slow
def test_a_compiled_network_is_the_same_network(name):
    network, inputs = build(name, isize=64).eval(), images(2, 64)
    names = list(network.state_dict())
    with torch.no_grad():
        expected = network(inputs)
        plainly(network)
        assert_close(network(inputs), expected)
        assert_close(network.encode(inputs), expected[0])
    assert list(network.state_dict()) == names


def test_without_a_compiler_a_network_runs_as_it_is(name, monkeypatch, caplog):
    def missing(*_, **__):
        raise RuntimeError("no C++ compiler\nmany lines")

    network = build(name, isize=64).eval()
    monkeypatch.setattr(torch, "compile", missing)
    assert not compile_network(network, torch.device("cpu"))
    assert [one.getMessage() for one in caplog.records] == [
        "--compile is not possible here, so the network runs uncompiled: no C++ compiler"
    ]
    with torch.no_grad():
        assert network(images(1, 64))[0].isfinite().all()


def is_used(name):
    return not name.startswith(NEVER_USED)


def test_number_of_parameters():
    counts = {name: 0 for name in CHECKPOINT_KEYS}
    for name in CHECKPOINT_KEYS:
        network = build(name, isize=NETWORKS[name].default_isize, rep_dim=200)
        counts[name] = sum(one.numel() for one in network.parameters())
    unused = {one: shape for one, shape in CHECKPOINT_KEYS["CXR_resnet18"].items() if not is_used(one)}
    extra = sum(torch.Size(shape).numel() for one, shape in unused.items() if one.endswith((".weight", ".bias")))
    assert round(counts["unet"] / 1e6, 1) == 32.4
    assert round((counts["CXR_resnet18"] + extra) / 1e6, 1) == 24.8  # published files count what is never used


def test_names_and_shapes_are_those_of_the_published_files(name):
    own = build(name, isize=NETWORKS[name].default_isize, rep_dim=200).state_dict()
    expected = {one: torch.Size(shape) for one, shape in CHECKPOINT_KEYS[name].items() if is_used(one)}
    assert {one: tensor.shape for one, tensor in own.items()} == expected


@pytest.mark.parametrize(
    ("name", "isize", "nearest"),
    [("unet", 100, 128), ("unet", 1, 64), ("unet", 270, 256), ("CXR_resnet18", 8, 16), ("CXR_resnet18", 225, 224)],
)
def test_unfit_size(name, isize, nearest):
    multiple = {"unet": 64, "CXR_resnet18": 16}[name]
    with pytest.raises(InputError, match=f"^--isize is {isize}, but {name} needs a multiple of {multiple}: {nearest},"):
        build(name, isize=isize)


def test_unknown_network():
    with pytest.raises(InputError, match="'resnet'.*unet, CXR_resnet18"):
        network_spec("resnet")
    with pytest.raises(InputError, match="'resnet'"):
        build("resnet", isize=64)


def test_seed_decides_the_start(name):
    one, same, other = (build(name, isize=64, seed=seed) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def randomise(block):
    """Weights and statistics in which no term vanishes, in float64 and eval mode."""
    generator = torch.Generator().manual_seed(0)
    for tensor in block.double().state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=torch.float64) + 0.1)
    return block.eval()


def maps(width, size=5):
    return torch.randn(2, width, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_unet_upsampling_may_convolve_first():
    block, inputs = randomise(Up(6, 3)), maps(6)
    late = block.conv(block.up["2"](block.up["1"](upsample(inputs))))
    assert_close(block(inputs), late, rtol=1e-10, atol=1e-10)


def test_resnet_upsampling_block_follows_the_published_order():
    block, inputs = randomise(UpsamplingBlock(6, 3)), maps(6)
    u = F.relu(block.upsampleLayer["2"](block.upsampleLayer["1"](upsample(inputs))))
    assert_close(block(inputs), F.relu(block.bnrm(block.conv2(u)) + u), rtol=1e-10, atol=1e-10)


def test_residual_block_passes_its_input_on():
    block, inputs = randomise(ResidualBlock(4)), maps(4)
    block.bnrm.weight.data.zero_()
    block.bnrm.bias.data.zero_()
    assert_close(block(inputs), F.relu(inputs))


def test_upsample_keeps_the_corners():
    inputs = maps(1, size=3)
    doubled = upsample(inputs)
    assert doubled.shape == (2, 1, 6, 6)
    assert_close(doubled[:, :, ::5, ::5], inputs[:, :, ::2, ::2])
    ramp = torch.arange(3.0).expand(1, 1, 3, 3)
    assert_close(upsample(ramp)[0, 0, 0], torch.linspace(0, 2, 6))


def test_batch_norm_of_a_single_value_uses_running_statistics():
    layer, plain = BatchNorm2d(4), torch.nn.BatchNorm2d(4)
    layer.running_mean.fill_(0.5)
    layer.running_var.fill_(4.0)
    single = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1)
    assert_close(layer(single).flatten(), (single.flatten() - 0.5) / 2, rtol=1e-4, atol=1e-4)
    assert layer.running_mean.tolist() == [0.5] * 4
    several = torch.randn(2, 4, 1, 1)
    assert_close(layer(several), plain(several))
