"""Decide by its headers which request is let in: it must be meant for this server, and come from who may use it."""

from __future__ import annotations

import hmac
import ipaddress
import logging
import re
import secrets
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from salad.errors import InputError, printable
from salad.input_files import read_input

logger = logging.getLogger(__name__)

MAX_TOKEN, MIN_TOKEN = 1024, 16  # characters
TOKEN_BYTES = 32  # of a token that is made here
HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([\w.-]+))(?::\d*)?", re.ASCII)  # name or address, and port
OPEN_PATHS = ("/", "/health")  # tell nothing about films, and need no token


class Refusal(NamedTuple):
    """Answer to a request that is not let in: its status and the reason in one line."""

    status: int
    reason: str


class Gate:
    """Checks of the headers of a request.

    A page of another site in the browser of a user can send requests, too. `Host` unmasks one whose name was made to
    point to this machine (DNS rebinding), `Origin` any other.

    Args:
        names: names by which the server may be asked, without a port, beside those of this machine.
        is_loopback: whether only this machine reaches the server.
        token: word that requests have to bring; None for none.
    """

    def __init__(self, *, names: Iterable[str], is_loopback: bool, token: str | None) -> None:
        own = {"localhost"} if is_loopback else {"localhost", socket.gethostname().lower(), socket.getfqdn().lower()}
        self.names = own | {name.lower() for name in names}
        self.is_loopback = is_loopback
        self.token = token

    def check(self, path: str, headers: Mapping[str, str]) -> Refusal | None:
        """Check a request; None if it is let in.

        Args:
            path: its path.
            headers: its headers, by name in lower case.
        """
        host = headers.get("host", "")
        if not self._knows(host):
            return Refusal(421, f"this server is not called {printable(host)!r}: start it with --allow_host NAME")
        origin = headers.get("origin")
        if origin is not None and origin.lower().partition("://")[2] != host.lower():
            return Refusal(403, "the request comes from a page of another site")
        if self.token is not None and path not in OPEN_PATHS and not self._has_token(headers.get("authorization", "")):
            return Refusal(401, "the token of this server is missing or wrong: send it as  Authorization: Bearer TOKEN")
        return None

    def _knows(self, host: str) -> bool:
        """Check that a Host header names this server; no name server can be made to lie about an address."""
        match = HOST.fullmatch(host)
        name = (match[1] or match[2]).lower() if match else ""
        if name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self.is_loopback

    def _has_token(self, authorization: str) -> bool:
        assert self.token is not None
        kind, _, given = authorization.partition(" ")
        # in constant time: how long it takes must not tell how much of a guess is right
        return kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self.token.encode())


def make_token() -> str:
    """Make a random token."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def read_token(path: Path) -> str:
    """Read a token from the first line of a file; warn if others may read the file.

    Raises:
        InputError: the file cannot be read, or its first line is no token.
    """
    try:
        lines = read_input(path, most=MAX_TOKEN).decode("ascii", "replace").splitlines()
    except OSError as error:
        raise InputError(f"--token_file {printable(path)}: cannot be read ({error.strerror})") from None
    token = lines[0].strip() if lines else ""
    if len(token) < MIN_TOKEN or not all("!" <= character <= "~" for character in token):
        raise InputError(
            f"--token_file {printable(path)}: its first line must be a token of {MIN_TOKEN} or more letters, digits "
            "and signs, without spaces; make one with  openssl rand -hex 32"
        )
    if path.stat().st_mode & 0o077:
        logger.warning("--token_file %s: other users of this machine may read it: chmod 600 it", printable(path))
    return token
