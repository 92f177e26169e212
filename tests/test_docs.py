"""The pages: links lead somewhere, commands are what the programs take, and what is generated is up to date."""

import ast
import importlib
import importlib.util
import re
import sys
from collections.abc import Sequence

import click
import numpy as np
import pytest
from pages import Command, anchors, code, commands, links, pages
from running import REPOSITORY, invoke

import salad
from salad import cli
from salad.cli.arguments import complete, resolve
from salad.cli.options import gather
from salad.config import OPTIONS, Config
from salad.config.declare import TEST, TRAIN

# command -> the test file that runs it
RUN_IN = {
    "main.py": "training/test_trainer",
    "test.py": "training/test_trainer",
    "salad predict": "scoring/test_predict",
    "salad serve": "serve/test_server",
    "salad inspect": "checks/test_inspection",
    "salad enrol": "scoring/test_enrol",
    "salad compare": "evaluation/test_comparison",
    "salad study": "study/test_study",
    "salad export": "export/test_files",
    "salad fetch": "datasets/test_author_archive",
    "salad prepare": "datasets/test_author_tree",
    "benchmarks": "benchmarks/test_gpu",
    "benchmarks.quality": "benchmarks/test_quality",
    "benchmarks.films": "benchmarks/test_films",
    "benchmarks.peers": "benchmarks/test_peers",
    "setup.sh": "test_setup_script",
    "torchrun": "distributed/test_team",
    "onnx_score.py": "export/test_files",
    "make_api.py": "test_docs",
}
# command -> the reason why no test runs it
NOT_RUN = {
    "benchmarks/gpu_pack.sh": "fetches wheels",
    "benchmarks/gpu_run.sh": "is for a machine with a GPU; what it starts is run by benchmarks/test_gpu",
    "pytest": "is the test itself",
    "picture.py": "needs films that are not in the checkout, and a model of them",
    "source": "is for a shell that someone types into",
    "srun": "needs Slurm",
    "find": "is a program of the system",
    "curl": "is a program of the system; the same request is made in serve/test_app",
    "storescu": "is of dcmtk, which is not installed; pynetdicom sends the same in scoring/test_watch",
    "storescp": "is of dcmtk, which is not installed",
    "pip": "would install packages",
    "venv": "would make an environment",
    "ruff": "is run before every commit",
    "mypy": "is run before every commit",
    "lint-imports": "is run by test_house",
}
# options in the text that are of other programs
FOREIGN = {
    *("nproc_per_node", "nnodes", "rdzv_backend", "rdzv_id", "rdzv_endpoint", "standalone"),  # torchrun
    *("nodes", "ntasks-per-node", "gpus-per-node", "signal"),  # Slurm
    *("data-binary", "dist", "now", "durations"),  # curl, pytest-xdist, systemctl, pytest
}
MODES = {"--demo", "--test", "--archive", "--env-only"}  # of setup.sh
PROGRAMS = {"salad", "python", "bash", "torchrun", "pip"}


def load_script(name: str):
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / f"docs/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def all_commands() -> list[Command]:
    return [command for path in pages() for command in commands(path, PROGRAMS)]


