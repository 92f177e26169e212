"""Packages that are not there: one line with the way out, from every door, in a checkout and without one."""

import shutil
import subprocess
import sys
from importlib import metadata

import pytest
from running import REPOSITORY

import salad
from salad import packages
from salad.packages import install_command, missing_package


@pytest.fixture
def checkout(tmp_path):
    """The programs in another folder."""
    shutil.copytree(REPOSITORY / "salad", tmp_path / "salad", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("main.py", "test.py", "setup.sh"):
        shutil.copy(REPOSITORY / name, tmp_path)
    return tmp_path


@pytest.mark.parametrize("door", [["main.py"], ["test.py"], ["-m", "salad"]])
def test_a_forgotten_activation_is_one_line_that_names_the_command(checkout, door):
    (checkout / ".venv").mkdir()
    done = subprocess.run([sys.executable, "-S", *door], cwd=checkout, capture_output=True, text=True, check=False)

    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("Error: ")
    assert "no package 'click'" in done.stderr and f"source {checkout}/.venv/bin/activate" in done.stderr


def test_without_an_environment_the_line_says_how_to_make_one(checkout):
    command = [sys.executable, "-S", "main.py"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)

    assert done.returncode == 2 and "bash setup.sh --env-only" in done.stderr


def test_a_package_that_is_missed_later_is_said_in_the_same_way(tmp_path):
    words = ["train", "CXR_phantom", "unet", str(tmp_path / "xp"), str(tmp_path / "data")]
    code = f"import sys; sys.modules['torch'] = None; sys.argv[1:] = {words}; from salad.__main__ import run; run()"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)

    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "no package 'torch'" in done.stderr and not (tmp_path / "xp").exists()


def test_an_error_of_this_program_is_not_taken_for_a_missing_package():
    assert missing_package(ModuleNotFoundError("No module named 'salad.none'", name="salad.none")) is None


def test_in_a_checkout_an_extra_is_installed_from_it(monkeypatch, tmp_path):
    monkeypatch.chdir(REPOSITORY)
    assert install_command("export") == 'pip install -e ".[export]"'
    monkeypatch.chdir(tmp_path)
    assert install_command("export") == f'pip install -e "{REPOSITORY}[export]"'


def test_without_a_checkout_the_packages_are_named_and_not_the_distribution(monkeypatch, tmp_path):
    monkeypatch.setattr(packages, "CHECKOUT", tmp_path)
    lines = [
        "torch>=2.6",
        'onnx>=1.17; extra == "export"',
        'onnxruntime>=1.20; extra == "export"',
        'gdown; extra == "data"',
    ]
    monkeypatch.setattr(metadata, "requires", lambda name: lines)

    assert install_command("export") == 'pip install "onnx>=1.17" "onnxruntime>=1.20"'
    assert (
        missing_package(ModuleNotFoundError(name="torch"))
        == "the package 'torch' is not installed: pip install \"torch>=2.6\""
    )


def test_the_detector_is_listed_before_its_first_use():
    assert {"Detector", "__version__"} <= {*dir(salad)}
