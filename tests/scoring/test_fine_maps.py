"""Fine maps: their memory, their scale and their threshold."""

from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from salad.images.preprocessing import Preprocessing
from salad.patch_memory import PatchMaps, PatchMemory
from salad.scores.inputs import Inputs
from salad.scoring.fine_maps import Sources, combine, measure_on_memory, part_of, values_of


def memory_of(num_rows: int = 12, *, grid: int = 2, channels: int = 6) -> PatchMemory:
    cells = torch.randn(num_rows, grid**2, channels, generator=torch.Generator().manual_seed(0))
    return PatchMemory.build(cells * torch.arange(1, channels + 1), max_rows=100)


def test_a_reduced_memory_keeps_the_largest_axes():
    full, small = memory_of(), memory_of().reduced(num_rows=12, num_axes=6)
    maps = PatchMaps(torch.randn(3, 6, 2, 2))
    assert small.distances(maps) == pytest.approx(full.distances(maps), rel=1e-2, abs=1e-2)  # all axes, turned
    few = full.reduced(num_rows=5, num_axes=2)
    assert few.rows.shape == (4, 5, 2) and few.whitening.shape == (6, 2)
    again = PatchMemory.from_state_dict(few.state_dict())
    assert torch.equal(again.distances(maps), few.distances(maps))
    noise = PatchMaps(torch.zeros(1, 6, 2, 2))
    noise.features[:, 0] = 3.0  # the channel that varies least among normal images
    other = PatchMaps(torch.zeros(1, 6, 2, 2))
    shift = full.reduced(num_rows=1, num_axes=2)
    assert shift.distances(noise) == pytest.approx(shift.distances(other), abs=0.5)
    assert not torch.allclose(full.distances(noise), full.distances(other), atol=0.5)


def test_what_is_not_seen_never_lights_up():
    grids = {"distance": torch.tensor([[[9.0, 0.0], [0.0, 0.0]]])}
    seen = torch.ones(1, 8, 8)
    levels = {"distance": (1.0, 2.0)}
    whole = values_of(grids, seen, levels=levels)
    assert whole.argmax() in (0, 1, 8, 9) and float(whole.min()) == 0
    seen[:, :4, :4] = 0
    assert float(values_of(grids, seen, levels=levels)[:, :4, :4].max()) == 0


def test_sources_are_averaged_in_standard_deviations_and_the_head_counts_twice():
    found = combine({"distance": torch.full((1, 2, 2), 4.0), "head": torch.full((1, 2, 2), 1.0)})
    assert_close(found, torch.full((1, 2, 2), 2.0))


def test_fine_grids_are_smoothed_and_coarse_ones_are_not():
    for size, expected in ((8, 9.0), (16, 1.0)):
        grid = torch.zeros(1, size, size)
        grid[0, 4, 4] = 9
        found = combine({"distance": grid})
        assert found[0, 4, 4] == pytest.approx(expected)
        assert found.sum() == pytest.approx(9)
    assert float(combine({"distance": torch.full((1, 2, 2), -3.0)}).max()) == 0


def test_a_memory_scales_its_own_map():
    found = measure_on_memory(Sources(part="local", memory=memory_of(), head=None, backbone=None))
    own = memory_of().own_distances(most=12)
    assert found.levels["distance"] == pytest.approx((float(own.mean()), float(own.std())), rel=1e-4)
    assert found.normals == "training" and len(found.peaks.scores) == 12
    alone = measure_on_memory(Sources(part="local", memory=memory_of(1), head=None, backbone=None))
    assert alone.levels == {"distance": (0.0, 1.0)} and alone.peaks.scores.tolist() == [0.0]


def test_sources_of_other_grids_come_to_the_finest():
    network = SimpleNamespace(patch_features=lambda images: torch.randn(len(images), 6, 4, 4))
    head = SimpleNamespace(places=lambda features: features[:, :1])
    inputs = Inputs(network, torch.zeros(2, 1, 32, 32, dtype=torch.uint8), Preprocessing())
    grids, seen = Sources(part="local", memory=memory_of(), head=head, backbone=None).read(inputs)
    assert {name: grid.shape for name, grid in grids.items()} == {"distance": (2, 4, 4), "head": (2, 4, 4)}
    assert seen.shape == (2, 32, 32) and seen.all()


def test_which_part_a_map_is_of():
    assert part_of(("backbone", "local")) == "local" and part_of(("knn", "backbone")) == "backbone"
    assert part_of(("knn",)) is None
