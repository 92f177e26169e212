"""setup.sh: the real script in a copy of the checkout, with stand-ins for python3, conda and mamba."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SYSTEM_TOOLS = ["awk", "basename", "bash", "cat", "chmod", "cksum", "cp", "dirname", "find"]
SYSTEM_TOOLS += ["mkdir", "mktemp", "rm", "rmdir", "sed"]

# Answers the questions of setup.sh, and records the rest in $LOG. As `-m venv DIR` it makes a copy of itself.
FAKE_PYTHON = """#!/usr/bin/env bash
case "$*" in
    *version_info*) [ -z "${FAKE_VERSION:-}" ] && exit 127; echo "$FAKE_VERSION"; exit ;;
    *"import ensurepip, venv"*) exit "${FAKE_NO_VENV:-0}" ;;
    *"import pip"*) [ -e "$(dirname "$0")/pip" ]; exit ;;
    "-I - "*) cat >/dev/null; [ -e "$(dirname "$0")/installed" ]; exit ;;
esac
printf 'python' >>"$LOG"; printf ' [%s]' "$@" >>"$LOG"; echo >>"$LOG"
case "$*" in
    "-m venv "*)
        mkdir -p "$3/bin"
        [ -z "${FAKE_KILL_VENV:-}" ] || { kill -9 $PPID; exit 9; }
        cp "$0" "$3/bin/python"; : >"$3/bin/pip" ;;
    "-m pip "*" -e "*)
        [ "${FAKE_PIP:-0}" -eq 0 ] || { echo "pip: no network" >&2; exit 1; }
        [ -n "${FAKE_BROKEN:-}" ] || : >"$(dirname "$0")/installed" ;;
    "-m salad fetch"*) exit "${FAKE_ARCHIVE:-0}" ;;
    "-m pytest"*) exit "${FAKE_PYTEST:-0}" ;;
    "main.py"*) [ ! -e log/demo/old ] || exit 7 ;;
esac
"""

# `env create` and `env update` put the fake python in $ENVS/SALAD and keep the file that they were given.
FAKE_CONDA = """#!/usr/bin/env bash
case "$*" in
    "env list")
        echo "# conda environments:"; echo "base   *  $ENVS"; echo "SALAD2    $ENVS/SALAD2"
        [ ! -d "$ENVS/SALAD" ] || printf "${FAKE_LINE:-SALAD                 %s\\n}" "$ENVS/SALAD" ;;
    "env create "*|"env update "*)
        echo "$(basename "$0") $1 $2 $3 $4 $5" >>"$LOG"
        [ -z "${FAKE_CONDA:-}" ] || exit 1
        cp "$6" "$LOG.yml"
        mkdir -p "$ENVS/SALAD/bin"; cp "$FAKES/python3" "$ENVS/SALAD/bin/python" ;;
    *) exit 64 ;;
