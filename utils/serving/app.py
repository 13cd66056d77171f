"""The routes: a FastAPI application over the planner and the engine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse

from utils.batching.engine import Engine
from utils.batching.rows import Ended, Event, Failed, Row, Unanswered
from utils.serving.fields import read_json_body
from utils.serving.guards import Guard, Receive, Scope, Send, is_loopback
from utils.serving.info import Info
from utils.serving.planning import Plan, Planner
from utils.serving.refusals import Refusal, unanswered
from utils.serving.replies import Body, Reply
from utils.serving.requests import read_chat, read_completion

_CLOSED_REQUEST = 499
Result = TypeVar("Result")
PAGE = Path(__file__).with_name("page")
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # its files are of one version of this server
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True)
class Limits:
    """What one client may cost.

    Attributes:
        api_key: which every request must bring; ``None`` for none.
        host: to which the server is bound.
        deadline: seconds from a request's coming to the end of its answer.
        body_seconds: within which a body must have come.
    """

    api_key: str | None
    host: str
    deadline: float
    body_seconds: float = 30.0


class Desk:
    """Takes requests to the engine and its events back.

    Args:
        planner, engine: see there.
        info: what the server tells of itself.
        deadline: in seconds.
    """

    def __init__(self, planner: Planner, engine: Engine, info: Info, deadline: float) -> None:
        self.planner, self.engine, self.info, self.deadline = planner, engine, info, deadline

    async def answer(
        self, request: Request, read: Callable[[Mapping[str, object]], Plan]
    ) -> Response:
        """Plan a request, compute it and reply.

        Raises:
            Refusal: whatever is wrong with it, or went wrong.
        """
        body = await request.body()
        plan = await run_in_threadpool(lambda: read(read_json_body(body)))
        model = plan.common.model or self.info.label
        reply = Reply(plan, self.planner.texts, model, self.info.fingerprint)
        running = Running(self.engine, self.planner, plan, time.monotonic() + self.deadline)
        started = False
        try:
            if not plan.common.stream:
                return JSONResponse(await _unless_gone(request, _collected(running, reply)))
            # whatever fails before the first token is an error of HTTP
            first = await _unless_gone(request, running.next())
            lines = [_line(piece) for piece in reply.pieces(*first)]
            started = True
        except _GoneError:
            return Response(status_code=_CLOSED_REQUEST)
        finally:
            if not started:
                running.cancel()
        return StreamingResponse(
            _stream(running, reply, lines),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store"},
        )


class Running:
    """The rows of one plan while they are computed.

    Args:
        engine, planner, plan: what is to run.
        deadline: in seconds of ``time.monotonic``.

    Raises:
        Refusal: the engine takes no more.
    """

    def __init__(self, engine: Engine, planner: Planner, plan: Plan, deadline: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._rows = [
            Row(wanted, sampler, text, self._deliver_for(number), deadline)
            for number, (wanted, sampler, text) in enumerate(planner.draws(plan))
        ]
        self.left = len(self._rows)
        try:
            engine.submit(self._rows)
        except Unanswered as error:
            raise unanswered(error) from error

    async def next(self) -> tuple[int, Event]:
        """The next event, and of which answer."""
        number, event = await self._events.get()
        self.left -= isinstance(event, Ended | Failed)
        return number, event

    def cancel(self) -> None:
        """Let the engine drop what has not ended."""
        for row in self._rows:
            row.cancelled.set()

    def _deliver_for(self, number: int) -> Callable[[Event], None]:
        def deliver(event: Event) -> None:
            # the loop is closed when the server has ended
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._events.put_nowait, (number, event))

        return deliver


async def _stream(running: Running, reply: Reply, lines: list[bytes]) -> AsyncIterator[bytes]:
    try:
        for line in lines:
            yield line
        while running.left:
            for piece in reply.pieces(*await running.next()):
                yield _line(piece)
        if reply.plan.common.usage_in_stream:
            yield _line(reply.usage_piece())
        yield b"data: [DONE]\n\n"
    except Refusal as refusal:
        yield _line(dict(refusal.body()))
    finally:
        running.cancel()


def _line(body: Body) -> bytes:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n".encode()


async def _collected(running: Running, reply: Reply) -> Body:
    while running.left:
        number, event = await running.next()
        reply.answers[number].add(event)
    return reply.whole()


class _GoneError(Exception):
    """The client has left; never leaves this module."""


async def _unless_gone(request: Request, work: Coroutine[None, None, Result]) -> Result:
    """What some work returns, if the client waits for it.

    Raises:
        _GoneError: it does not.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise _GoneError
    finally:
        for task in (working, leaving):
            task.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def make_app(desk: Desk, limits: Limits) -> FastAPI:
    """The application; its engine starts with it, and is stopped by whoever runs it."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        desk.engine.start()
        yield

    # the pages of its documentation would load scripts from elsewhere
    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(
        Guard,
        api_key=limits.api_key,
        only_local=is_loopback(limits.host),
        refuse=_refuse,
        seconds=limits.body_seconds,
    )
    _add_errors(app)
    planner = desk.planner

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        return await desk.answer(request, lambda body: planner.chat(read_chat(body)))

    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        return await desk.answer(request, lambda body: planner.completion(read_completion(body)))

    @app.get("/v1/models")
    async def models() -> Body:
        return desk.info.models()

    @app.get("/v1/models/{model:path}")
    async def model(model: str) -> Body:
        return desk.info.model(model)

    @app.get("/info")
    async def info() -> Body:
        return desk.info.whole()

    @app.get("/health")
    async def health() -> Body:
        running, waiting = desk.engine.load
        return {"status": "ok", "running": running, "waiting": waiting}

    @app.get("/")
    @app.get("/page/{name}")
    async def page(name: str = "index.html") -> Response:
        file = PAGE / name
        if name.startswith(".") or file.parent != PAGE or not file.is_file():
            raise HTTPException(404)
        return FileResponse(file, headers=_PAGE_HEADERS)

    return app


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(Refusal)
    async def refused(_request: Request, error: Refusal) -> Response:
        return _refusal_response(error)

    @app.exception_handler(404)
    @app.exception_handler(405)
    async def other(request: Request, error: HTTPException) -> Response:
        message = f"{request.method} {request.url.path}: {error.detail}"
        return _refusal_response(Refusal(error.status_code, message))

    @app.exception_handler(Exception)
    async def broken(_request: Request, _error: Exception) -> Response:
        return _refusal_response(Refusal(500, "an error of the server; its log says more"))


def _refusal_response(refusal: Refusal) -> Response:
    return JSONResponse(dict(refusal.body()), refusal.status, headers=refusal.headers())


async def _refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    await _refusal_response(refusal)(scope, receive, send)
