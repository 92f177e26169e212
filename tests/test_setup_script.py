"""setup.sh: the real script in a copy of the checkout, with stand-ins for python3, conda and mamba."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SYSTEM_TOOLS = ["basename", "bash", "cat", "cksum", "cp", "dirname", "grep", "mkdir", "rm", "sed"]

# Answers the questions of setup.sh, and records the rest in $LOG. As `-m venv DIR` it makes a copy of itself.
FAKE_PYTHON = """#!/usr/bin/env bash
case "$*" in
    --version) echo "Python 3.8.10"; exit ;;
    *version_info*) exit "${FAKE_OLD:-0}" ;;
    *"import ensurepip, venv"*) exit "${FAKE_NO_VENV:-0}" ;;
    *"import pip"*) [ -e "$(dirname "$0")/pip" ]; exit ;;
    *"import torch"*) exit 1 ;;
    *urllib.request*) exit "${FAKE_INDEX:-1}" ;;
esac
printf 'python' >>"$LOG"; printf ' [%s]' "$@" >>"$LOG"; echo >>"$LOG"
case "$*" in
    "-m venv "*)
        mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; : >"$3/bin/pip"
        [ -z "${FAKE_KILL_VENV:-}" ] || { kill -9 $PPID; exit 9; } ;;
    "-m pip "*" -e "*) [ "${FAKE_PIP:-0}" -ne 9 ] || kill -9 $PPID; exit "${FAKE_PIP:-0}" ;;
    "-m salad fetch"*) exit "${FAKE_FETCH:-0}" ;;
    "-m pytest"*) exit "${FAKE_PYTEST:-0}" ;;
    "main.py"*) [ ! -e log/demo/old ] || exit 7; exit "${FAKE_TRAIN:-0}" ;;
esac
"""

# `create` and `install` put the fake python in $ENVS/SALAD.
FAKE_CONDA = """#!/usr/bin/env bash
case "$*" in
    "env list")
        echo "# conda environments:"; echo "base   *  $ENVS"; echo "SALAD2    $ENVS/SALAD2"
        [ ! -d "$ENVS/SALAD" ] || printf "${FAKE_LINE:-SALAD                 %s\\n}" "$ENVS/SALAD" ;;
    create*|install*)
        echo "$(basename "$0") $*" >>"$LOG"
        [ -z "${FAKE_CONDA:-}" ] || exit 1
        mkdir -p "$ENVS/SALAD/bin"; cp "$FAKES/python3" "$ENVS/SALAD/bin/python"; : >"$ENVS/SALAD/bin/pip" ;;
    *) exit 64 ;;
