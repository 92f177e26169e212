"""Entry of the programs: `salad`, `python -m salad`, main.py and test.py."""

from __future__ import annotations

import sys

from salad.packages import missing_package


def run(command: str = "main", *, program: str = "salad") -> None:
    """Run a command; where a package is not installed, say so in one line with the way out.

    Args:
        command: name of the command in `salad.cli`.
        program: name of the program, for its help.
    """
    try:
        from salad import cli
    except ModuleNotFoundError as error:
        if (said := missing_package(error)) is None:
            raise
        print(f"Error: {said}", file=sys.stderr)
        sys.exit(2)
    getattr(cli, command)(prog_name=program)


if __name__ == "__main__":
    run(program="python -m salad")
