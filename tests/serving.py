"""The server of `salad serve` in a thread of the test, and a client of it."""

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

from salad.serve.app import Limits
from salad.serve.films import FilmScorer
from salad.serve.gate import Gate
from salad.serve.server import bind, make_server

TOKEN = "correct-horse-battery-staple"


def wait_until(is_so: Callable[[], bool], *, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextmanager
def served(films: FilmScorer, *, max_bytes: int = 2**20, queue: int = 16, token: str | None = None) -> Iterator:
    """A server; gives a function that asks it, see `asking`."""
    with bind("127.0.0.1", 0) as bound:
        gate, limits = Gate(names=[], is_loopback=True, token=token), Limits(max_bytes=max_bytes, queue=queue)
        server, desk = make_server(films, gate=gate, limits=limits, model="run/model.tar")
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[bound])))
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield asking(bound.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()
            desk.close()


def asking(port: int) -> Callable:
    """A function that sends a request to a port of this machine and returns status, headers and text or JSON."""

    def ask(method: str, path: str, body: object = None, **headers: str) -> SimpleNamespace:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        said = json.loads(text) if answer.headers["content-type"] == "application/json" else text
        return SimpleNamespace(status=answer.status, headers=answer.headers, said=said)

    ask.port = port
    return ask
