"""Web application: the page, films to score one at a time, and the state of the server."""

from __future__ import annotations

import asyncio
import io
import logging
import math
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import salad
from salad.errors import shortage
from salad.images.read import FileContent
from salad.serve.films import FilmScorer
from salad.serve.gate import Gate

logger = logging.getLogger(__name__)

BODY_SECONDS = 60.0  # that a film may take to arrive
REST_SECONDS = 5.0  # that the rest of a refused film may take
MAX_RETRY_SECONDS = 60
DICOM_TYPE, FORM_TYPE = "application/dicom", "multipart/"
HEADERS = {
    "connection": "close",  # one request each: no connection stays open and waits
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
}
PAGE_POLICY = "frame-ancestors 'none'"  # beside that of the page itself, which cannot hold this
CLOSED_POLICY = f"default-src 'none'; {PAGE_POLICY}"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of what is taken in.

    Attributes:
        max_bytes: largest size of a film.
        queue: films taken in at a time: one is scored, the others wait.
    """

    max_bytes: int
    queue: int


class Desk:
    """Desk where films are handed in, wait, and are scored one at a time.

    Args:
        films: scorer of the films.
        limits: bounds of what is taken in.
        model: name of the model.
    """

    def __init__(self, films: FilmScorer, *, limits: Limits, model: str) -> None:
        self.films, self.limits, self.model = films, limits, model
        self.num_films = 0
        self._turn = asyncio.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="score")
        self._seconds = 1.0  # of the last film

    async def health(self, _: Request) -> Response:
        """Answer with the state of the server."""
        return JSONResponse(
            {
                "model": self.model,
                "version": salad.__version__,
                "ready": self.num_films < self.limits.queue,
                "queue": self.num_films,
            }
        )

    async def score(self, request: Request) -> Response:
        """Answer with the line of the film that is the body of the request.

        Raises:
            HTTPException: the film is not taken in.
        """
        most = self.limits.max_bytes
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind.startswith(FORM_TYPE):
            raise HTTPException(415, "a form: send the film itself as the body, as  curl --data-binary @film.png  does")
        if int(request.headers.get("content-length", 0)) > most:
            raise _too_large(int(request.headers["content-length"]), most)
        if self.num_films >= self.limits.queue:
            wait = min(MAX_RETRY_SECONDS, max(1, math.ceil(self.num_films * self._seconds)))
            said = f"{self.num_films} films are waiting already, as many as --queue allows: try again in {wait} s"
            raise HTTPException(429, said, {"retry-after": str(wait)})
        self.num_films += 1
        try:
            film = FileContent(await _read_body(request, most), ".dcm" if kind == DICOM_TYPE else "")
            explains = request.query_params.get("explain", "0") not in ("", "0")
            async with self._turn:
                if await request.is_disconnected():
                    return Response(status_code=400)  # to nobody
                return await asyncio.get_running_loop().run_in_executor(self._pool, self._score, film, explains)
        finally:
            self.num_films -= 1

    def _score(self, film: FileContent, explains: bool) -> Response:
        """Score a film, in the thread of the network."""
        start = time.perf_counter()
        try:
            is_read, line = self.films.score(film, explains=explains)
        except Exception as error:  # a bug must neither end the server nor pass for a score
            if reason := shortage(error):
                return JSONResponse({"error": reason}, status_code=503)
            last = traceback.extract_tb(error.__traceback__)[-1]  # the text of the error may quote the film
            logger.error("a film was not scored: %s in %s:%s", type(error).__name__, last.filename, last.lineno)
            return JSONResponse({"error": "the film could not be scored; the log of the server has the reason"}, 500)
        finally:
            self._seconds = time.perf_counter() - start
        return Response(line, 200 if is_read else 422, media_type="application/json")

    def close(self) -> None:
        """End the thread of the network."""
        self._pool.shutdown()


class Guarded:
    """Application behind a gate, with headers that close its answers off from other sites.

    Args:
        app: application.
        gate: checks of each request.
    """

    def __init__(self, app: ASGIApp, *, gate: Gate) -> None:
        self.app, self.gate = app, gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def closed_off(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("content-security-policy", CLOSED_POLICY)
            await send(message)

        refusal = self.gate.check(scope["path"], Headers(scope=scope))
        if refusal is None:
            await self.app(scope, receive, closed_off)
            return
        headers = {"www-authenticate": "Bearer"} if refusal.status == 401 else None
        request = Request(scope, receive)
        response = await _refuse(request, HTTPException(refusal.status, refusal.reason, headers))
        await response(scope, receive, closed_off)


def make_app(desk: Desk, *, gate: Gate, page: str) -> Starlette:
    """Make the application.

    Args:
        desk: desk that takes the films.
        gate: checks of each request.
        page: text of the page.
    """

    async def show(_: Request) -> Response:
        return HTMLResponse(page, headers={"content-security-policy": PAGE_POLICY})

    app = Starlette(
        routes=[
            Route("/", show, methods=["GET"]),
            Route("/health", desk.health, methods=["GET"]),
            Route("/score", desk.score, methods=["POST"]),
        ],
        middleware=[Middleware(Guarded, gate=gate)],
        exception_handlers={HTTPException: _refuse},
    )
    app.router.redirect_slashes = False  # a path that is nearly right is told the right one, as any other
    return app


async def _refuse(request: Request, error: Any) -> Response:
    """Answer with the reason of a refusal, once the client has sent the rest of its film.

    A connection that is closed before would be reset, and many clients would never see the answer. A client that asks
    first (`Expect: 100-continue`) sends nothing before it is asked to.
    """
    has_more = request.method == "POST" and "expect" not in request.headers
    if getattr(request.state, "has_more", has_more):
        with anyio.move_on_after(REST_SECONDS):
            while (message := await request.receive())["type"] == "http.request" and message.get("more_body"):
                pass
    said = {404: "there is nothing here: films go to POST /score", 405: "films go to POST /score"}
    reason = said.get(error.status_code, error.detail)
    return JSONResponse({"error": reason}, error.status_code, headers=error.headers)


async def _read_body(request: Request, most: int) -> bytes:
    """Read the body of a request, of at most so many bytes.

    Raises:
        HTTPException: it is larger, does not come to its end, or takes too long.
    """
    content = io.BytesIO()  # grows as one block, which the system gets back
    request.state.has_more = True
    with suppress(TimeoutError), anyio.fail_after(BODY_SECONDS):
        while request.state.has_more:
            message = await request.receive()
            if message["type"] != "http.request":
                raise HTTPException(400, "the film is not complete")
            content.write(message.get("body", b""))
            request.state.has_more = message.get("more_body", False)
            if content.tell() > most:
                raise _too_large(content.tell(), most)
        return content.getvalue()
    raise HTTPException(408, f"the film did not arrive within {BODY_SECONDS:g} s")


def _too_large(num_bytes: int, most: int) -> HTTPException:
    return HTTPException(413, f"a film of {num_bytes:,} bytes or more; at most {most:,} are taken, see --max_mb")
