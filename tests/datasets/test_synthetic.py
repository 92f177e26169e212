import pytest
import torch
from running import read_json, read_tar, score, train, without_timings
from torch.testing import assert_close

from salad.datasets import phantom
from salad.datasets.synthetic import KINDS, _parts, coarsen, corrupt, haze, reticular
from salad.losses.synthetic import synthetic_loss
from salad.networks import build_network
from salad.networks.anomaly_head import AnomalyHead, TrainedModule

pytestmark = pytest.mark.trains


@pytest.fixture
def lungs():
    """Two dark ovals on a light ground, (32, 1, 64, 64) in [0, 1]."""
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    inside = ((columns.abs() - 0.42) / 0.25) ** 2 + (rows / 0.7) ** 2 < 1
    return torch.where(inside, 0.3, 0.7).expand(32, 1, -1, -1) + 0.02 * torch.rand(32, 1, 64, 64)


@pytest.mark.parametrize("draw", KINDS, ids=lambda draw: draw.__name__)
def test_anomalies_lie_in_the_lungs_and_make_them_lighter(lungs, draw):
    torch.manual_seed(0)
    images, mask = draw(lungs)
    assert images.shape == mask.shape == lungs.shape
    assert mask.min() >= 0 and mask.max() <= 1 and images.min() >= 0 and images.max() <= 1
    dark = lungs < 0.5
    assert mask[dark].mean() > 3 * mask[~dark].mean()
    assert (images - lungs)[dark].mean() > 0.001
    assert_close(images[mask < 1e-3], lungs[mask < 1e-3], atol=1e-2, rtol=0)
    assert len({round(one.sum().item(), 3) for one in mask}) == 32  # each has its own


