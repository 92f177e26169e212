import pytest
import torch
from torch.testing import assert_close

from salad.datasets.augment import (
    AUGMENTATIONS,
    Augmentation,
    Blur,
    CropAndRotate,
    Cutout,
    HorizontalFlip,
    IntensityJitter,
    LocalPixelShuffle,
    Noise,
    to_network,
)

TRANSFORMS = [HorizontalFlip, CropAndRotate, IntensityJitter, Blur, Noise, Cutout, LocalPixelShuffle]
SIZE = 64


def films(num=4, size=SIZE, *, seed=0):
    """uint8 noise on a ramp: no two pixels of a row are alike on average, nothing is symmetric."""
    noise = torch.randint(0, 100, (num, 1, size, size), generator=torch.Generator().manual_seed(seed))
    return (noise + torch.linspace(0, 155, size)).to(torch.uint8)


def surely(transform):
    """The transform with every image drawn."""
    one = transform()
    one.chance = 1.0
    return one


@pytest.fixture(params=TRANSFORMS, ids=lambda one: one.__name__)
def transform(request):
    return request.param


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
@pytest.mark.parametrize("num_views", [1, 3])
def test_views_have_the_form_of_network_input(name, num_views):
    inputs, targets = AUGMENTATIONS[name].views(films(), num_views=num_views)
    for images in (inputs, targets):
        assert images.shape == (4 * num_views, 3, SIZE, SIZE)
        assert images.dtype == torch.float32
        assert images.abs().max() <= 1 + 1e-5
        assert images.min() < -0.5
        assert images.max() > 0.3
        assert torch.equal(images[:, 0], images[:, 2])


def test_to_network_maps_black_to_minus_one_and_white_to_one():
    assert to_network(torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3))[0, :, 0].tolist() == [[-1, 0, 1]] * 3


def test_flip_reconstructs_its_own_input():
    torch.manual_seed(0)
    inputs, targets = AUGMENTATIONS["flip"].views(films(), num_views=2)
    assert torch.equal(inputs, targets)


def test_flip_mirrors_about_half_of_the_images_and_does_nothing_else():
    torch.manual_seed(0)
    grey = films(200, 8)
    plain = to_network(grey / 255)
    inputs, _ = AUGMENTATIONS["flip"].views(grey, num_views=1)
    mirrored = (inputs == plain.flip(-1)).flatten(1).all(dim=1)
    same = (inputs == plain).flatten(1).all(dim=1)
    assert (mirrored ^ same).all()
    assert 70 <= mirrored.sum() <= 130


def test_ssl_input_differs_from_its_target():
    torch.manual_seed(0)
    inputs, targets = AUGMENTATIONS["ssl"].views(films(), num_views=2)
    assert ((inputs - targets).abs().amax(dim=(1, 2, 3)) > 0.01).all()


def test_images_of_a_batch_are_drawn_one_by_one(transform):
    torch.manual_seed(0)
    image = films(1) / 255
    changed = surely(transform)(image.expand(6, -1, -1, -1))
    if transform is HorizontalFlip:  # its only freedom is whether
        changed = transform()(image.expand(20, -1, -1, -1))
        assert len(changed.flatten(1).unique(dim=0)) == 2
    else:
        assert len(changed.flatten(1).unique(dim=0)) == 6


def test_an_image_is_changed_by_chance(transform):
    torch.manual_seed(0)
    images = films(200, 32) / 255
    share = (transform()(images) != images).flatten(1).any(dim=1).double().mean()
    assert share.item() == pytest.approx(transform.chance, abs=0.12)


def test_views_of_an_image_lie_side_by_side():
    grey = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(-1, -1, SIZE, SIZE) * 50
    plain = Augmentation(CropAndRotate(), torch.nn.Identity())  # leaves a constant image alone
    inputs, targets = plain.views(grey, num_views=3)
    image = torch.arange(15) // 3
    expected = (image * 50 / 255 * 2 - 1).view(-1, 1, 1, 1).expand_as(inputs)
    assert_close(inputs, expected, atol=1e-5, rtol=0)
    assert_close(targets, expected, atol=1e-5, rtol=0)


def test_views_of_an_image_differ():
    torch.manual_seed(0)
    inputs, _ = AUGMENTATIONS["ssl"].views(films(1), num_views=4)
    assert len(inputs.flatten(1).unique(dim=0)) == 4


