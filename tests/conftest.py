import multiprocessing
import shutil

import hypothesis
import numpy as np
import pytest
from PIL import Image

from salad.datasets import phantom

hypothesis.settings.register_profile("any machine", deadline=None)  # a busy one is slow, not wrong
hypothesis.settings.load_profile("any machine")


@pytest.fixture(scope="session", autouse=True)
def _no_process_is_left():
    """One that does not end by itself would keep the whole run from ending."""
    yield
    assert not multiprocessing.active_children()


@pytest.fixture
def write_image():
    """A function that writes a small grey picture, of another content for each name, and returns its path."""

    def write(path, *, size=(8, 8)):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(list(path.name.encode())).integers(0, 256, size[::-1], dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return write


@pytest.fixture
def write_folders(tmp_path, write_image):
    """A function that writes a small image at each path given, relative to the data folder that it returns."""

    def write(*names):
        for name in names:
            write_image(tmp_path / "data" / name)
        return tmp_path / "data"

    return write


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight normal films to train on and three of each class to score, without val/."""
    root = tmp_path_factory.mktemp("phantom") / "data"
    phantom.write_phantom(root, size=32, num_train=8, num_val=0, num_test=3)
    shutil.rmtree(root / "val")
    return root