def program_of(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The name of a command in the lists above, and the words after it."""
    first, *rest = words
    first = first.rpartition("/bin/")[2]
    if first in ("python", "bash"):
        return program_of(rest) if rest[0] != "-m" else program_of(rest[1:])
    if first == "salad":
        door = {"train": "main.py", "test": "test.py"}.get(rest[0], f"salad {rest[0]}")
        return door, rest[1:]
    return first.rpartition("/")[2] if first.endswith(".py") else first, rest


# Links ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*pages(), REPOSITORY / "CHANGELOG.md"], ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(path):
    broken = []
    for link in links(path):
        if link.startswith("http"):
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


# Commands -------------------------------------------------------------------------------------------------------


def benchmark(name: str) -> click.Command:
    """The command of a module or package of benchmarks/."""
    is_package = importlib.util.find_spec(name).submodule_search_locations is not None
    return importlib.import_module(f"{name}.__main__" if is_package else name).main


def parse(program: str, words: Sequence[str]) -> None:
    """Read a command line as the program does, without running it."""
    if program.startswith("salad "):
        cli.main.commands[program.removeprefix("salad ")].make_context(program, [*words])
    elif program in ("main.py", "test.py"):
        command, kind = (cli.train, TRAIN) if program == "main.py" else (cli.test, TEST)
        if "--help" in words:
            return
        with command.make_context(program, [*words]) as context:
            given = complete(gather(kind, None, resolve(context.params, kind)), kind)
        if kind == TRAIN:
            Config.of({name: value for name, value in given.items() if name in OPTIONS})
    elif program == "torchrun":
        script = words.index("main.py")
        parse("main.py", words[script + 1 :])
    elif program == "benchmarks":
        benchmark(program).commands[words[0]].make_context(
            program, ["." if word == "DATA" else word for word in words[1:]]
        )
    elif program.startswith("benchmarks."):
        benchmark(program).make_context(program, [*words])
    elif program == "setup.sh":
        assert not words or words[0] in MODES
        if words[:1] == ["--env-only"] and words[1:]:
            project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
            assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in words[1].split(","))
    elif program == "pytest":
        assert all((REPOSITORY / word).exists() for word in words if word.startswith("tests/"))


@pytest.mark.parametrize("command", all_commands(), ids=lambda command: f"{command.page}: {' '.join(command.words)}")
def test_a_command_is_one_that_its_program_takes(command):
    program, words = program_of(command.words)
    assert (program in RUN_IN) != (program in NOT_RUN), f"'{program}' belongs into one of the lists"
    try:
        parse(program, words)
    except click.exceptions.Exit:
        pass  # --help
    except (click.ClickException, KeyError, ValueError, AssertionError) as error:
        pytest.fail(f"{command.line}: {error}")


def test_commands_that_are_run_are_run_where_the_list_says():
    for program in {program_of(command.words)[0] for command in all_commands()} & RUN_IN.keys():
        text = (REPOSITORY / f"tests/{RUN_IN[program]}.py").read_text(encoding="utf-8")
        word = {"main.py": "train(", "test.py": "score("}.get(
            program, re.split(r"[ .]", program.removesuffix(".py"))[-1]
        )
        assert word in text, program


@pytest.mark.parametrize(
    "line",
    [
        "salad train log/run --normal films --recipes strong",
        "salad train log/run --normal films --recipe best",
        "python main.py CXR_author unet log/run DATA_PATH --isize 100",
        "python test.py",
        "salad export model.tar --format gif --out model.gif",
        "python -m benchmarks.quality --only strong",
    ],
)
def test_a_wrong_command_is_noticed(line):
    with pytest.raises((click.ClickException, ValueError)):
        parse(*program_of(line.split()))


def test_options_in_the_text_exist():
    found = [*cli.main.commands.values(), *benchmark("benchmarks").commands.values()]
    found += [benchmark(name) for name in RUN_IN if name.startswith("benchmarks.") and importlib.util.find_spec(name)]
    known = {flag for command in found for param in command.params for flag in [*param.opts, *param.secondary_opts]}
    known |= MODES | {f"--{name}" for name in FOREIGN} | {"--help", "--check"}
    texts = {path: path.read_text(encoding="utf-8") for path in pages()}
    unknown = {
        f"{path.name}: {flag}"
        for path, text in texts.items()
        for flag in re.findall(r"(?<![\w-])--[a-z]\w+(?:-\w+)*", text)
        if flag not in known
    }
    assert not unknown


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_python_on_a_page_compiles_and_imports_what_there_is(path):
    for text in code(path, "python"):
        # of a signature on the generated page, only the import above it is a statement
        kept = "\n".join(re.findall(r"^from .*", text, re.MULTILINE)) if path.name == "api.md" else text
        for node in ast.walk(ast.parse(kept)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("salad"):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, name.name) for name in node.names), ast.unparse(node)


# What is generated ----------------------------------------------------------------------------------------------


def test_the_generated_pages_are_those_of_the_docstrings_and_options():
    script = load_script("make_api")
    for page, text in {"api.md": script.api_page(), "options.md": script.options_page()}.items():
        there = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
        assert there == text, f"docs/{page} is out of date: python docs/make_api.py writes it anew"


def test_the_page_of_options_has_those_of_help_and_no_other():
    helps = "".join(invoke(command, "--help").stdout for command in (cli.train, cli.test))
    known = {*re.findall(r"^  (?:-h, )?--(\w+)", helps, re.MULTILINE)} - {"help"}
    rows = re.findall(r"^\| `--(\w+)", (REPOSITORY / "docs/options.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) == len({*rows}) > 60 and {*rows} == known


def test_check_names_a_page_that_is_out_of_date(tmp_path, monkeypatch, capsys):
    script = load_script("make_api")
    monkeypatch.setattr(script, "DOCS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["make_api.py"])
    assert script.main() == 0
    monkeypatch.setattr(sys, "argv", ["make_api.py", "--check"])
    assert script.main() == 0
    with (tmp_path / "options.md").open("a", encoding="utf-8") as page:
        page.write("| `--none` |\n")
    assert script.main() == 1 and capsys.readouterr().err.startswith("docs/options.md is out of date")


def test_the_films_of_the_picture_are_the_middles_of_equal_groups_by_score():
    middles = load_script("picture").middles
    scores = np.array([5, 1, 7, 3, 0, 2, 6, 4])
    assert scores[middles(scores, 2)].tolist() == [2, 6]  # of 0 to 3, and of 4 to 7
    assert scores[middles(scores, 4)].tolist() == [1, 3, 5, 7]


# Messages -------------------------------------------------------------------------------------------------------


def constant_texts() -> str:
    """The constant parts of all strings of the program, and setup.sh: a place for a value or a line ends each."""
    parts = [(REPOSITORY / "setup.sh").read_text(encoding="utf-8")]
    for path in (REPOSITORY / "salad").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                parts.append(node.value)
    return "\0".join(parts)


def test_messages_that_are_explained_are_those_of_the_program():
    page = (REPOSITORY / "docs/troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    texts = constant_texts()
    unknown = [part for message in messages for part in message.split("...") if part.strip(" :;(,'") not in texts]
    assert len(messages) >= 30 and not unknown


def test_a_page_begins_with_its_command():
    late = []
    for path in sorted((REPOSITORY / "docs").glob("*.md")):
        head = path.read_text(encoding="utf-8").splitlines()[:6]
        late += [path.name] if not any(line.startswith("```") for line in head) else []
    assert not late


def test_the_changelog_keeps_its_form_and_the_citation_its_version():
    text = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    titles = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert titles and all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - (Unreleased|\d{4}-\d\d-\d\d)", title) for title in titles)
    groups = re.findall(r"^### (.*)$", text, re.MULTILINE)
    assert {*groups} <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    citation = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {salad.__version__}\n" in citation