@pytest.mark.parametrize("size", [16, 30, 32, 64, 97])
def test_transforms_keep_shape_and_range(transform, size):
    torch.manual_seed(0)
    for low, high in ((0, 255), (0, 1), (254, 255)):
        extreme = torch.where(films(6, size) % 2 == 0, low, high) / 255
        changed = surely(transform)(extreme)
        assert changed.shape == extreme.shape
        assert changed.dtype == torch.float32
        assert changed.min() >= -1e-6
        assert changed.max() <= 1 + 1e-6


def test_transforms_do_not_write_into_their_input(transform):
    images = films() / 255
    before = images.clone()
    surely(transform)(images)
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_equal_seeds_give_equal_views(name):
    def draw(seed):
        torch.manual_seed(seed)
        return AUGMENTATIONS[name].views(films(), num_views=2)[0]

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


@pytest.mark.parametrize("size", [16, 32, 64, 97])
def test_local_pixel_shuffle_keeps_the_pixels(size):
    torch.manual_seed(0)
    images = films(4, size) / 255
    shuffled = surely(LocalPixelShuffle)(images)
    assert torch.equal(shuffled.flatten(1).sort().values, images.flatten(1).sort().values)


def test_local_pixel_shuffle_stays_within_its_blocks():
    torch.manual_seed(0)
    images = films() / 255
    shuffled = surely(LocalPixelShuffle)(images)
    blocks, moved = (x.unfold(2, 4, 4).unfold(3, 4, 4).flatten(-2) for x in (images, shuffled))  # 64 / 16 = 4 pixels
    assert torch.equal(blocks.sort().values, moved.sort().values)
    share = (blocks != moved).any(dim=-1).double().mean().item()
    assert share == pytest.approx(LocalPixelShuffle.block_share, abs=0.06)


def test_crop_and_rotate_leaves_a_constant_image_alone():
    for level in (0.0, 0.3, 1.0):
        image = torch.full((5, 1, SIZE, SIZE), level)
        assert_close(CropAndRotate()(image), image, atol=1e-6, rtol=0)


def test_crop_and_rotate_magnifies_by_a_third_at_most():
    torch.manual_seed(0)
    ramp = torch.linspace(0, 1, SIZE).expand(50, 1, SIZE, SIZE)
    slope = (CropAndRotate()(ramp)[:, 0, 20:44, 20:44].diff(dim=-1) * (SIZE - 1)).mean(dim=(1, 2))
    assert 0.73 <= slope.min() < 0.8  # the widest window is whole, the narrowest 0.75 of a side; cos 8 degrees = 0.99
    assert 0.95 < slope.max() <= 1.001


def test_blur_keeps_a_constant_image_and_lowers_contrast():
    assert_close(surely(Blur)(torch.full((3, 1, 32, 32), 0.4)), torch.full((3, 1, 32, 32), 0.4))
    images = films() / 255
    assert (surely(Blur)(images).std(dim=(2, 3)) < images.std(dim=(2, 3))).all()


def test_blur_is_separable_gaussian():
    point = torch.zeros(1, 1, SIZE, SIZE)
    point[..., 20, 30] = 1
    torch.manual_seed(0)
    spot = surely(Blur)(point)[0, 0]
    assert_close(spot.sum(), torch.tensor(1.0))
    assert spot.argmax() == 20 * SIZE + 30
    assert_close(spot, spot.sum(dim=1, keepdim=True) * spot.sum(dim=0, keepdim=True))
    assert_close(spot[20, 30:33], spot[20:23, 30])


def test_cutout_paints_one_rectangle_in_one_level():
    torch.manual_seed(0)
    images = films() / 255
    for before, after in zip(images, surely(Cutout)(images), strict=True):
        rows, columns = ((before != after)[0]).nonzero(as_tuple=True)
        box = after[0, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert box.unique().numel() == 1
        assert box.numel() >= len(rows) > 0.9 * box.numel()  # a pixel may have had that level before
        assert max(box.shape) <= 0.3 * SIZE + 1


def test_noise_strength():
    torch.manual_seed(0)
    flat = torch.full((100, 1, 32, 32), 0.5)
    spread = surely(Noise)(flat).std(dim=(2, 3))
    assert 0.008 < spread.min() < 0.02
    assert 0.05 < spread.max() < 0.07
