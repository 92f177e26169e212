from types import SimpleNamespace

import pytest
from running import tiny_unet, train
from serving import served

from salad.datasets import phantom
from salad.scoring.stream import load_scorer
from salad.serve.films import FilmScorer


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A tiny run whose score has a map, a threshold and neighbours."""
    root = tmp_path_factory.mktemp("serve")
    phantom.write_phantom(root / "data", size=64, num_train=8, num_val=10, num_test=3)
    train(root / "xp", root / "data", "--score", "local", "--cache", root / "cache")
    films = sorted((root / "data/test").rglob("*.png"))
    return SimpleNamespace(model=root / "xp/model.tar", data=root / "data", films=films)


@pytest.fixture(scope="session")
def films(run):
    """The scorer of that run."""
    with tiny_unet():
        return FilmScorer(load_scorer(run.model, {"device": "cpu"}))


@pytest.fixture
def ask(films):
    """A function that asks a server with room for films of 1 MiB."""
    with served(films) as asked:
        yield asked