esac
"""

FAKE_DF = """#!/usr/bin/env bash
echo "Filesystem  1024-blocks  Used  Available Capacity Mounted on"
echo "/dev/a disk    99999999     1  ${FAKE_FREE:-60000000}      56% /a folder"
"""


class Checkout:
    """A copy of the files that setup.sh needs, and a PATH of stand-ins."""

    def __init__(self, folder):
        self.root, self.fakes, self.log = folder / "the checkout", folder / "bin", folder / "log.txt"
        self.envs = folder / "my envs"
        for path in (self.root, self.fakes, self.envs):
            path.mkdir()
        for name in ("setup.sh", "pyproject.toml"):
            shutil.copy(ROOT / name, self.root / name)
        for name in SYSTEM_TOOLS:
            (self.fakes / name).symlink_to(shutil.which(name))
        self.add("python3", FAKE_PYTHON)
        self.add("df", FAKE_DF)
        self.log.touch()

    def add(self, name, text):
        (self.fakes / name).write_text(text)
        (self.fakes / name).chmod(0o755)

    def run(self, *args, cwd=None, **variables):
        env = {"PATH": str(self.fakes), "LOG": str(self.log), "ENVS": str(self.envs), "FAKES": str(self.fakes)}
        command = ["bash", str(self.root / "setup.sh"), *map(str, args)]
        options = {"cwd": cwd or self.root, "env": env | variables, "timeout": 60}
        return subprocess.run(command, capture_output=True, text=True, check=False, **options)

    def calls(self):
        """What was run since the last question, one string a command."""
        lines = self.log.read_text().splitlines()
        self.log.write_text("")
        return lines

    def succeed(self, *args, **options):
        result = self.run(*args, **options)
        assert result.returncode == 0, result.stderr
        return self.calls(), result.stderr.splitlines()[-1]

    def fail(self, *args, **options):
        """Run it to its error, the last line; nothing is said to be ready."""
        result = self.run(*args, **options)
        assert result.returncode == 2
        assert "Ready" not in result.stderr
        *_, last = result.stderr.splitlines()
        assert last.startswith("Error: ") and result.stderr.count("Error: ") == 1
        return last


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def pip_line(extra, words=""):
    return f"python [-m] [pip] [install]{words} [-e] [.[{extra}]]"


FETCH = "python [-m] [salad] [fetch] [--out] [data]"


def test_help_names_every_mode(checkout):
    result = checkout.run("--help")
    modes = set(re.findall(r"^  (--[\w-]+)", result.stdout, re.MULTILINE))
    assert modes == {"--archive", "--demo", "--test", "--env-only", "--help"}
    assert "SALAD_PIP_ARGS" in result.stdout and "SALAD_ARCHIVE_SHA256" in result.stdout
    assert result.returncode == 0 and not checkout.calls()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--frobnicate"], "unknown mode: --frobnicate"),
        (["data"], "unknown mode: data"),
        (["--demo", "more"], "unexpected argument: more"),
        (["--archive"], "--archive takes one file"),
        (["--archive", "nowhere.tar.xz"], "nowhere.tar.xz: no such file"),
        (["--env-only", "test", "data"], "--env-only takes one word"),
        (["--env-only", "data,tests"], "has no extra 'tests'; it has data, dicom, export, "),
        (["--env-only", "data,"], "has no extra ''"),
        (["--env-only", ""], "has no extra ''"),
        (["--env-only", "-v"], "has no extra '-v'"),
    ],
)
def test_bad_arguments(checkout, args, message):
    assert message in checkout.fail(*args)
    assert not checkout.calls()


def test_plain_run_makes_venv_installs_and_fetches(checkout, tmp_path):
    calls, last = checkout.succeed(cwd=tmp_path)
    venv = f"python [-m] [venv] [{checkout.root}/.venv]"
    assert calls == [venv, "python [-m] [pip] [install] [--quiet] [pip>=21.3]", pip_line("data,dicom"), FETCH]
    quoted = str(checkout.root).replace(" ", "\\ ")
    assert last.endswith(
        f"cd {quoted} && source .venv/bin/activate && python main.py CXR_author CXR_resnet18 log/CXR_test data/author"
    )
    assert checkout.succeed()[0] == [FETCH]  # the second run is quick


def test_env_only_takes_every_extra_and_is_up_to_date_after_it(checkout):
    section = (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]\n")[1].split("\n\n")[0]
    extras = re.findall(r"^(\S+) = \[", section, re.MULTILINE)
    assert {"data", "dicom", "test"} < set(extras)
    calls, last = checkout.succeed("--env-only", ",".join(extras))
    assert pip_line(",".join(extras)) in calls
    assert last.endswith("source .venv/bin/activate && salad --help")
    assert pip_line("data,dicom") in checkout.succeed("--env-only")[0]
    for again in ([], [",".join(extras)], ["data,dicom"]):
        assert checkout.succeed("--env-only", *again)[0] == []
    assert "up to date" in checkout.run("--env-only").stderr


@pytest.mark.parametrize("change", ["pyproject", "extra", "pip args", "moved"])
def test_pip_is_never_skipped_wrongly(checkout, change):
    checkout.succeed("--env-only")
    args, variables = ["--env-only"], {}
    if change == "pyproject":
        with (checkout.root / "pyproject.toml").open("a") as file:
            file.write("# new\n")
    elif change == "extra":
        args.append("test")
    elif change == "pip args":
        (checkout.root / "a.whl").touch()
        variables["SALAD_PIP_ARGS"] = "--find-links  *.whl"
    else:
        checkout.root = checkout.root.rename(checkout.root.with_name("elsewhere"))
    words = " [--find-links] [*.whl]" if variables else ""  # no names of files
    assert pip_line(args[-1] if args[1:] else "data,dicom", words) in checkout.succeed(*args, **variables)[0]
    assert checkout.succeed(*args, **variables)[0] == []


@pytest.mark.parametrize("status", ["1", "9"])
def test_a_pip_that_fails_or_is_killed_is_tried_again_for_every_extra(checkout, status):
    checkout.succeed("--env-only")
    result = checkout.run("--env-only", "test", FAKE_PIP=status)
    assert result.returncode == (-9 if status == "9" else 2)
    assert ("Error: pip could not install" in result.stderr) == (status == "1")
    for extra in ("data,dicom", "test"):
        checkout.calls()
        assert pip_line(extra) in checkout.succeed("--env-only", extra)[0]


@pytest.mark.skipif(Path("/proc/driver/nvidia").exists() or Path("/dev/dxg").exists(), reason="there is a GPU")
@pytest.mark.parametrize(
    ("variables", "is_for_cpus"),
    [
        ({"FAKE_INDEX": "0"}, True),
        ({}, False),  # the index cannot be reached
        ({"SALAD_TORCH": "cpu"}, True),
        ({"FAKE_INDEX": "0", "SALAD_TORCH": "cuda"}, False),
        ({"FAKE_INDEX": "0", "SALAD_PIP_ARGS": "--index-url https://example.org"}, False),  # the user's own
    ],
)
def test_without_a_gpu_torch_for_cpus_is_installed_where_it_can_be_had(checkout, variables, is_for_cpus):
    *_, pip = checkout.succeed("--env-only", **variables)[0]
    assert ("[--extra-index-url] [https://" in pip and "/cpu]" in pip) == is_for_cpus
    assert checkout.succeed("--env-only", **variables)[0] == []


def test_with_a_gpu_torch_is_the_one_for_it(checkout):
    checkout.add("nvidia-smi", "#!/usr/bin/env bash\n")
    *_, pip = checkout.succeed("--env-only", FAKE_INDEX="0")[0]
    assert "[--extra-index-url]" not in pip


def test_a_full_disk_is_said_before_anything_is_installed(checkout):
    line = checkout.fail("--env-only", FAKE_FREE="4000000")
    assert "the packages need 6 GB, but " in line and "has 4 GB free" in line
    assert not [call for call in checkout.calls() if "[pip] [install]" in call]
    checkout.succeed("--env-only", FAKE_FREE="4000000", SALAD_TORCH="cpu")  # which needs less


def test_killed_making_of_venv_starts_anew(checkout):
    assert checkout.run("--env-only", FAKE_KILL_VENV="1").returncode == -9
    (checkout.root / ".venv/bin/leftover").touch()
    checkout.calls()
    calls, _ = checkout.succeed("--env-only")
    assert "[venv]" in calls[0]
    assert not (checkout.root / ".venv/bin/leftover").exists()
    assert checkout.succeed("--env-only")[0] == []


def test_venv_of_the_user_is_not_deleted(checkout):
    mine = checkout.root / ".venv/mine.txt"
    mine.parent.mkdir()
    mine.touch()
    assert f'no working Python with pip; remove it (rm -r "{mine.parent}")' in checkout.fail("--env-only")
    assert mine.exists()


def test_which_python(checkout):
    message = checkout.fail(FAKE_OLD="1")
    assert "Python 3.10 or later is needed (on the PATH: Python 3.8.10)" in message
    assert "python3 has no venv module; on Debian or Ubuntu: sudo apt" in checkout.fail(FAKE_NO_VENV="1")
    assert not checkout.calls() and not (checkout.root / ".venv").exists()
    checkout.add("python3", "#!/usr/bin/env bash\nexit 127\n")  # a shim without a Python behind it
    assert "(on the PATH: no python3)" in checkout.fail()
    checkout.add("python3.12", FAKE_PYTHON)
    checkout.succeed("--env-only")


def test_a_real_python_answers_the_questions():
    questions = set(re.findall(r"-c '(import .*?)'", (ROOT / "setup.sh").read_text()))
    assert len(questions) == 5
    for question in questions:
        subprocess.run([sys.executable, "-c", question, (ROOT / "setup.sh").as_uri()], check=True)


def test_fetch_that_fails_keeps_the_environment(checkout):
    assert "the environment is ready" in checkout.fail(FAKE_FETCH="2")
    checkout.calls()
    assert checkout.succeed()[0] == [FETCH]
    result = checkout.run(FAKE_FETCH="130")
    assert result.returncode == 130 and "Error" not in result.stderr


def test_local_archive_and_its_checksum(checkout, tmp_path):
    (tmp_path / "my files").mkdir()
    (tmp_path / "my files/author.tar.xz").touch()
    words = ["--archive", "my files/author.tar.xz"]  # from the folder of the caller
    given = f"[--archive] [{tmp_path}/my files/author.tar.xz]"
    assert checkout.succeed(*words, cwd=tmp_path)[0][-1] == f"{FETCH} {given}"
    calls, _ = checkout.succeed(*words, cwd=tmp_path, SALAD_ARCHIVE_SHA256="ab 12")
    assert calls == [f"{FETCH} [--sha256] [ab 12] {given}"]
    assert checkout.succeed(SALAD_ARCHIVE_SHA256="")[0] == [FETCH]


def test_test_mode_hands_arguments_and_status_to_pytest(checkout):
    assert checkout.run("--test", "-k", "one or two", FAKE_PYTEST="5").returncode == 5
    calls = checkout.calls()
    assert pip_line("test") in calls and calls[-1] == "python [-m] [pytest] [-k] [one or two]"
    whole = (
        "python [-m] [pytest] [--numprocesses] [auto] [--maxprocesses] [8] [--dist] [loadfile] [--no-loadscope-reorder]"
    )
    assert checkout.succeed("--test")[0] == [whole]


def test_demo_is_repeatable_and_touches_only_its_folder(checkout):
    for folder in ("demo", "mine"):
        (checkout.root / "log" / folder).mkdir(parents=True)
        (checkout.root / "log" / folder / "old").touch()
    calls, last = checkout.succeed("--demo")
    *_, train, test = calls
    assert last == "==>   salad predict NEW_FILMS --load_model log/run/model.tar"
    assert train.startswith("python [main.py] [CXR_phantom] [unet] [log/demo] [data/phantom]")
    assert test.startswith("python [test.py] [CXR_phantom] [unet] [log/demo] [data/phantom]")
    assert (checkout.root / "log/mine/old").exists()
    assert checkout.run("--demo", FAKE_TRAIN="1").returncode == 1
    assert not [line for line in checkout.calls() if "test.py" in line]


@pytest.mark.parametrize("names", [["conda"], ["conda", "mamba"]])
def test_conda_makes_the_environment_of_environment_yml(checkout, names):
    for name in names:
        checkout.add(name, FAKE_CONDA)
    calls, last = checkout.succeed("--env-only")
    assert "conda activate SALAD && salad --help" in last and not (checkout.root / ".venv").exists()
    *lines, before, extras = (ROOT / "environment.yml").read_text().splitlines()
    assert lines[1:4] == ["name: SALAD", "channels:", "  - conda-forge"] and lines[4] == "dependencies:"
    packages = " ".join(line.removeprefix("  - ") for line in lines[5:])
    assert calls[0] == f"{names[-1]} create --yes --name SALAD --channel conda-forge {packages}"
    assert (before, extras) == ("  - pip:", "      - -e .[data,dicom]") and calls[-1] == pip_line("data,dicom")


def test_conda_environment_is_completed_and_reused(checkout):
    checkout.add("conda", FAKE_CONDA)
    (checkout.envs / "SALAD").mkdir()  # without a Python
    assert "conda install failed" in checkout.fail("--env-only", FAKE_CONDA="1")
    assert len(checkout.calls()) == 1  # no pip
    assert checkout.succeed("--env-only")[0][0].startswith("conda install --yes --name SALAD")
    for line in ("SALAD                 %s\\n", "SALAD              *  %s\\n", "  SALAD   *   %s\\n"):
        assert checkout.succeed("--env-only", FAKE_LINE=line)[0] == []
