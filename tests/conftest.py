import contextlib
import multiprocessing
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from urllib.error import URLError

import hypothesis
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import ResNet18_Weights

from salad.datasets import phantom

hypothesis.settings.register_profile("any machine", deadline=None)  # a busy one is slow, not wrong
hypothesis.settings.load_profile("any machine")


def pytest_collection_modifyitems(items):
    """Files with many slow tests come first, so that no process is left alone with one of them at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session", autouse=True)
def _no_process_is_left():
    """One that does not end by itself would keep the whole run from ending."""
    yield
    assert not multiprocessing.active_children()


@pytest.fixture(
    scope="session",
    params=[
        "cpu",
        pytest.param(
            "cuda",
            marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")],
        ),
    ],
)
def device(request):
    """The CPU and, where there is one, a GPU."""
    return torch.device(request.param)


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


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a file system can be mounted by root alone")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def fill(small_disk):
    """A function that writes a file as large as the small disk has room for, and returns its path."""

    def write():
        with (small_disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        return small_disk / "filler"

    return write


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight normal films to train on and three of each class to score, without val/."""
    root = tmp_path_factory.mktemp("phantom") / "data"
    phantom.write_phantom(root, size=32, num_train=8, num_val=0, num_test=3)
    shutil.rmtree(root / "val")
    return root


@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    """An empty folder as torchvision's cache, and no network; gives the file that the weights are cached in."""

    def refuse(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", refuse)
    file = tmp_path / "hub/checkpoints" / Path(ResNet18_Weights.IMAGENET1K_V1.url).name
    file.parent.mkdir(parents=True)
    return file