esac
"""


def write_script(path, text):
    path.write_text(text)
    path.chmod(0o755)


class Checkout:
    """A copy of the files that setup.sh needs, and a PATH of stand-ins."""

    def __init__(self, folder):
        self.root, self.fakes, self.log = folder / "the checkout", folder / "bin", folder / "log.txt"
        self.envs = folder / "my envs"
        for path in (self.root, self.fakes, self.envs):
            path.mkdir()
        for name in ("setup.sh", "environment.yml", "pyproject.toml"):
            shutil.copy(ROOT / name, self.root / name)
        for name in SYSTEM_TOOLS:
            (self.fakes / name).symlink_to(shutil.which(name))
        self.add("python3", FAKE_PYTHON)
        self.log.touch()

    def add(self, name, text):
        write_script(self.fakes / name, text)

    def run(self, *args, cwd=None, **variables):
        env = {"PATH": str(self.fakes), "LOG": str(self.log), "ENVS": str(self.envs), "FAKES": str(self.fakes)}
        env |= {"FAKE_VERSION": "3.11.7", "HOME": str(self.root.parent)} | variables
        command = ["bash", str(self.root / "setup.sh"), *map(str, args)]
        return subprocess.run(
            command, cwd=cwd or self.root, env=env, capture_output=True, text=True, timeout=60, check=False
        )

    def calls(self):
        """What was run since the last question, one string a command."""
        lines = self.log.read_text().splitlines()
        self.log.write_text("")
        return lines


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def pip_line(extra, words=""):
    return f"python [-m] [pip] [install]{words} [-e] [.[{extra}]]"


FETCH = "python [-m] [salad] [fetch] [--out] [data]"


def test_syntax():
    assert subprocess.run(["bash", "-n", ROOT / "setup.sh"], check=False).returncode == 0


def test_help_names_every_mode(checkout):
    result = checkout.run("--help", FAKE_VERSION="")
    assert result.returncode == 0
    modes = set(re.findall(r"^  (--[\w-]+)", result.stdout, re.MULTILINE))
    assert modes == {"--archive", "--demo", "--test", "--env-only", "--help"}
    assert not checkout.calls()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--frobnicate"], "unknown mode: --frobnicate"),
        (["data"], "unknown mode: data"),
        (["--demo", "more"], "unexpected argument: more"),
        (["--archive"], "--archive takes one file"),
        (["--archive", "nowhere.tar.xz"], "nowhere.tar.xz: no such file"),
        (["--env-only", "test", "data"], "--env-only takes one extra"),
        (["--env-only", "x]; rm"], "not an extra"),
    ],
)
def test_bad_arguments(checkout, args, message):
    result = checkout.run(*args)
    assert result.returncode == 2
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert message in result.stderr
    assert not checkout.calls()


def test_plain_run_makes_venv_installs_and_fetches(checkout, tmp_path):
    result = checkout.run(cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    venv = checkout.root / ".venv"
    pip = "python [-m] [pip] [install] [--quiet] [pip>=21.3]"
    assert checkout.calls() == [f"python [-m] [venv] [{venv}]", pip, pip_line("data,dicom"), FETCH]
    last = result.stderr.splitlines()[-1]
    assert f'cd "{checkout.root}" && source .venv/bin/activate && python main.py' in last


def test_second_run_is_quick(checkout):
    checkout.run()
    checkout.calls()
    result = checkout.run()
    assert result.returncode == 0
    assert checkout.calls() == [FETCH]
    assert "up to date" in result.stderr


@pytest.mark.parametrize("change", ["pyproject", "extra", "pip args", "packages", "moved"])
def test_pip_is_never_skipped_wrongly(checkout, change):
    checkout.run("--env-only")
    checkout.calls()
    args, variables = ["--env-only"], {}
    if change == "pyproject":
        with (checkout.root / "pyproject.toml").open("a") as file:
            file.write("# new\n")
    elif change == "extra":
        args.append("test")
    elif change == "pip args":
        variables["SALAD_PIP_ARGS"] = "--pre"
    elif change == "packages":
        (checkout.root / ".venv/bin/installed").unlink()
    else:
        checkout.root = checkout.root.rename(checkout.root.with_name("elsewhere"))
    result = checkout.run(*args, **variables)
    assert result.returncode == 0, result.stderr
    assert [line for line in checkout.calls() if "[-e]" in line]
    checkout.run(*args, **variables)
    assert not checkout.calls()


def test_switching_extras_does_not_repeat_pip(checkout):
    checkout.run("--env-only", "test")
    checkout.run("--env-only")
    checkout.calls()
    checkout.run("--env-only", "test")
    checkout.run("--env-only")
    assert not checkout.calls()


def test_pip_args_are_words_without_file_names(checkout):
    (checkout.root / "a.whl").touch()
    result = checkout.run("--env-only", SALAD_PIP_ARGS="--find-links  *.whl")
    assert result.returncode == 0, result.stderr
    assert pip_line("data,dicom", " [--find-links] [*.whl]") in checkout.calls()


def test_pip_failure_is_reported_and_tried_again(checkout):
    result = checkout.run("--env-only", FAKE_PIP="1")
    assert result.returncode == 2
    assert "pip could not install" in result.stderr
    assert "Ready" not in result.stderr
    checkout.calls()
    assert checkout.run("--env-only").returncode == 0
    assert pip_line("data,dicom") in checkout.calls()


def test_failed_upgrade_is_not_forgotten(checkout):
    original = (checkout.root / "pyproject.toml").read_text()
    checkout.run("--env-only")
    (checkout.root / "pyproject.toml").write_text(original + "# new\n")
    assert checkout.run("--env-only", FAKE_PIP="1").returncode == 2
    (checkout.root / "pyproject.toml").write_text(original)
    checkout.calls()
    checkout.run("--env-only")
    assert pip_line("data,dicom") in checkout.calls()


def test_packages_missing_after_pip(checkout):
    result = checkout.run("--env-only", FAKE_BROKEN="1")
    assert result.returncode == 2
    assert "lacks packages" in result.stderr


def test_killed_venv_creation_does_not_wedge(checkout):
    assert checkout.run("--env-only", FAKE_KILL_VENV="1").returncode == -9
    leftover = checkout.root / ".venv/bin/leftover"
    leftover.touch()
    result = checkout.run("--env-only")
    assert result.returncode == 0, result.stderr
    assert not leftover.exists()
    assert not (checkout.root / ".venv/unfinished").exists()


def test_empty_venv_folder_does_not_wedge(checkout):
    (checkout.root / ".venv").mkdir()
    assert checkout.run("--env-only").returncode == 0


def test_venv_of_the_user_is_not_deleted(checkout):
    mine = checkout.root / ".venv/mine.txt"
    mine.parent.mkdir()
    mine.touch()
    result = checkout.run("--env-only")
    assert result.returncode == 2
    assert f'rm -r "{mine.parent}"' in result.stderr
    assert mine.exists()


def test_old_python_is_named(checkout):
    result = checkout.run(FAKE_VERSION="3.8.10")
    assert result.returncode == 2
    assert "Python 3.10 or later is needed (on the PATH: python3 is 3.8.10)" in result.stderr
    assert not checkout.calls()
    assert not (checkout.root / ".venv").exists()


@pytest.mark.parametrize(("version", "fits"), [("3.10.0", True), ("3.9.18", False), ("2.7.18", False), ("4.0.0", True)])
def test_version_bound(checkout, version, fits):
    assert (checkout.run("--env-only", FAKE_VERSION=version).returncode == 0) == fits


def test_a_later_name_is_taken_where_python3_is_old(checkout):
    checkout.add("python3", "#!/usr/bin/env bash\necho 3.8.10\n")
    checkout.add("python3.13", "#!/usr/bin/env bash\nexit 127\n")  # a shim without a Python behind it
    checkout.add("python3.12", FAKE_PYTHON)
    result = checkout.run("--env-only", FAKE_VERSION="3.12.4")
    assert result.returncode == 0, result.stderr
    assert "Making .venv with python3.12 (3.12.4)" in result.stderr


def test_no_python_at_all(checkout):
    (checkout.fakes / "python3").unlink()
    result = checkout.run()
    assert result.returncode == 2
    assert "no python3 at all" in result.stderr


def test_missing_venv_module(checkout):
    result = checkout.run(FAKE_NO_VENV="1")
    assert result.returncode == 2
    assert "python3 has no venv module" in result.stderr
    assert "python3-venv" in result.stderr


def test_fetch_without_network_keeps_the_environment(checkout):
    result = checkout.run(FAKE_ARCHIVE="2")
    assert result.returncode == 2
    assert "the environment is ready" in result.stderr
    assert "bash setup.sh --archive FILE" in result.stderr
    assert "Ready. Next" not in result.stderr
    checkout.calls()
    assert checkout.run().returncode == 0
    assert checkout.calls() == [FETCH]


def test_local_archive_is_found_from_the_folder_of_the_caller(checkout, tmp_path):
    (tmp_path / "my files").mkdir()
    (tmp_path / "my files/author.tar.xz").touch()
    result = checkout.run("--archive", "my files/author.tar.xz", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert checkout.calls()[-1] == f"{FETCH} [--archive] [{tmp_path}/my files/author.tar.xz]"


def test_checksum_is_handed_on(checkout, tmp_path):
    (tmp_path / "author.tar.xz").touch()
    assert checkout.run(SALAD_ARCHIVE_SHA256="ab 12").returncode == 0
    assert checkout.calls()[-1] == f"{FETCH} [--sha256] [ab 12]"
    assert checkout.run("--archive", tmp_path / "author.tar.xz", SALAD_ARCHIVE_SHA256="ab").returncode == 0
    assert checkout.calls()[-1] == f"{FETCH} [--sha256] [ab] [--archive] [{tmp_path}/author.tar.xz]"
    checkout.run(SALAD_ARCHIVE_SHA256="")
    assert checkout.calls()[-1] == FETCH
    assert "SALAD_ARCHIVE_SHA256" in checkout.run("--help").stdout


def test_test_mode_hands_arguments_and_status_to_pytest(checkout):
    result = checkout.run("--test", "-k", "one or two", FAKE_PYTEST="5")
    assert result.returncode == 5
    calls = checkout.calls()
    assert pip_line("test") in calls
    assert calls[-1] == "python [-m] [pytest] [-k] [one or two]"
    assert not [line for line in calls if "[fetch]" in line]
    assert checkout.run("--test").returncode == 0
    assert checkout.calls()[-1].startswith("python [-m] [pytest] [--numprocesses] [auto]")


def test_demo_is_repeatable_and_touches_only_its_folder(checkout):
    for folder in ("demo", "mine"):
        (checkout.root / "log" / folder).mkdir(parents=True)
        (checkout.root / "log" / folder / "old").touch()
    result = checkout.run("--demo")
    assert result.returncode == 0, result.stderr
    calls = checkout.calls()
    assert calls[-2].startswith("python [main.py] [CXR_phantom] [unet] [log/demo] [data/phantom]")
    assert calls[-1].startswith("python [test.py] [CXR_phantom] [unet] [log/demo] [data/phantom]")
    assert "[--load_model] [log/demo/model_round2.tar]" in calls[-1]
    assert (checkout.root / "log/mine/old").exists()
    assert not [line for line in calls if "[fetch]" in line]


@pytest.mark.parametrize("names", [["conda"], ["conda", "mamba"]])
def test_conda_makes_the_environment_without_the_pip_section(checkout, names):
    for name in names:
        checkout.add(name, FAKE_CONDA)
    scratch = checkout.log.parent / "scratch"
    scratch.mkdir()
    result = checkout.run("--env-only", TMPDIR=str(scratch))
    assert result.returncode == 0, result.stderr
    assert not list(scratch.iterdir())
    calls = checkout.calls()
    assert calls[0] == f"{names[-1]} env create -n SALAD -f"
    assert calls[-1] == pip_line("data,dicom")
    assert not (checkout.root / ".venv").exists()
    given = (checkout.log.parent / "log.txt.yml").read_text()
    whole = (ROOT / "environment.yml").read_text()
    assert given == whole.replace("  - pip:\n      - -e .[data,dicom]\n", "") != whole
    assert "conda activate SALAD" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("line", ["SALAD                 %s\\n", "SALAD              *  %s\\n", "  SALAD   *   %s\\n"])
def test_conda_environment_is_reused(checkout, line):
    checkout.add("conda", FAKE_CONDA)
    checkout.run("--env-only")
    checkout.calls()
    result = checkout.run("--env-only", FAKE_LINE=line)
    assert result.returncode == 0, result.stderr
    assert not checkout.calls()


def test_conda_environment_without_python_is_completed(checkout):
    checkout.add("conda", FAKE_CONDA)
    (checkout.envs / "SALAD").mkdir()
    assert checkout.run("--env-only").returncode == 0
    assert checkout.calls()[0] == "conda env update -n SALAD -f"


def test_conda_environment_of_an_old_python(checkout):
    checkout.add("conda", FAKE_CONDA)
    result = checkout.run("--env-only", FAKE_VERSION="3.6.9")
    assert result.returncode == 2
    assert "has Python 3.6.9, not 3.10 or later; remove it (conda env remove -n SALAD)" in result.stderr


def test_conda_failure(checkout):
    checkout.add("conda", FAKE_CONDA)
    result = checkout.run("--env-only", FAKE_CONDA="1")
    assert result.returncode == 2
    assert "conda env create failed" in result.stderr
    assert not [line for line in checkout.calls() if "pip" in line]


def test_a_download_that_is_interrupted_ends_with_that_status(checkout):
    result = checkout.run(FAKE_ARCHIVE="130")
    assert result.returncode == 130
    assert "the data is not" not in result.stderr


def is_complete(python, extra, here):
    """Ask the function `complete` of setup.sh, with a real Python."""
    script = f'source "{ROOT}/setup.sh"; PY=$1 HERE=$2; complete "$3"'
    command = ["bash", "-c", script, "bash", str(python), str(here), extra]
    return subprocess.run(command, capture_output=True, check=False, cwd=os.sep).returncode == 0


def test_complete_knows_this_environment_and_no_other_checkout(tmp_path):
    command = [sys.executable, "-I", "-c", "import salad; print(salad.__file__)"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    if found != str(ROOT / "salad/__init__.py"):
        pytest.skip("this checkout is not what is installed here (pip install -e .)")
    assert is_complete(sys.executable, "data", ROOT)
    (tmp_path / "salad").mkdir()
    assert not is_complete(sys.executable, "data", tmp_path)


def test_complete_wants_each_package(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    command = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    here = tmp_path / "here"
    (here / "salad").mkdir(parents=True)
    (here / "salad/__init__.py").touch()
    (site / "here.pth").write_text(f"{here}\n")
    requires = ["torch>=2", "torchvision", 'gdown>=5.2; extra == "data"', 'pytest; extra == "test"']
    requires += ["winthing; sys_platform == 'nowhere'"]
    for name in ("salad", "torch", "torchvision", "gdown"):
        (site / name).mkdir()
        (site / name / "__init__.py").touch()
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        lines = [f"Requires-Dist: {line}" for line in requires if name == "salad"]
        (info / "METADATA").write_text(
            "\n".join(["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *lines, ""])
        )
    shutil.rmtree(site / "salad")  # the one of `here` is meant
    assert is_complete(python, "data", here)
    assert not is_complete(python, "test", here)  # no pytest
    shutil.rmtree(site / "gdown-1.0.dist-info")
    assert not is_complete(python, "data", here)
    assert is_complete(python, "none", here)
    shutil.rmtree(site / "torchvision")
    assert not is_complete(python, "none", here)


def test_environment_file_is_whole():
    lines = (ROOT / "environment.yml").read_text().splitlines()
    assert "name: SALAD" in lines
    assert lines[-2:] == ["  - pip:", "      - -e .[data,dicom]"]
    assert "  - conda-forge" in lines
