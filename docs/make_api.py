"""Write docs/api.md from the docstrings, and docs/options.md from the options: python docs/make_api.py.

With --check nothing is written; a page that is out of date is named, with exit status 1.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from salad import cli
from salad.cli.arguments import SHORT_FORMS
from salad.cli.program import COMMAND_SECTION, SECTION_OF
from salad.config import OPTIONS, SECTIONS
from salad.config.declare import TRAIN

DOCS = Path(__file__).resolve().parent
SALAD = DOCS.parent / "salad"
WIDTH = 110  # columns of a signature
NOTE = "<!-- written by python docs/make_api.py: change the docstrings and options instead -->"
# topic -> name of a module -> public names of it; of a class all public methods and properties
PUBLIC: dict[str, dict[str, tuple[str, ...]]] = {
    "Detector": {"salad.detector": ("Detector",)},
    "Explanations": {
        "salad.explaining.explanation": ("Explanation", "Neighbour"),
        "salad.explaining.maps": ("ScoreMap", "ErrorMap", "MemoryMap"),
        "salad.explaining.places": ("Place",),
    },
    "Drift": {"salad.evaluation.drift": ("Drift", "Change")},
    "Images": {"salad.images.read": ("read_image",)},
    "Networks": {"salad.networks": ("build_network",)},
    "Losses": {
        "salad.losses.reconstruction": ("reconstruction_loss",),
        "salad.losses.aggregation": ("aggregation_loss",),
        "salad.losses.svdd": ("svdd_loss", "svdd_distances", "svdd_radius"),
        "salad.losses.synthetic": ("synthetic_loss",),
    },
    "Memory and anchors": {
        "salad.memory": ("MemoryBank",),
        "salad.anchors": ("discover_anchors", "Anchors"),
        "salad.patch_memory": ("PatchMemory", "PatchMaps"),
        "salad.nearest": ("nearest",),
    },
    "Scores": {"salad.scores.knn": ("knn_angle",), "salad.scores.prototype": ("weighted_prototype",)},
    "Measures": {
        "salad.evaluation.metrics": ("auc", "Auc", "compare_aucs", "average_precision"),
        "salad.evaluation.rates": ("sensitivity_at", "specificity_at", "Rate"),
        "salad.evaluation.calibration": ("Calibration",),
    },
    "Errors": {"salad.errors": ("InputError", "DivergedError", "StorageError", "MachineError", "RunInterruptedError")},
}
IMPORTED_FROM = {  # where the names are meant to be imported from
    "salad.detector": "salad",
    **{f"salad.losses.{name}": "salad.losses" for name in ("reconstruction", "aggregation", "svdd", "synthetic")},
    **{f"salad.scores.{name}": "salad.scores" for name in ("knn", "prototype")},
}
API_HEAD = """# The Python API

```python
from salad import Detector

detector = Detector.load("log/run/model.tar")  # or Detector(recipe="strong").fit("films/normal")
scores = detector.score(["a.png", "b.dcm"])  # or a folder, arrays, tensors; larger is more anomalous
```

Shapes: N images, B images of a batch, S pixels along a side, D numbers of an embedding. Functions of tensors know of no
options and no files."""
OPTIONS_HEAD = """# Options

```bash
salad train --help            # the same as python main.py --help
salad test --help             # the same as python test.py --help
```

All options of both commands, by topic. Options on the command line override `--recipe`, and both override the
`--load_config` file (which may also name a recipe). "(model)": test uses the value of the training unless you give
another; a value that does not fit the network in the checkpoint is an error. Switches such as `--align` are turned off
by `--no_align`.

Bash completes commands and options after `eval "$(_SALAD_COMPLETE=bash_source salad)"`; zsh and fish with `zsh_source`
and `fish_source`.

