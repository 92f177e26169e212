"""Serve the page and the interface until a signal ends the program."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from salad.errors import InputError, printable, say
from salad.scoring.predict import given_model
from salad.scoring.stream import NOT_CALIBRATED, load_scorer
from salad.serve.app import Desk, Limits, make_app
from salad.serve.films import FilmScorer
from salad.serve.gate import Gate, make_token, read_token
from salad.serve.page import make_page

logger = logging.getLogger(__name__)

REQUEST_SECONDS = 10.0  # that the header of a request may take to arrive
ANSWER_SECONDS = 30.0  # that a client may take to read its answer
MAX_CONNECTIONS = 256
MEGABYTE = 2**20


@dataclass(frozen=True, kw_only=True)
class Service:
    """Address of the server, and what it takes in.

    Attributes:
        host: name or address to listen on.
        port: port; 0 for any that is free.
        limits: bounds of what is taken in.
        token_file: file of the token; None for none, or on an address that other machines reach for a random one.
        names: further names by which clients may ask for the server.
    """

    host: str
    port: int
    limits: Limits
    token_file: Path | None
    names: tuple[str, ...]


class ImpatientProtocol(H11Protocol):
    """Connection that is cut off if its request does not come, or its answer is not read."""

    _timer: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(REQUEST_SECONDS, self._cut_off)

    def on_response_complete(self) -> None:
        """Begin to wait until the answer is read."""
        super().on_response_complete()
        self._timer = self.loop.call_later(ANSWER_SECONDS, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """End all waiting."""
        self._timer.cancel()
        super().connection_lost(exc)

    def _cut_off(self) -> None:
        if self.cycle is None:
            self.transport.abort()


class QuietServer(uvicorn.Server):
    """Server that ends well at SIGTERM and Ctrl-C: it has done what it was asked."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Finish what runs; a second Ctrl-C ends it, too."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def run_serve(given: dict[str, Any], service: Service) -> None:
    """Load a model and serve it until a signal ends the program.

    Args:
        given: given options of `Config`, by name.
        service: address of the server, and what it takes in.

    Raises:
        InputError: the checkpoint is missing or does not fit, or the address cannot be used.
    """
    path = given_model(given)
    with bind(service.host, service.port) as bound:  # before the model is loaded, which takes time
        address, port = bound.getsockname()[:2]
        is_loopback = ipaddress.ip_address(address).is_loopback
        token = read_token(service.token_file) if service.token_file else None if is_loopback else make_token()
        scorer = load_scorer(path, given)
        scorer.model.log_warnings()
        if scorer.model.held_out is None:
            logger.warning(
                "no percentiles and no threshold: %s; salad enrol makes a model that has both", NOT_CALIBRATED
            )
        model = printable(f"{path.resolve().parent.name}/{path.name}")
        gate = Gate(names=[service.host, *service.names], is_loopback=is_loopback, token=token)
        server, desk = make_server(FilmScorer(scorer), gate=gate, limits=service.limits, model=model)
        shown = f"[{address}]" if ":" in address else address
        say(f"serving {model} on http://{shown}:{port}/ (Ctrl-C or SIGTERM ends it)")
        if token is not None and service.token_file is None:
            say(f"token, for this start only: {token}")
        asyncio.run(server.serve(sockets=[bound]))
    desk.close()


def make_server(films: FilmScorer, *, gate: Gate, limits: Limits, model: str) -> tuple[uvicorn.Server, Desk]:
    """Make a server that logs nothing about its requests, and the desk behind it.

    Args:
        films: scorer of the films.
        gate: checks of each request.
        limits: bounds of what is taken in.
        model: name of the model.
    """
    for name in ("uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    desk = Desk(films, limits=limits, model=model)
    page = make_page(model=model, max_bytes=limits.max_bytes, needs_token=gate.token is not None)
    config = uvicorn.Config(
        make_app(desk, gate=gate, page=page),
        http=ImpatientProtocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
    )
    return QuietServer(config), desk


def bind(host: str, port: int) -> socket.socket:
    """Bind a socket, which does not listen yet.

    Args:
        host: name or address of this machine.
        port: port; 0 for any that is free.

    Raises:
        InputError: the address is none of this machine, or the port cannot be used.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no name of a machine"
        raise InputError(f"--host {printable(host)} --port {port}: cannot be used ({reason})") from None
    return bound