def test_reticular_texture_adds_detail_and_haze_takes_it_away(lungs):
    """Of lungs with a texture of their own, in the mean over all images."""
    textured = (lungs + 0.05 * torch.randn_like(lungs)).clamp(0, 1)

    def detail(images):
        return (images[..., 1:] - images[..., :-1]).abs()

    changes = {}
    for draw in (reticular, haze):
        torch.manual_seed(0)
        images, mask = draw(textured)
        changes[draw] = (detail(images) - detail(textured))[mask[..., 1:] > 0.3].mean()
    assert changes[reticular] > 0 > changes[haze]


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_half_of_the_images_are_corrupted_and_grey_levels_tell_nothing(lungs, count):
    torch.manual_seed(0)
    corrupted, clean = 0, lungs.repeat(2, 1, 1, 1)[:count]
    for _ in range(200 // count):
        images, mask = corrupt(clean)
        is_corrupted = mask.amax(dim=(1, 2, 3)) > 0
        assert int(is_corrupted.sum()) in {count // 2, -(-count // 2)}
        corrupted += int(is_corrupted.sum())
        assert_close(images.mean(dim=(1, 2, 3)), clean.mean(dim=(1, 2, 3)), atol=0.01, rtol=0)
        assert_close(images.std(dim=(1, 2, 3)), clean.std(dim=(1, 2, 3)), atol=0.02, rtol=0)
    assert corrupted / (count * (200 // count)) == pytest.approx(0.5, abs=0.1)


def test_every_kind_is_drawn_by_its_share():
    torch.manual_seed(0)
    counts = torch.tensor([[part.stop - part.start for part in _parts(16)] for _ in range(500)])
    assert counts.sum(dim=1).float().mean() == pytest.approx(8, abs=0.1)
    assert (counts.float().mean(dim=0) / 8).tolist() == pytest.approx([*KINDS.values()], abs=0.01)


@pytest.mark.parametrize("size", [64, 33, 1])
def test_about_half_of_the_images_become_coarser_and_the_others_stay(size):
    torch.manual_seed(0)
    images = torch.rand(64, 1, size, size)
    found = coarsen(images)
    is_kept = (found == images).flatten(1).all(dim=1)
    assert found.shape == images.shape
    assert size == 1 or 16 <= is_kept.sum() <= 48
    detail = [(one[..., 1:] - one[..., :-1]).abs().mean(dim=(1, 2, 3)) for one in (images, found)]
    assert size == 1 or (detail[1] < detail[0])[~is_kept].all() and (detail[1] < 0.3 * detail[0]).any()
    assert_close(found.mean(dim=(1, 2, 3)), images.mean(dim=(1, 2, 3)), atol=0.02, rtol=0)


def test_the_loss_is_that_of_both_questions():
    cells, in_image = torch.tensor([[[[0.5, -1.0]]], [[[2.0, 0.0]]]]), torch.tensor([1.0, -2.0])
    mask = torch.tensor([[[[0.2, 0.4, 0.0, 0.0]]], [[[0.0, 0.0, 0.0, 0.0]]]])
    found = synthetic_loss(cells, in_image, mask=mask)
    log = torch.nn.functional.logsigmoid
    places = [0.3 * log(torch.tensor(0.5)) + 0.7 * log(torch.tensor(-0.5)), log(torch.tensor(1.0))]
    places += [log(torch.tensor(-2.0)), log(torch.tensor(0.0))]
    image = [log(torch.tensor(1.0)), log(torch.tensor(2.0))]
    assert_close(found, -torch.stack(places).mean() - torch.stack(image).mean())


@pytest.mark.parametrize(("name", "channels"), [("unet", 192), ("CXR_resnet18", 384)])
def test_the_head_trains_the_encoder_and_nothing_behind_its_patch_features(name, channels):
    torch.manual_seed(0)
    network, head = build_network(name, rep_dim=8, isize=64), AnomalyHead(channels)
    module = TrainedModule(network, head, embeds=True, decodes=False)
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    z, recon, found = module(images, images)
    assert recon is None
    assert (found.cells.shape, found.image.shape) == ((2, 1, 8, 8), (2,))
    synthetic_loss(*found, mask=torch.rand(2, 1, 64, 64)).backward()
    trained = {name for name, one in module.named_parameters() if one.grad is not None}
    first, last = {"unet": ("input.", "feat."), "CXR_resnet18": ("encoder.conv1", "encoder.fc")}[name]
    assert any(one.startswith(f"network.{first}") for one in trained)
    assert not any(one.startswith(f"network.{last}") for one in trained)
    assert_close(z.norm(dim=1), torch.ones(2))
    z, recon, _ = TrainedModule(network, head, embeds=False, decodes=False)(images, images)
    assert z is None and recon is None


def test_without_a_head_nothing_is_looked_for():
    network, images = build_network("unet", rep_dim=8, isize=64), torch.rand(2, 3, 64, 64)
    z, recon, found = TrainedModule(network, None, decodes=True)(images, None)
    assert found is None and recon.shape == images.shape and z.shape == (2, 8)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "data"
    phantom.write_phantom(root, size=32, num_train=12, num_val=3, num_test=3)
    return root


ALONE = ["--w_syn", 1, "--w_rec", 0, "--w_svdd", 0, "--w_contrast", 0, "--score", "local", "--deterministic"]


def test_it_can_be_all_that_trains(data, tmp_path):
    lines = train(tmp_path / "xp", data, *ALONE, "--n_epochs", 2)
    assert len(lines) == 2  # one round, without anchors
    for line in lines:
        assert line["loss"] == pytest.approx(line["syn"]) and 0 < line["syn"] < 3
        assert not line.keys() & {"rec", "aggregation", "svdd", "spread"}
    score(tmp_path / "xp", data)
    assert read_json(tmp_path / "xp/metrics.json")["score"] == "local"


@pytest.mark.slow
def test_a_resumed_run_has_the_head_that_it_had(data, tmp_path):
    whole = train(tmp_path / "whole", data, *ALONE, "--n_epochs", 3)
    train(tmp_path / "parts", data, *ALONE, "--n_epochs", 1)
    parts = train(tmp_path / "parts", data, *ALONE, "--n_epochs", 3, "--resume")
    assert without_timings(parts) == without_timings(whole)
    for name, tensor in read_tar(tmp_path / "whole/last.tar")["model_state_dict"].items():
        assert torch.equal(tensor, read_tar(tmp_path / "parts/last.tar")["model_state_dict"][name]), name


def test_it_joins_the_other_losses_but_not_the_pre_training(data, tmp_path):
    lines = train(tmp_path, data, "--w_syn", 0.5, "--pre_training_epochs", 1)
    assert "syn" not in lines[0]
    for line in lines[1:]:
        weighted = 0.5 * line["rec"] + line["aggregation"] + 0.5 * line["svdd"] + 0.5 * line["syn"]
        assert line["loss"] == pytest.approx(weighted, rel=1e-4)