Exit status: 0 done; 2 bad input; 1 anything else that stopped the command (diverged training, full disk, lack of
memory, internal error); 128 + the number of the signal that interrupted it. Results go to stdout, messages to
stderr."""


def main() -> int:
    """Write the pages, or with --check compare them; returns the exit status."""
    status = 0
    for name, text in {"api.md": api_page(), "options.md": options_page()}.items():
        page = DOCS / name
        if "--check" not in sys.argv[1:]:
            page.write_text(text, encoding="utf-8")
        elif not page.exists() or page.read_text(encoding="utf-8") != text:
            print(f"docs/{name} is out of date: python docs/make_api.py writes it anew", file=sys.stderr)
            status = 1
    return status


def with_note(head: str) -> str:
    """Add the note of its origin below the first code of a page."""
    return head.replace("```\n\n", f"```\n\n{NOTE}\n\n", 1)


def api_page() -> str:
    """Compose docs/api.md."""
    parts = [with_note(API_HEAD)]
    for topic, modules in PUBLIC.items():
        parts.append(f"## {topic}")
        for module, names in modules.items():
            path = SALAD.parent / Path(*module.split("."))
            source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            tree = ast.parse(source.read_text(encoding="utf-8"))
            defined = {node.name: node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
            for name in names:
                parts += describe(defined[name], module=IMPORTED_FROM.get(module, module))
    return "\n\n".join(parts) + "\n"


def describe(node: ast.FunctionDef | ast.ClassDef, *, module: str) -> Iterator[str]:
    """Describe a function, or a class with its public methods and properties, as paragraphs of Markdown."""
    yield f"### {node.name}"
    imported = f"from {module} import {node.name}"
    if isinstance(node, ast.FunctionDef):
        yield f"```python\n{imported}\n\n{signature(node)}\n```"
        yield from paragraphs(node)
        return
    methods = [child for child in node.body if isinstance(child, ast.FunctionDef)]
    makers = [method for method in methods if method.name == "__init__"]
    made = [signature(maker).replace("__init__", node.name, 1).removesuffix(" -> None") for maker in makers]
    yield "```python\n" + "\n\n".join([imported, *made]) + "\n```"
    yield from paragraphs(node)
    for method in methods:
        if method.name.startswith("_") or ast.get_docstring(method) is None:
            continue
        kinds = {item.id for item in method.decorator_list if isinstance(item, ast.Name)}
        if "property" in kinds:
            yield f"#### {node.name}.{method.name}\n\n`{method.name}: {ast.unparse(method.returns)}`"
        else:
            prefix = f"{node.name}." if kinds & {"classmethod", "staticmethod"} else ""
            yield f"#### {node.name}.{method.name}\n\n```python\n{prefix}{signature(method)}\n```"
        yield from paragraphs(method)


def signature(node: ast.FunctionDef) -> str:
    """Compose the signature of a function, over several lines where it is long."""
    given = node.args
    plain = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(plain) - len(given.defaults)) + [*given.defaults]
    words = [parameter(*pair) for pair in zip(plain, defaults, strict=True)]
    words = words[1:] if plain and plain[0].arg in ("self", "cls") else words
    if given.vararg or given.kwonlyargs:
        words.append(f"*{parameter(given.vararg) if given.vararg else ''}")
    words += [parameter(*pair) for pair in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    words += [f"**{parameter(given.kwarg)}"] if given.kwarg else []
    returned = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"{node.name}({', '.join(words)}){returned}"
    if len(line) <= WIDTH:
        return line
    kept = ", ".join(word.replace(" ", "\0") for word in words)  # lines end between parameters alone
    filled = textwrap.fill(kept, WIDTH, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)
    return f"{node.name}(\n{filled},\n){returned}".replace("\0", " ")


def parameter(declared: ast.arg, default: ast.expr | None = None) -> str:
    """Compose a parameter with its type and default."""
    kind = f": {ast.unparse(declared.annotation)}" if declared.annotation else ""
    equals = " = " if kind else "="
    return declared.arg + kind + (f"{equals}{ast.unparse(default)}" if default is not None else "")


def paragraphs(node: ast.FunctionDef | ast.ClassDef) -> Iterator[str]:
    """Turn a docstring into paragraphs of Markdown; its sections become lists."""
    for block in re.split(r"\n\n+", ast.get_docstring(node) or ""):
        title, _, rest = block.partition(":\n")
        if title not in ("Args", "Attributes", "Returns", "Raises", "Yields"):
            yield block
        elif title in ("Returns", "Yields"):
            yield f"**{title}:** {' '.join(textwrap.dedent(rest).split())}"
        else:
            entries = re.split(r"\n(?! )", textwrap.dedent(rest))
            pairs = [" ".join(entry.split()).partition(": ") for entry in entries]
            if broken := [name for name, _, text in pairs if not text]:
                raise ValueError(f"{node.name}, line {node.lineno}: '{broken[0]}' of {title} has no description")
            yield f"**{title}:**\n\n" + "\n".join(f"- `{name}`: {text}" for name, _, text in pairs)


def options_page() -> str:
    """Compose docs/options.md."""
    sections: dict[str, list[str]] = {name: [] for name in (*SECTIONS, COMMAND_SECTION)}
    arguments: list[str] = []
    commands = {"train": cli.train, "test": cli.test}
    taken = {name: {each.name: each for each in command.params} for name, command in commands.items()}
    for name in {**taken["train"], **taken["test"]}:
        ours = {command: params[name] for command, params in taken.items() if name in params}
        option = next(iter(ours.values()))
        if isinstance(option, click.Argument):
            arguments.append(f"- `{OPTIONS[name].flag}`: {OPTIONS[name].facts.help}")
        elif isinstance(option, click.Option):
            section = OPTIONS[name].section if name in OPTIONS else SECTION_OF.get(name, COMMAND_SECTION)
            sections[section].append(option_row(option, [*ours]))
    forms = f"Give `{SHORT_FORMS[TRAIN]}`, or all four:"
    parts = [with_note(OPTIONS_HEAD), "## Arguments", forms, "\n".join(arguments)]
    for section, rows in sections.items():
        if rows:
            table = "| option | command | default | |\n|---|---|---|---|\n" + "\n".join(rows)
            title = "Both commands" if section == COMMAND_SECTION else section.capitalize()
            parts.append(f"## {title}\n\n{table}")
    return "\n\n".join(parts) + "\n"


def option_row(option: click.Option, commands: list[str]) -> str:
    """Compose the row of an option: its form, the commands that take it, its default, its help."""
    name = option.name or ""
    text, _, default = (option.help or "").partition("  [default: ")
    default = default.removesuffix("]")
    if name == "n_jobs_dataloader":
        default = "cores of the machine"
    elif not default:
        default = "off" if option.is_flag else "none"
    if name in OPTIONS and OPTIONS[name].facts.of_model and "test" in commands:
        commands = [*commands[:-1], "test (model)"]
    form = f"--{name}" if option.is_flag else f"--{name} {value_of(option)}"
    text = text.rstrip(".") + ". Repeatable" * (option.multiple and "epeatable" not in text)
    cells = (f"`{form}`", ", ".join(commands), default, text)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def value_of(option: click.Option) -> str:
    """Name the value of an option: its choices, or its kind."""
    if isinstance(option.type, click.Choice):
        return "|".join(option.type.choices)
    kinds = {"integer": "N", "float": "X", "path": "PATH", "text": "TEXT"}
    return kinds[option.type.name]


if __name__ == "__main__":
    sys.exit(main())
