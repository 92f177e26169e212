import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from salad.explaining.heatmaps import (
    COLOURS,
    SOFT_OPAQUE,
    ErrorLevels,
    Levels,
    colours,
    error_maps,
    lay_over,
    memory_maps,
    outline,
    overlay,
    smooth,
    soft_layer,
)


@pytest.mark.parametrize("side", [16, 64])
def test_smoothing_keeps_what_is_even_and_spreads_a_point(side):
    assert torch.allclose(smooth(torch.full((2, side, side), 0.3)), torch.tensor(0.3))
    point = torch.zeros(1, side, side)
    point[0, side // 2, side // 2] = 1
    blurred = smooth(point)[0]
    sigma = side / 32
    weights = np.exp(-np.square(np.arange(-side // 2, side // 2)) / (2 * sigma**2))
    weights[np.abs(np.arange(-side // 2, side // 2)) > math.ceil(3 * sigma)] = 0
    weights /= weights.sum()
    assert np.allclose(blurred, np.outer(weights, weights), atol=1e-6)


def test_error_maps_are_the_mean_absolute_error():
    images, recon = torch.full((1, 3, 32, 32), -0.5), torch.full((1, 3, 32, 32), 0.25)
    recon[:, 0] = -0.5
    assert torch.allclose(error_maps(images, recon), torch.tensor(0.5))


@given(st.lists(st.integers(1, 7), min_size=2, max_size=6), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_running_moments_are_those_of_all_maps_together(sizes, seed):
    generator = torch.Generator().manual_seed(seed)
    batches = [0.7 + 0.01 * torch.randn(size, 4, 4, generator=generator) for size in sizes]
    levels = Levels()
    for batch in batches:
        levels.add(batch)
    found, maps = levels.measured(), torch.cat(batches).double()
    if len(maps) < 10:
        assert found is None
        return
    assert torch.allclose(found.mean.double(), maps.mean(dim=0), atol=1e-6)
    std = maps.std(dim=0)
    assert torch.allclose(found.std.double(), std.clamp(min=0.1 * std.mean()), rtol=1e-3)


def test_a_place_that_hardly_varies_does_not_make_noise_large():
    maps = torch.rand(20, 8, 8, generator=torch.Generator().manual_seed(0))
    maps[:, 0] = 0.5  # a black border, say
    levels = Levels()
    levels.add(maps)
    found = levels.measured()
    assert found.std.min() == pytest.approx(0.1 * maps.std(dim=0).mean().item())
    assert found.deviations(maps).abs().max() < 10


def test_deviations():
    levels = ErrorLevels(torch.full((2, 2), 0.5), torch.tensor([[0.5, 1.0], [2.0, 4.0]]))
    assert levels.deviations(torch.full((1, 2, 2), 2.5)).tolist() == [[[4, 2], [1, 0.5]]]


def test_memory_maps_against_a_naive_twin():
    generator = torch.Generator().manual_seed(0)
    features, normal = (torch.rand(n, 5, 2, 2, generator=generator) for n in (3, 6))
    neighbours = torch.tensor([[0, 1], [4, 2], [5, 5]])
    maps = memory_maps(features, normal, neighbours, isize=2)
    for b in range(3):
        for h in range(2):
            for w in range(2):
                one = features[b, :, h, w]
                cosines = [
                    float(one @ normal[n, :, h, w] / one.norm() / normal[n, :, h, w].norm()) for n in neighbours[b]
                ]
                assert maps[b, h, w].item() == pytest.approx(1 - max(cosines), abs=1e-6)


def test_an_image_is_not_unlike_itself_however_bright_its_features():
    features = torch.rand(1, 5, 4, 4, generator=torch.Generator().manual_seed(0)) + 0.1
    changed = 3 * features.clone()
    changed[0, :, 3, 3] = changed[0, :, 3, 3].flip(0) * torch.tensor([1, 0, 0, 0, 1])
    maps = memory_maps(changed, features, torch.tensor([[0]]), isize=32)[0]
    assert maps.shape == (32, 32)
    assert maps[:16, :16].max() < 1e-6 and maps.argmax() // 32 >= 24 and maps.argmax() % 32 >= 24


def test_overlays_have_a_fixed_scale_and_leave_what_is_normal_alone():
    pixels = np.array([[0, 100], [200, 255]], np.uint8)
    heat = np.array([[-3, 1], [3.5, 6]], np.float32)
    drawn = overlay(pixels, heat, between=(1, 6))
    assert drawn.shape == (2, 2, 3) and drawn.dtype == np.uint8
    assert (drawn[0] == pixels[0][:, None]).all()
    assert np.abs(drawn[1, 1] - (0.25 * 255 + 0.75 * COLOURS[-1])).max() < 1
    assert (overlay(pixels, heat + 100, between=(1, 6)) == overlay(pixels, heat * 0 + 6, between=(1, 6))).all()


def test_colours_rise_in_lightness():
    weights = np.array([0.2126, 0.7152, 0.0722])
    lightness = colours(np.linspace(0, 1, 50)) @ weights
    assert (np.diff(lightness) > 0).all()


def test_a_soft_layer_is_clear_below_the_threshold_and_never_hides_the_film():
    values = np.tile(np.linspace(0, 12, 96, dtype=np.float32), (96, 1))
    layer = soft_layer(values, threshold=3)
    row, opacity = values[48, :-1], layer[48, :-1, 3] / 255  # the line also runs along the last column
    assert layer.shape == (96, 96, 4) and (opacity[row < 1.5] == 0).all()
    contour = opacity > SOFT_OPAQUE + 0.01
    assert (np.abs(row[contour] - 3) < 0.3).all() and contour.any()
    rising = opacity[~contour]
    assert (np.diff(rising) >= 0).all() and rising[-1] == pytest.approx(SOFT_OPAQUE, abs=0.01)
    assert 0.1 < np.interp(3, row[~contour], rising) < 0.4
    assert np.array_equal(soft_layer(2 * values, threshold=6), layer)  # only the ratio counts
    assert soft_layer(values, threshold=3, side=192).shape == (192, 192, 4)
    film = np.full((96, 96), 80, np.uint8)
    drawn = lay_over(film, layer)
    assert (drawn[48, values[48] < 1.5] == 80).all() and (drawn[48, -1] != 80).any()


def test_outlines():
    mask = np.zeros((9, 9), bool)
    mask[2:8, 0:7] = True
    inner = np.zeros((9, 9), bool)
    inner[3:7, 1:6] = True
    assert (outline(mask, width=1) == (mask & ~inner)).all()
