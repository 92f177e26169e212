"""Sides of a comparison in separate processes, so that memory settings of one do not affect the other."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import torch

Maker = Callable[..., Callable[[], Any]]


class Side:
    """Function that runs in a separate process; a call waits for its result.

    Args:
        make: makes the function in that process; can be pickled, like its arguments.
        args: arguments of `make`.
    """

    def __init__(self, make: Maker, *args: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, torch.get_num_threads(), make, *args), daemon=True)
        self._process.start()
        theirs.close()

    def __call__(self) -> Any:
        """Run the function once.

        Raises:
            EOFError: the process died; its traceback is on stderr.
        """
        self._pipe.send(None)
        return self._pipe.recv()

    def __enter__(self) -> Side:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pipe.close()  # ends the loop of the process
        self._process.join()


def _serve(pipe: Connection, num_threads: int, make: Maker, *args: object) -> None:
    """Call the function for every message, until the pipe closes."""
    torch.set_num_threads(num_threads)
    function = make(*args)
    while True:
        try:
            pipe.recv()
        except EOFError:
            return
        pipe.send(function())
