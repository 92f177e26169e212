"""The memory of local features, against loops over images and places."""

import math

import pytest
import torch
from torch.testing import assert_close

from salad.local_memory import LocalMemory, choose_cover, pool_cells

GRID = 3


def maps(num_images: int, *, seed: int = 0, channels: int = 5, side: int = 7) -> torch.Tensor:
    """Local features whose channels differ in mean and spread: (B, C, side, side)."""
    noise = torch.randn(num_images, channels, side, side, generator=torch.Generator().manual_seed(seed))
    scale = torch.arange(1.0, channels + 1).view(-1, 1, 1)
    return noise * scale + 10 * scale


def memory_of(features: torch.Tensor, *, max_rows: int = 1000) -> LocalMemory:
    return LocalMemory.build(pool_cells(features, GRID), max_rows=max_rows)


def naive_cells(features: torch.Tensor) -> list[list[torch.Tensor]]:
    """Of each image, of each place, the mean over the pixels that the place covers."""
    side = features.shape[-1]
    edges = [(i * side // GRID, -(-(i + 1) * side // GRID)) for i in range(GRID)]
    return [
        [one[:, top:bottom, left:right].mean(dim=(1, 2)) for top, bottom in edges for left, right in edges]
        for one in features
    ]


def test_scores_are_those_of_a_loop():
    normal, new = maps(20), maps(4, seed=1)
    cells = naive_cells(normal)
    values = torch.stack([cell for image in cells for cell in image]).double()
    mean, std = values.mean(dim=0), values.std(dim=0, correction=0)
    expected = [
        [
            min(math.dist((cell - mean) / std, (image[place] - mean) / std) for image in cells)
            for place, cell in enumerate(one)
        ]
        for one in naive_cells(new)
    ]

    memory = memory_of(normal)

    assert_close(memory.distances(new).flatten(1), torch.tensor(expected).float(), rtol=2e-3, atol=2e-3)
    assert_close(memory.scores(new), torch.tensor(expected).float().mean(dim=1), rtol=2e-3, atol=2e-3)
    assert_close(memory.mean, mean.float())
    assert_close(memory.std, std.float())


def test_distances_to_whole_images_and_between_remembered_ones_are_those_of_loops():
    memory, new = memory_of(maps(20)), maps(4, seed=1)
    rows = memory.rows.float()
    queries = ((pool_cells(new, GRID) - memory.mean) / memory.std).transpose(0, 1)
    to_images = [[sum(math.dist(queries[p, b], rows[p, m]) for p in range(9)) / 9 for m in range(20)] for b in range(4)]
    own = [[min(math.dist(rows[p, m], rows[p, n]) for n in range(20) if n != m) for p in range(9)] for m in range(20)]

    assert_close(memory.image_distances(new), torch.tensor(to_images))
    assert (memory.image_distances(new).amin(dim=1) >= memory.scores(new) - 1e-5).all()  # of one for all places
    assert_close(memory.own_distances(most=100).flatten(1), torch.tensor(own))
    assert_close(memory.own_distances(most=3).flatten(1), torch.tensor([own[0], own[10], own[19]]))


def test_channels_are_standardised_over_images_and_places():
    rows = memory_of(maps(50)).rows.float()

    assert rows.shape == (9, 50, 5)
    assert_close(rows.mean(dim=(0, 1)), torch.zeros(5), atol=1e-3, rtol=0)
    assert_close(rows.std(dim=(0, 1), correction=0), torch.ones(5), atol=1e-3, rtol=0)


def test_places_are_compared_with_the_same_place_alone():
    """An image that is normal but for two places that are swapped is far from all normal ones."""
    place = torch.arange(9.0).view(1, 1, 3, 3)
    normal = place + 0.01 * maps(10, channels=1, side=3)
    swapped = normal[:1].clone()
    swapped[0, 0, 0, 0], swapped[0, 0, 2, 2] = normal[0, 0, 2, 2], normal[0, 0, 0, 0]

    distances = memory_of(normal).distances(swapped)[0]

    assert min(distances[0, 0], distances[2, 2]) > 2
    assert distances.flatten()[1:-1].max() < 0.01


def test_images_of_the_memory_score_about_zero():
    memory, normal = memory_of(maps(30)), maps(30)

    assert memory.scores(normal).max() < 2e-3
    assert memory.scores(maps(5, seed=1)).min() > 0.5


def test_half_precision_costs_little():
    cells = pool_cells(maps(40), GRID)
    mean, std = cells.mean(dim=(0, 1)), cells.std(dim=(0, 1), correction=0)
    memory, exact = memory_of(maps(40)), ((cells - mean) / std).transpose(0, 1)

    assert memory.rows.dtype == torch.float16
    assert ((memory.rows.float() - exact).abs() <= 2**-11 * exact.abs() + 1e-5).all()
    full = LocalMemory(rows=exact, mean=mean, std=std).scores(maps(6, seed=1))
    assert_close(memory.scores(maps(6, seed=1)), full, rtol=1e-3, atol=1e-3)


def test_a_channel_that_hardly_varies_does_not_outweigh_all_others():
    normal, new = maps(20, channels=2), maps(3, seed=1, channels=2)
    before = memory_of(normal[:, 1:]).scores(new[:, 1:])
    normal[:, 0], new[:, 0] = 0.0, 1e-4

    assert_close(memory_of(normal).scores(new), before, rtol=0.05, atol=0.05)


def test_a_cover_is_closer_to_all_rows_than_rows_drawn_at_random():
    generator = torch.Generator().manual_seed(0)
    centres = 20 * torch.randn(10, 4, generator=generator)
    crowded = centres[torch.tensor([0] * 150 + list(range(1, 10)) * 5)]
    rows = crowded + torch.randn(len(crowded), 4, generator=generator)

    def radius(chosen: torch.Tensor) -> float:
        return torch.cdist(rows, rows[chosen]).amin(dim=1).max().item()

    cover = choose_cover(rows, 12)

    assert len(set(cover.tolist())) == 12
    at_random = min(radius(torch.randperm(len(rows), generator=generator)[:12]) for _ in range(50))
    assert radius(cover) < at_random / 2


def test_a_cover_is_that_of_a_loop():
    rows = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    chosen = [min(range(40), key=lambda i: math.dist(rows[i], rows.mean(dim=0)))]
    while len(chosen) < 9:
        chosen.append(max(range(40), key=lambda i: min(math.dist(rows[i], rows[j]) for j in chosen)))

    assert choose_cover(rows, 9).tolist() == chosen


def test_of_more_images_than_rows_each_place_keeps_its_cover():
    features = maps(30)
    memory, all_rows = memory_of(features, max_rows=7), memory_of(features).rows

    assert memory.rows.shape == (9, 7, 5)
    for place, rows in zip(memory.rows, all_rows, strict=True):
        assert torch.equal(place, rows[choose_cover(rows.float(), 7)])


@pytest.mark.parametrize("max_rows", [7, 1000])
def test_its_bytes_are_known_before_it_is_built(max_rows):
    memory = memory_of(maps(30), max_rows=max_rows)

    assert memory.num_bytes == LocalMemory.bytes_for(30, grid=GRID, num_channels=5, max_rows=max_rows)


def test_a_state_comes_back_and_an_unfit_one_is_refused():
    memory = memory_of(maps(10))
    state = memory.state_dict()

    assert torch.equal(LocalMemory.from_state_dict(state).scores(maps(3)), memory.scores(maps(3)))
    for unfit in ({"rows": state["rows"][:8]}, {"mean": state["mean"][:4]}, {"rows": state["rows"][:, :0]}):
        with pytest.raises(ValueError, match="fit each other"):
            LocalMemory.from_state_dict({**state, **unfit})
