"""The plane that test images stand on in the report."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from tiny_backbone import TinyBackbone

from salad.images.preprocessing import Preprocessing
from salad.patch_memory import PatchMemory, pool_cells
from salad.report.plane import MAX_ROWS, patch_plane, principal_plane
from salad.scores.inputs import Inputs
from salad.scores.patches import backbone_features


def test_the_plane_is_that_of_scikit_learn():
    generator = np.random.default_rng(0)
    z, rows = generator.normal(size=(50, 6)) * [9, 5, 1, 1, 1, 1], generator.normal(size=(20, 6))
    found, theirs = principal_plane(z, rows, title=""), PCA(2).fit(z)
    assert np.abs(found.z) == pytest.approx(np.abs(theirs.transform(z)))
    assert np.abs(found.rows) == pytest.approx(np.abs(theirs.transform(rows)))
    assert found.explained == pytest.approx(theirs.explained_variance_ratio_)
    turned = principal_plane(z, -rows, title="")
    assert turned.z == pytest.approx(found.z)  # signs are fixed


@pytest.mark.parametrize("shape", [(1, 5), (4, 1), (3, 2)])
def test_a_plane_of_next_to_nothing_is_still_one(shape):
    found = principal_plane(np.ones(shape), np.ones((2, shape[1])), title="")
    assert found.z.shape == (shape[0], 2) and np.isfinite(found.z).all() and found.explained == (0, 0)


@pytest.mark.parametrize("num_rows", [12, MAX_ROWS + 30])
def test_patch_features_of_images_and_memory_share_the_plane(num_rows):
    """Normal images that are in the memory lie on their own rows."""
    grey = torch.randint(0, 256, (num_rows, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    backbone, preprocessing = TinyBackbone(), Preprocessing()
    cells = pool_cells(backbone_features(Inputs(None, grey, preprocessing), backbone), 3).features
    memory = PatchMemory.build(cells, max_rows=10_000)

    def read(index, out):
        out[:] = grey[index, 0].numpy()

    scoring, data = SimpleNamespace(local_rows=10_000), SimpleNamespace(n_jobs_dataloader=0)
    context = SimpleNamespace(
        config=SimpleNamespace(scoring=scoring, data=data), device=torch.device("cpu"), preprocessing=preprocessing
    )
    normals = SimpleNamespace(backbone=backbone)
    model = SimpleNamespace(memories={"backbone": memory}, context=context, network=None, normals=normals)
    result = SimpleNamespace(split=SimpleNamespace(images=SimpleNamespace(isize=32, read=read)))

    plane = patch_plane(result, model, [2, 7], seed=1)
    assert plane.title == "Map of patch features" and plane.num_dims == 9 * memory.rows.shape[2]
    assert len(plane.rows) == min(num_rows, MAX_ROWS)
    if num_rows == 12:
        assert plane.z == pytest.approx(plane.rows[[2, 7]], abs=0.05)
    scoring.local_rows = num_rows
    assert len(patch_plane(result, model, [2, 7], seed=1).rows) == 0
