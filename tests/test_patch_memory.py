"""The memory of local features, against loops over images and places."""

import dataclasses
import math

import pytest
import scipy.linalg
import torch
from torch.testing import assert_close

from salad.patch_memory import PatchMaps, PatchMemory, pool_cells
from salad.patch_rows import NUM_AXES, SHRINKAGE, Neighbourhood, choose_coreset, measure_spacing

pytestmark = pytest.mark.trains

GRID = 3


def maps(num_images: int, *, seed: int = 0, channels: int = 5, side: int = 7) -> torch.Tensor:
    """Local features whose channels differ in mean and spread: (B, C, side, side)."""
    noise = torch.randn(num_images, channels, side, side, generator=torch.Generator().manual_seed(seed))
    scale = torch.arange(1.0, channels + 1).view(-1, 1, 1)
    return noise * scale + 10 * scale


def memory_of(features: torch.Tensor, *, max_rows: int = 1000) -> PatchMemory:
    return PatchMemory.build(cells_of(features), max_rows=max_rows)


def cells_of(features: torch.Tensor) -> torch.Tensor:
    return pool_cells(PatchMaps(features), GRID).features


def naive_cells(features: torch.Tensor, seen: torch.Tensor | None = None) -> list[list[torch.Tensor]]:
    """Of each image, of each place, the mean over the pixels that the place covers, or over those that are seen."""
    seen = torch.ones_like(features[:, :1]) if seen is None else seen
    side = features.shape[-1]
    edges = [(i * side // GRID, -(-(i + 1) * side // GRID)) for i in range(GRID)]
    slices = [(slice(top, bottom), slice(left, right)) for top, bottom in edges for left, right in edges]
    return [
        [(one * mask)[:, rows, columns].sum(dim=(1, 2)) / mask[0, rows, columns].sum() for rows, columns in slices]
        for one, mask in zip(features, seen, strict=True)
    ]


def naive_whitening(cells: torch.Tensor) -> torch.Tensor:
    """Of cells (N, P, C): the inverse root of their covariance about the mean of their place, with shrinkage."""
    centred = (cells - cells.mean(dim=0)).flatten(0, 1).double()
    covariance = sum(torch.outer(one, one) for one in centred) / len(centred)
    shrunk = covariance + SHRINKAGE * covariance.diagonal().mean() * torch.eye(len(covariance))
    return torch.from_numpy(scipy.linalg.inv(scipy.linalg.sqrtm(shrunk.numpy()).real))


def test_scores_are_those_of_a_loop():
    normal, new = maps(20), maps(4, seed=1)
    cells = torch.stack([torch.stack(one) for one in naive_cells(normal)])
    whitening = naive_whitening(cells)
    expected = [
        [
            min(float(torch.linalg.norm((cell - image[place]).double() @ whitening)) for image in cells)
            for place, cell in enumerate(one)
        ]
        for one in naive_cells(new)
    ]

    memory = memory_of(normal)

    assert_close(memory.distances(PatchMaps(new)).flatten(1), torch.tensor(expected).float(), rtol=2e-3, atol=2e-3)
    mean = torch.tensor(expected).float().mean(dim=1)
    assert_close(memory.scores(PatchMaps(new)), mean, rtol=2e-3, atol=2e-3)
    assert_close(memory.mean, cells.mean(dim=0))
    assert_close(memory.whitening @ memory.whitening.T, (whitening @ whitening).float(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("power", [4, 1])
def test_what_is_not_seen_has_no_part_in_a_score_and_a_cell_that_is_half_seen_little(power):
    normal, new = maps(20), maps(4, seed=1)
    seen = torch.ones(4, 1, 7, 7)
    seen[:, :, :, 4:] = 0  # the right third, and a column of the middle one
    corrupted = torch.where(seen > 0, new, 1e3)
    memory = memory_of(normal)
    if power == 1:  # as older files have it
        state = {name: tensor for name, tensor in memory.state_dict().items() if name != "seen_power"}
        memory = PatchMemory.from_state_dict(state)

    scores = memory.scores(PatchMaps(corrupted, seen))

    cells = pool_cells(PatchMaps(new, seen), GRID)
    visible = [place for place in range(9) if place % 3 < 2]
    expected = torch.stack([torch.stack(one) for one in naive_cells(new, seen)])[:, visible]
    assert_close(cells.features[:, visible], expected, rtol=1e-3, atol=1e-3)
    weights = torch.tensor([1.0, 2 / 3] * 3) ** power  # of the middle third, two columns of three
    distances = torch.stack([distances_at(memory, expected[:, i], place) for i, place in enumerate(visible)], dim=1)
    assert_close(scores, (distances * weights).sum(dim=1) / weights.sum(), rtol=1e-2, atol=1e-2)
    assert memory.scores(PatchMaps(corrupted)).min() > 10 * scores.max()


def distances_at(memory: PatchMemory, cells: torch.Tensor, place: int) -> torch.Tensor:
    """Distances of some cells (B, C) to the nearest row of a place."""
    return torch.cdist((cells - memory.mean[place]) @ memory.whitening, memory.rows[place].float()).amin(dim=1)


def test_a_coarser_mask_is_that_of_finer_pixels():
    features, seen = maps(2, side=6), torch.ones(2, 1, 12, 12)
    seen[:, :, :8] = 0
    coarse = torch.nn.functional.avg_pool2d(seen, 2)
    for found, expected in zip(
        pool_cells(PatchMaps(features, seen), GRID), pool_cells(PatchMaps(features, coarse), GRID), strict=True
    ):
        assert_close(found, expected)


def test_an_image_of_which_nothing_is_seen_has_a_score():
    assert memory_of(maps(9)).scores(PatchMaps(maps(2, seed=1), torch.zeros(2, 1, 7, 7))).isfinite().all()


def test_distances_to_whole_images_and_between_remembered_ones_are_those_of_loops():
    memory, new = memory_of(maps(20)), PatchMaps(maps(4, seed=1))
    rows = memory.rows.float()
    queries = ((cells_of(new.features) - memory.mean) @ memory.whitening).transpose(0, 1)
    to_images = [[sum(math.dist(queries[p, b], rows[p, m]) for p in range(9)) / 9 for m in range(20)] for b in range(4)]
    own = [[min(math.dist(rows[p, m], rows[p, n]) for n in range(20) if n != m) for p in range(9)] for m in range(20)]

    assert_close(memory.image_distances(new), torch.tensor(to_images))
    assert (memory.image_distances(new).amin(dim=1) >= memory.scores(new) - 1e-5).all()  # of one for all places
    assert_close(memory.own_distances(most=100).flatten(1), torch.tensor(own))
    assert_close(memory.own_distances(most=3).flatten(1), torch.tensor([own[0], own[10], own[19]]))


def test_rows_are_white_about_the_mean_of_their_place():
    noise = torch.randn(400, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    mixed = torch.einsum("dc,bchw->bdhw", torch.tensor([[1.0, 0.9, 0], [0, 0.5, 0], [0, 0.3, 0.4]]), noise)
    rows = memory_of(mixed + 50 * torch.arange(9.0).view(1, 1, 3, 3)).rows.float()

    assert rows.shape == (9, 400, 3)
    assert_close(rows.mean(dim=1), torch.zeros(9, 3), atol=2e-3, rtol=0)
    variances = torch.linalg.eigvalsh(torch.cov(rows.flatten(0, 1).T))
    before = torch.linalg.eigvalsh(torch.cov(mixed.transpose(0, 1).flatten(1)))
    assert_close(variances, before / (before + SHRINKAGE * before.mean()), atol=0.02, rtol=0)


def test_places_are_compared_with_the_same_place_alone():
    """An image that is normal but for two places that are swapped is far from all normal ones."""
    place = torch.arange(9.0).view(1, 1, 3, 3)
    normal = place + 0.01 * maps(10, channels=1, side=3)
    swapped = normal[:1].clone()
    swapped[0, 0, 0, 0], swapped[0, 0, 2, 2] = normal[0, 0, 2, 2], normal[0, 0, 0, 0]

    distances = memory_of(normal).distances(PatchMaps(swapped))[0]

    assert min(distances[0, 0], distances[2, 2]) > 2
    assert distances.flatten()[1:-1].max() < 0.01


def test_images_of_the_memory_score_about_zero():
    memory, normal = memory_of(maps(30)), maps(30)

    assert memory.scores(PatchMaps(normal)).max() < 2e-3
    assert memory.scores(PatchMaps(maps(5, seed=1))).min() > 0.5


def test_half_precision_costs_little():
    cells, memory, new = cells_of(maps(40)), memory_of(maps(40)), PatchMaps(maps(6, seed=1))
    exact = ((cells - memory.mean) @ memory.whitening).transpose(0, 1)

    assert memory.rows.dtype == torch.float16
    assert ((memory.rows.float() - exact).abs() <= 2**-11 * exact.abs() + 1e-5).all()
    assert_close(memory.scores(new), dataclasses.replace(memory, rows=exact).scores(new), rtol=1e-3, atol=1e-3)


def test_a_channel_that_hardly_varies_does_not_outweigh_all_others():
    normal, new = maps(20, channels=2), maps(3, seed=1, channels=2)
    before = memory_of(normal[:, 1:]).scores(PatchMaps(new[:, 1:]))
    normal[:, 0], new[:, 0] = 0.0, 1e-4

    assert_close(memory_of(normal).scores(PatchMaps(new)), before, rtol=0.1, atol=0)


def test_a_single_image_and_images_that_are_all_the_same_can_be_remembered():
    for normal in (maps(1), maps(1).repeat(5, 1, 1, 1)):
        assert memory_of(normal).scores(PatchMaps(normal)).max() < 1e-3
        assert memory_of(normal).scores(PatchMaps(maps(2, seed=1))).isfinite().all()


def test_of_more_images_than_rows_each_place_keeps_its_cover():
    features = maps(30)
    memory, all_rows = memory_of(features, max_rows=7), memory_of(features).rows

    assert memory.rows.shape == (9, 7, 5)
    for place, rows in zip(memory.rows, all_rows, strict=True):
        assert torch.equal(place, rows[choose_coreset(rows.float(), 7)])


@pytest.mark.parametrize("max_rows", [7, 1000])
def test_its_bytes_are_known_before_it_is_built(max_rows):
    memory = memory_of(maps(30), max_rows=max_rows)

    assert memory.num_bytes == PatchMemory.bytes_for(30, grid=GRID, num_channels=5, max_rows=max_rows)


def test_a_state_comes_back_and_an_unfit_one_is_refused():
    memory = memory_of(maps(10))
    state = memory.state_dict()

    assert torch.equal(PatchMemory.from_state_dict(state).scores(PatchMaps(maps(3))), memory.scores(PatchMaps(maps(3))))
    for unfit in (
        {"rows": state["rows"][:8]},
        {"mean": state["mean"][:4]},
        {"whitening": state["whitening"][:4]},
        {"rows": state["rows"][:, :0]},
    ):
        with pytest.raises(ValueError, match="matching shapes"):
            PatchMemory.from_state_dict({**state, **unfit})


@pytest.mark.parametrize(("k", "share"), [(1, 0.5), (3, 1.0)])
def test_a_share_of_the_spacing_of_the_nearest_rows_is_subtracted(k, share):
    settings = Neighbourhood(num_nearest=k, share=share)
    memory = PatchMemory.build(cells_of(maps(20)), max_rows=1000, neighbourhood=settings)
    new = PatchMaps(maps(4, seed=1))
    queries = ((cells_of(new.features) - memory.mean) @ memory.whitening).transpose(0, 1)
    expected = torch.empty(4, 9)
    for place, rows in enumerate(memory.rows.float()):
        between = [sorted(math.dist(row, other) for other in rows if other is not row) for row in rows]
        spacing = [sum(of_row[1 : k + 1]) / k for of_row in between]  # the nearest is the row itself
        for image, query in enumerate(queries[place]):
            far = sorted((math.dist(query, row), number) for number, row in enumerate(rows))[:k]
            expected[image, place] = sum(one - share * spacing[number] for one, number in far) / k

    assert_close(memory.distances(new).flatten(1), expected, rtol=1e-3, atol=1e-3)
    assert_close(PatchMemory.from_state_dict(memory.state_dict()).scores(new), memory.scores(new))


def test_a_rare_kind_of_normal_images_is_no_farther_than_a_frequent_one():
    """Of two kinds with spreads of 1 and 3, new images of the second lie as far out as those of the first."""
    generator = torch.Generator().manual_seed(0)
    frequent = torch.randn(300, 4, 3, 3, generator=generator)
    rare = 50 + 3 * torch.randn(30, 4, 3, 3, generator=generator)
    cells = cells_of(torch.cat([frequent[:200], rare[:20]]))
    of = {
        share: PatchMemory.build(cells.clone(), max_rows=1000, neighbourhood=Neighbourhood(3, share))
        for share in (0, 1)
    }
    excess = {
        share: (memory.scores(PatchMaps(rare[20:])).mean() / memory.scores(PatchMaps(frequent[200:])).std()).item()
        for share, memory in of.items()
    }
    assert excess[1] < 0.5 * excess[0]


def test_memory_of_one_or_two_images_has_a_spacing_that_is_finite():
    for count in (1, 2):
        memory = PatchMemory.build(cells_of(maps(count)), max_rows=9, neighbourhood=Neighbourhood(3, 1.0))
        assert memory.num_nearest == 1 and memory.spacing.isfinite().all()
        assert memory.scores(PatchMaps(maps(2, seed=1))).isfinite().all()


def test_further_rows_are_whitened_as_those_of_the_memory_and_stand_at_its_end():
    memory, further = memory_of(maps(9)), maps(4, seed=1)

    rows = memory.rows_of(PatchMaps(further))
    extended = memory.extended(rows, max_rows=100)

    assert_close(memory.rows_of(PatchMaps(maps(9))), memory.rows, atol=1e-2, rtol=1e-2)
    assert torch.equal(extended.rows, torch.cat([memory.rows, rows], dim=1))
    assert torch.equal(extended.mean, memory.mean) and torch.equal(extended.whitening, memory.whitening)
    assert extended.scores(PatchMaps(further)).max() < 0.1 < memory.scores(PatchMaps(further)).min()


def test_a_full_memory_keeps_further_rows_and_a_coreset_of_the_earlier_ones():
    memory, rows = memory_of(maps(9)), memory_of(maps(9)).rows_of(PatchMaps(maps(4, seed=1)))

    extended = memory.extended(rows, max_rows=10)

    assert torch.equal(extended.rows[:, 6:], rows)
    for cell, earlier in zip(extended.rows[:, :6], memory.rows, strict=True):
        assert torch.equal(cell, earlier[choose_coreset(earlier.float(), 6)])


@pytest.mark.parametrize("row", [0, 4, -1, -3])
def test_a_row_is_left_out_of_all_cells(row):
    memory = memory_of(maps(9))

    rest = memory.without(row)

    kept = [i for i in range(9) if i != row % 9]
    assert torch.equal(rest.rows, memory.rows[:, kept])
    assert rest.scores(PatchMaps(maps(9)))[row] > 0.1 > memory.scores(PatchMaps(maps(9)))[row]


def test_rows_that_join_or_leave_take_their_spacing_with_them():
    memory = PatchMemory.build(cells_of(maps(9)), max_rows=1000, neighbourhood=Neighbourhood(3, 1.0))
    extended = memory.extended(memory.rows_of(PatchMaps(maps(4, seed=1))), max_rows=100)

    assert_close(extended.spacing, measure_spacing(extended.rows, extended.neighbourhood))
    assert torch.equal(extended.without(-1).spacing, extended.spacing[:, :-1])
    assert memory.plain().scores(PatchMaps(maps(2, seed=2))).min() > memory.scores(PatchMaps(maps(2, seed=2))).max()


def test_rows_keep_the_axes_of_the_largest_variances():
    many = NUM_AXES + 20
    scale = torch.linspace(1, 3, many).view(-1, 1, 1)
    features = torch.randn(200, many, GRID, GRID, generator=torch.Generator().manual_seed(0)) * scale
    memory = memory_of(features)

    assert memory.rows.shape == (9, 200, NUM_AXES) and memory.whitening.shape == (many, NUM_AXES)
    weights = memory.whitening.square().sum(dim=1)
    assert weights[:10].max() < weights[-30:].min()  # the small variances are left out
    assert memory.num_bytes == PatchMemory.bytes_for(200, grid=GRID, num_channels=many, max_rows=1000)
