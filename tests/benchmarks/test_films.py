import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from running import read_csv, read_json, score, tiny_unet, train

from benchmarks import films
from salad.datasets import phantom


@pytest.fixture(scope="module")
def film():
    return Image.fromarray(phantom.draw_radiograph(np.random.default_rng(0), size=128, abnormal=False))


@pytest.mark.parametrize("name", films.CHANGES)
def test_a_change_leaves_a_film_that_is_like_it(film, name):
    changed = films.CHANGES[name](film, np.random.default_rng(films.SEED))
    assert changed.mode == "L"
    again = np.asarray(films.CHANGES[name](film, np.random.default_rng(films.SEED)))
    assert np.array_equal(changed, again)
    before, after = (np.asarray(one.resize((128, 128)), dtype=float).ravel() for one in (film, changed))
    assert np.array_equal(before, after) == (name == "as they are")
    assert name == "mirrored" or np.corrcoef(before, after)[0, 1] > 0.3


def test_the_table_is_of_the_models(tmp_path):
    data, xp = tmp_path / "data", tmp_path / "xp"
    phantom.write_phantom(data, size=64, num_train=8, num_val=4, num_test=4)
    train(xp, data, "--score", "reconstruction")  # spreads more than an untrained angle does
    score(xp, data)
    path = str(xp / "model.tar")
    words = ["CXR_author", str(data), "--load_model", path, "--load_model", path, "--side", "64"]
    with tiny_unet():
        result = CliRunner().invoke(films.main, words)
    assert result.exit_code == 0, result.output
    head, _, first, *others = result.stdout.splitlines()
    assert head == f"| films | {path} | {path} |" and len(others) == len(films.CHANGES) - 1
    normal = [row for row in read_csv(xp / "scores.csv") if row["label"] == "0"]
    threshold = read_json(xp / "metrics.json")["at_threshold"]["threshold"]
    share = np.mean([float(row["score"]) <= threshold for row in normal])
    cell = f"{read_json(xp / 'metrics.json')['auc']['value']:.3f}, {share:.0%}"
    assert first == f"| as they are | {cell} | {cell} |"
