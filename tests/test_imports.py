"""What a training does without: packages that take long to import, or that not everyone has."""

import subprocess
import sys

import pytest
from running import ONE_THREAD, REPOSITORY, SHORT

HEAVY = {
    "IPython", "gdcm", "huggingface_hub", "jinja2", "matplotlib", "mlflow", "onnx", "onnxruntime", "onnxscript",
    "pandas", "pydicom", "safetensors", "scipy", "sklearn", "tensorboard", "tensorflow", "timm",
}  # fmt: skip
# The program of a script with the tiny network, then what it has imported.
PROGRAM = """
import sys, torch
torch.set_num_threads(1)
from salad.networks import unet
unet.WIDTHS = (4, 4, 4, 4, 4, 4, 8)
from salad import cli
getattr(cli, sys.argv[1])(sys.argv[2:], standalone_mode=False)
print("modules", *{name.partition(".")[0] for name in sys.modules})
"""


def modules_of(*words: object) -> set[str]:
    command = [sys.executable, "-c", PROGRAM, *map(str, words)]
    env = {**ONE_THREAD, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    name, *modules = done.stdout.splitlines()[-1].split()
    assert name == "modules"
    return set(modules)


@pytest.fixture
def with_val(data):
    """The same films with three of each class to validate."""
    if not (data / "val").exists():
        (data / "val").symlink_to(data / "test")
    return data


@pytest.mark.slow
def test_a_training_imports_nothing_that_is_heavy_or_optional(with_val, tmp_path):
    found = modules_of("train", "CXR_author", "unet", tmp_path, with_val, *SHORT, "--augment", "ssl")

    assert "torch" in found
    assert (tmp_path / "model.tar").exists()
    assert not found & HEAVY
