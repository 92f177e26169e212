"""Packages that are not installed: what to type to get them."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

DISTRIBUTION = "salad-xray"
CHECKOUT = Path(__file__).resolve().parent.parent


def missing_package(error: ModuleNotFoundError) -> str | None:
    """Say which required package an import lacks and how to get it; None if the module is one of this program.

    Args:
        error: error of the import.
    """
    name = (error.name or "").partition(".")[0]
    if name in ("", "salad"):
        return None
    if not (CHECKOUT / "setup.sh").exists():
        return f"the package '{name}' is not installed: pip install {_quoted(_requirements() or [name])}"
    activate = shlex.quote(str(CHECKOUT / ".venv/bin/activate"))
    if (CHECKOUT / ".venv").exists() and not sys.prefix.startswith(str(CHECKOUT)):
        return f"{sys.executable} has no package '{name}': first activate the environment:  source {activate}"
    return (
        f"{sys.executable} has no package '{name}': make the environment with  bash setup.sh --env-only  and activate "
        "it (source .venv/bin/activate, or conda activate SALAD)"
    )


def install_command(extra: str) -> str:
    """Compose the command that installs the packages of an extra of pyproject.toml.

    The distribution is not named, since a package index may hold another one under its name.

    Args:
        extra: name of the extra.
    """
    if (CHECKOUT / "pyproject.toml").exists():
        where = "." if Path.cwd() == CHECKOUT else str(CHECKOUT)
        return f'pip install -e "{where}[{extra}]"'
    return f"pip install {_quoted(_requirements(extra))}"


def lack_of_packages(what: str, packages: Iterable[str], *, extra: str) -> str | None:
    """Say which packages something needs and how to get them; None if all are installed.

    Args:
        what: what needs them.
        packages: their names as modules.
        extra: name of the extra of pyproject.toml that has them.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return f"{what} needs the package {' and '.join(missing)}: {install_command(extra)}" if missing else None


def _requirements(extra: str = "") -> list[str]:
    """List the requirements of an extra, or those without one."""
    found = []
    try:
        lines = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []
    for line in lines:
        requirement, _, marker = line.partition(";")
        of = re.search(r"""extra == ["']([^"']+)""", marker)
        if (of[1] if of else "") == extra:
            found.append(requirement.strip())
    return found


def _quoted(requirements: list[str]) -> str:
    return " ".join(f'"{requirement}"' for requirement in requirements)
