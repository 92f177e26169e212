"""The house: which room may import which, where a module is tested, and how docstrings begin."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from running import ONE_THREAD, REPOSITORY

SALAD, TESTS = REPOSITORY / "salad", REPOSITORY / "tests"
FLAT = 16  # files directly in salad/, at most
RIDDLES = {"What", "Where", "Whether", "How", "Which"}  # no sentence of a docstring's first line begins with one
# Modules without a test file of their own name: the file that tests them, with what they are part of.
TESTED_IN = {
    "__main__": "test_packages",
    **{f"cli/{name}": "test_cli" for name in ("options", "program", "runs")},
    "cli/data": "checks/test_inspection",
    "cli/films": "scoring/test_predict",
    "cli/results": "evaluation/test_comparison",
    "cli/study": "study/test_study",
    "build": "images/test_preprocessing",
    "samples": "datasets/test_readers",
    "checks/baselines": "checks/test_inspection",
    "checks/films": "checks/test_inspection",
    "checks/labels": "checks/test_inspection",
    "checks/leaks": "checks/test_inspection",
    "checks/more_normals": "datasets/test_more_normals",
    "checks/screen": "checks/test_inspection",
    "config/data": "config/test_config",
    "config/declare": "config/test_config",
    "config/images": "config/test_config",
    "config/run": "config/test_config",
    "config/scoring": "config/test_config",
    "config/training": "config/test_config",
    **{
        f"datasets/{name}": "datasets/test_readers" for name in ("chexpert", "lists", "medianomaly", "medmnist", "mura")
    },
    **{f"datasets/{name}": "datasets/test_readers" for name in ("nih", "rsna", "table", "tables", "vindr")},
    "datasets/one_class": "datasets/test_more_normals",
    "distributed/ddp": "distributed/test_team",
    "evaluation/calibration": "evaluation/test_rates",
    "evaluation/result": "evaluation/test_summary",
    **{f"explaining/{name}": "explaining/test_explain" for name in ("explanation", "make")},
    "export/portable": "export/test_files",
    "export/statement": "export/test_files",
    "images/cache_file": "images/test_cache",
    "images/decoder": "images/test_scan",
    "images/gdcm_process": "images/test_dicom",
    "images/headers": "checks/test_inspection",
    "images/dicom_bits": "images/test_dicom",
    "images/masks": "explaining/test_locate",
    "images/npz": "datasets/test_readers",
    "images/stamp": "images/test_cache",
    "images/threads": "datasets/test_loader",
    **{f"losses/{name}": "losses/test_losses" for name in ("aggregation", "inputs", "reconstruction", "svdd")},
    "losses/synthetic": "datasets/test_synthetic",
    "networks/anomaly_head": "datasets/test_synthetic",
    **{f"networks/{name}": "networks/test_networks" for name in ("compiled", "layers", "resnet18", "unet")},
    **{f"networks/{name}": "networks/test_backbones" for name in ("efficientnet_lite0", "frozen_resnet18")},
    **{f"report/{name}": "report/test_write" for name in ("captions", "cases", "content", "curves", "details")},
    **{f"report/{name}": "report/test_write" for name in ("figures", "history", "page", "table")},
    "runs/folder": "training/test_trainer",
    "scores/inputs": "scoring/test_patch_memories",
    "scores/patches": "scoring/test_patch_memories",
    "scores/prototype": "scores/test_knn",
    **{f"scores/{name}": "training/test_trainer" for name in ("reconstruction", "svdd")},
    "scoring/enrolment": "scoring/test_enrol",
    "scoring/evaluate": "training/test_trainer",
    "scoring/options": "test_cli",
    "scoring/row_maker": "scoring/test_predict",
    "scoring/stream": "scoring/test_predict",
    "scoring/training_images": "explaining/test_explain",
    **{f"study/{name}": "study/test_study" for name in ("page", "results", "write")},
    **{f"training/{name}": "training/test_trainer" for name in ("data", "optimiser", "run", "validation")},
    "serve/films": "serve/test_app",
    "serve/page": "serve/test_server",
    "training/fit": "test_detector",
    "training/meters": "training/test_guards",
    "training/signals": "training/test_state",
    "training/template": "images/test_preprocessing",
}


def modules() -> list[str]:
    paths = [path.relative_to(SALAD) for path in SALAD.rglob("*.py") if path.name != "__init__.py"]
    return sorted(path.with_suffix("").as_posix() for path in paths)


def lint(checkout: Path) -> tuple[int, str]:
    """Run the import contract of a checkout; returns its status and what it said."""
    script = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    env = {**ONE_THREAD, "PYTHONPATH": str(checkout)}
    done = subprocess.run([sys.executable, "-c", script], cwd=checkout, env=env, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_rooms_import_downwards_and_nothing_lies_outside_their_list():
    status, said = lint(REPOSITORY)
    assert status == 0, said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("stray.py", "", "salad.stray"),  # a flat file that is not in the list
        ("nearest.py", "from salad import anchors", "salad.nearest is not allowed to import salad.anchors"),
        ("datasets/tables.py", "from salad.datasets import lists", "circle BROKEN"),
    ],
)
def test_what_does_not_belong_there_is_found(tmp_path, file, line, said):
    shutil.copytree(SALAD, tmp_path / "salad", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    with (tmp_path / "salad" / file).open("a", encoding="utf-8") as module:
        module.write(f"{line}\n")
    status, shown = lint(tmp_path)
    assert status == 1 and said in " ".join(shown.split()), shown


def test_the_list_of_rooms_is_that_of_the_files_and_folders():
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    layers = re.search(r"^layers = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE)[1]
    listed = re.findall(r"\w+", layers)
    there = {path.stem for path in SALAD.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert sorted(listed) == sorted(there - {"__init__"})


def test_few_files_lie_flat():
    assert len([*SALAD.glob("*.py")]) <= FLAT


@pytest.mark.parametrize("module", modules())
def test_a_module_has_a_test_file_of_its_own_name_or_is_tested_in_another(module):
    folder, _, name = module.rpartition("/")
    own = TESTS / folder / f"test_{name}.py"
    assert own.exists() != (module in TESTED_IN), "either of the two"
    if module in TESTED_IN:
        assert (TESTS / f"{TESTED_IN[module]}.py").exists()


def test_the_list_of_modules_that_others_test_is_up_to_date():
    assert TESTED_IN.keys() <= {*modules()}


def test_docstrings_begin_with_a_verb_or_a_noun():
    riddles = []
    for path in [*SALAD.rglob("*.py"), *(REPOSITORY / "benchmarks").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module)) and (text := ast.get_docstring(node)):
                first = text.split()[0].strip(",.:")
                riddles += [f"{path.name}: {text.splitlines()[0]}"] if first in RIDDLES else []
    assert not riddles
