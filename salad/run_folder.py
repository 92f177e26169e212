"""XP_PATH: everything that a run writes."""

import json
import logging
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import salad
from salad.errors import InputError

CONFIG_FILE, METRICS_FILE, MODEL_FILE, LOG_FILE = "config.json", "metrics.jsonl", "model.tar", "log.txt"
SCORES_FILE, RESULT_FILE = "scores.csv", "metrics.json"


class RunFolder:
    """The folder of one run.

    Args:
        path: XP_PATH; made where it is missing.

    Raises:
        InputError: the folder cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            (path / LOG_FILE).touch()
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror}); choose another XP_PATH") from None

    def held_files(self) -> list[Path]:
        """The files of a training run that the folder holds already."""
        files = [*self.path.glob("model*.tar"), *(self.path / name for name in (CONFIG_FILE, METRICS_FILE))]
        return [file for file in files if file.exists()]

    def check_free(self) -> None:
        """Raise `InputError` where the folder holds a run."""
        if held := self.held_files():
            raise InputError(f"{self.path}: holds a run ({held[0].name}); choose another XP_PATH, or add --overwrite")

    def clear(self) -> None:
        """Remove the run that the folder holds, if any, and what was scored with it."""
        for file in [*self.held_files(), self.path / SCORES_FILE, self.path / RESULT_FILE]:
            file.unlink(missing_ok=True)

    def write_config(self, options: dict[str, Any], **facts: Any) -> None:
        """Write config.json: the options, as `--load_config` reads them, and under "run" what was found out."""
        import torch

        versions = {"salad": salad.__version__, "torch": torch.__version__, "python": platform.python_version()}
        run = {"command": shlex.join(sys.argv), "versions": versions, **facts}
        text = json.dumps({**options, "run": run}, indent=2)
        (self.path / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")

    def append_metrics(self, values: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl."""
        with (self.path / METRICS_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    @property
    def model(self) -> Path:
        """The checkpoint to score with."""
        return self.path / MODEL_FILE

    def round_model(self, number: int) -> Path:
        """The checkpoint at the end of a round."""
        return self.path / f"model_round{number}.tar"


def log_to(folder: RunFolder) -> None:
    """Send the program's messages to stderr and, with the time, to log.txt."""
    logger = logging.getLogger("salad")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        handler.close()
    to_screen = logging.StreamHandler()
    to_file = logging.FileHandler(folder.path / LOG_FILE, encoding="utf-8", errors="backslashreplace")
    to_screen.addFilter(lambda record: not getattr(record, "only_in_file", False))
    to_screen.setFormatter(logging.Formatter("%(message)s"))
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(to_screen)
    logger.addHandler(to_file)
