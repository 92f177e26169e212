"""The wheel: what is in it, and that it runs away from the checkout."""

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from running import ONE_THREAD, REPOSITORY

pytestmark = pytest.mark.slow


def run(*words: object, cwd: Path) -> str:
    env = {name: value for name, value in ONE_THREAD.items() if name != "PYTHONPATH"}  # which may name the checkout
    done = subprocess.run([*map(str, words)], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of the checkout, which would hold its traces."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "checkout"
    shutil.copytree(REPOSITORY / "salad", source / "salad", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, source, cwd=folder)
    return next(folder.glob("salad_xray-*.whl"))


def test_it_holds_every_file_of_the_package_and_no_other(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}
    files = [path for path in (REPOSITORY / "salad").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    expected = {path.relative_to(REPOSITORY).as_posix() for path in files}
    assert names == expected
    assert {"salad/py.typed", "salad/report/templates/report.html"} <= names


def test_it_installs_and_runs_without_the_checkout(wheel, tmp_path):
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "env", cwd=tmp_path)
    python = tmp_path / "env/bin/python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    # the packages that it needs, but nothing that a .pth file there adds, such as this checkout
    (site / "packages.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=tmp_path)

    where = run(python, "-c", "import salad; print(salad.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(site)
    assert run(tmp_path / "env/bin/salad", "--version", cwd=tmp_path).startswith("salad ")
    assert "40 normal" in run(tmp_path / "env/bin/salad", "inspect", "CXR_phantom", "films", cwd=tmp_path)
