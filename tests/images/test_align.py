"""Framing by the mean normal image: what the fit finds, and what `Preprocessing` makes of it."""

import numpy as np
import pytest
import torch

from salad.datasets.phantom import draw_radiograph
from salad.images.align import LARGEST, UNIT, build_template, register, shrink, warp
from salad.images.normalize import normalize
from salad.images.preprocessing import Preprocessing

SIZE = 96
STILL = torch.zeros(1, 4)


def draw(count, *, first=0, size=SIZE):
    """Normal films, (count, 1, S, S), uint8."""
    films = [draw_radiograph(np.random.default_rng([4, first + i]), size=size, abnormal=False) for i in range(count)]
    return torch.from_numpy(np.stack(films))[:, None]


@pytest.fixture(scope="module")
def mean():
    return build_template(shrink(draw(40)))


@pytest.fixture(scope="module")
def films():
    """Others than those of the mean."""
    return draw(12, first=40)


def to_bytes(images):
    return images.round().to(torch.uint8)


def moved(films, *, most=0.15):
    """The films in framings of their own, and the parameters of these."""
    params = (torch.rand(len(films), 4, generator=torch.Generator().manual_seed(0)) * 2 - 1) * most
    return to_bytes(warp(films.float(), params)), params


def joined(first, then):
    """One window of another as a single one."""
    return torch.cat([first[:, :2] + then[:, :2], first[:, 2:] + first[:, :2].exp() * then[:, 2:]], dim=1)


# The fit ----------------------------------------------------------------------------------------------------------


def test_known_scales_and_shifts_are_recovered(mean, films):
    seen, true = moved(films)
    error = joined(true, register(mean, seen)) - register(mean, films)
    assert error.abs().max() < 0.03 and error.abs().mean() < 0.008
    assert true.abs().max() > 0.14


def test_aligned_films_look_more_alike(mean, films):
    seen, _ = moved(films)
    before, after = (shrink(one).std(dim=0).mean() for one in (seen, Preprocessing(template=mean).frame(seen)))
    assert after < 0.6 * before


def test_films_framed_as_the_mean_stay(mean):
    alike = to_bytes((mean + 3) * 40)
    assert register(mean, alike).abs().max() < 0.01


@pytest.mark.parametrize("size", [16, 32, 50, 96])
def test_what_shows_nothing_stays(mean, size):
    flat = torch.arange(0, 256, 51, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, -1, size, size)
    assert torch.equal(register(mean, flat), STILL.expand(6, 4))
    assert torch.equal(Preprocessing(template=mean).frame(flat), flat)


def test_noise_hardly_moves(mean):
    noise = torch.randint(256, (8, 1, SIZE, SIZE), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    assert register(mean, noise).abs().max() < 0.15


def test_exposure_does_not_matter(mean, films):
    dim = to_bytes(films * 0.6 + 40)
    assert (register(mean, dim) - register(mean, films)).abs().max() <= 2 * UNIT


@pytest.mark.parametrize("num_threads", [1, 2])
def test_a_batch_is_its_images(mean, films, num_threads):
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        for preprocess in (Preprocessing(template=mean, margin=9, kind="standardize"), Preprocessing(margin=9)):
            alone = torch.cat([preprocess(one[None]) for one in films])
            assert torch.equal(preprocess(films), alone)
            assert torch.equal(preprocess(films[:5]), alone[:5])
    finally:
        torch.set_num_threads(before)


def test_parameters_are_bounded_and_whole_units(mean, films):
    far, _ = moved(films, most=0.7)
    found = register(mean, far)
    assert found.abs().max() <= LARGEST + UNIT
    assert torch.equal(found / UNIT, (found / UNIT).round())


def test_the_mean_does_not_depend_on_the_framing_of_its_images(mean):
    other = build_template(shrink(moved(draw(40), most=0.05)[0]))
    assert torch.corrcoef(torch.stack([mean.flatten(), other.flatten()]))[0, 1] > 0.99


# Windows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [16, 37, 96])
@pytest.mark.parametrize("margin", [0, 3])
def test_a_window_that_is_not_moved_has_the_very_pixels(size, margin):
    grey = torch.randint(256, (3, 1, size, size), dtype=torch.uint8)
    inner = grey[:, :, margin : size - margin, margin : size - margin]
    assert torch.equal(to_bytes(warp(grey.float(), STILL.expand(3, 4), margin=margin)), inner)
    assert torch.equal(Preprocessing(margin=margin)(grey), inner)
    assert torch.equal(Preprocessing(margin=margin).frame(grey), grey)


def test_a_window_by_whole_pixels():
    grey = torch.randint(256, (1, 1, 16, 16), dtype=torch.uint8)
    found = to_bytes(warp(grey.float(), torch.tensor([[0.0, 0.0, 0.25, -0.5]])))  # 2 pixels right, 4 up
    assert torch.equal(found[:, :, 4:, :-2], grey[:, :, :-4, 2:])
    halved = warp(grey.float(), torch.tensor([[np.log(0.5), 0.0, 0.0, 0.0]], dtype=torch.float32), margin=4)
    pairs = grey.float()[0, 0, 4:-4, 6:10]  # twice as large: half as many columns, the rows as they were
    assert torch.allclose(halved[0, 0, :, 1::2][:, :3], pairs[:, :3] * 0.75 + pairs[:, 1:] * 0.25, atol=1e-3)


def test_the_crop_is_a_part_of_the_frame(mean, films):
    preprocess = Preprocessing(template=mean, margin=10)
    frame = preprocess.frame(films)
    assert frame.shape[-1] == SIZE
    difference = preprocess(films).int() - frame[:, :, 10:-10, 10:-10].int()
    assert difference.abs().max() <= 1 and (difference != 0).float().mean() < 1e-3


def test_levels_are_those_of_what_is_seen(mean, films):
    plain, standardized = (Preprocessing(template=mean, margin=10, kind=kind) for kind in ("fixed", "standardize"))
    assert torch.equal(standardized(films), normalize(plain(films), "standardize"))
    assert torch.equal(standardized.frame(films), normalize(plain.frame(films), "standardize"))


def test_marks_move_with_what_they_mark(mean, films):
    seen, _ = moved(films)
    mask = np.zeros((SIZE, SIZE), bool)
    mask[30:42, 50:58] = True
    for preprocess in (Preprocessing(template=mean, margin=8), Preprocessing(margin=8)):
        for one in seen:
            lit = torch.where(torch.from_numpy(mask), 255, 0).to(torch.uint8)[None, None]
            found = preprocess.mark(mask, preprocess.fit(one[None]))
            assert found.shape == (SIZE - 16, SIZE - 16)
            params = STILL if preprocess.template is None else register(mean, one[None])
            assert np.array_equal(found, (warp(lit.float(), params, margin=8)[0, 0] >= 127.5).numpy())
    assert np.array_equal(found, mask[8:-8, 8:-8])


def test_a_mark_that_the_crop_leaves_out_is_gone():
    mask = np.zeros((SIZE, SIZE), bool)
    mask[:8, :8] = True
    assert not Preprocessing(margin=8).mark(mask, None).any()
