"""The ASGI application: routes, errors, middleware, start and stop."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from sie_server import CONTRACT_VERSION, __version__
from sie_server.api.routes import Routes
from sie_server.engine.engine import Engine
from sie_server.errors import Code, SIEError
from sie_server.http.api_keys import ApiKeyMiddleware, ApiKeys
from sie_server.http.error_responses import error_response
from sie_server.http.request_log import RequestLogMiddleware
from sie_server.http.shutdown import Drain, DrainMiddleware
from sie_server.metrics import Metrics
from sie_server.request_context import current_request
from sie_server.settings import Settings

if TYPE_CHECKING:
    from sie_server.http.tracing import Traces  # OpenTelemetry is an extra

_LAG_INTERVAL_S = 0.25


def create_app(
    settings: Settings,
    engine: Engine,
    metrics: Metrics,
    *,
    on_ready: Callable[[], None],
    on_failed: Callable[[SIEError], None],
    traces: "Traces | None" = None,
    drain: Drain | None = None,
) -> ASGIApp:
    """The server as an ASGI application; it starts and stops the engine with its lifespan.

    It answers requests while it preloads. When every preload is in memory, `/readyz` turns 200 and `on_ready` is
    called; if one fails to load, `on_failed` is called. traces: receives the traces of requests. drain: begun by the
    caller.

    Raises:
        ValueError: an API key is malformed, or the file of API keys cannot be read.
    """
    routes = Routes(engine, settings, metrics)
    keys = ApiKeys(settings.api_keys, settings.api_keys_file)

    async def preload() -> None:
        try:
            for model_id in settings.preload:
                await engine.residency.preload(model_id)
        except SIEError as error:
            on_failed(error)
        else:
            routes.health.ready = True
            on_ready()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        engine.start()
        preloading, lag = asyncio.create_task(preload()), asyncio.create_task(_measure_lag(metrics))
        try:
            yield
        finally:
            routes.health.ready = False
            preloading.cancel()
            lag.cancel()
            await engine.close()
            routes.close()
            if traces is not None:
                await asyncio.to_thread(traces.close)

    handlers = {SIEError: _sie_error, HTTPException: _http_error, Exception: _internal_error}
    app = Starlette(
        routes=[*routes.table(), WebSocketRoute("/{path:path}", _no_websocket)],
        lifespan=lifespan,
        exception_handlers=handlers,  # type: ignore[arg-type] # each handler takes the type it is keyed by
    )
    app.router.redirect_slashes = False
    # Around the application, not as its middleware: Starlette answers uncaught exceptions outside of its middleware.
    # From the innermost to the outermost, which sees a request first.
    wrapped: ASGIApp = ApiKeyMiddleware(app, keys)
    wrapped = DrainMiddleware(wrapped, drain or Drain())
    if settings.cors_origins:
        wrapped = CORSMiddleware(
            wrapped,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["*"],
        )
    wrapped = ServerErrorMiddleware(wrapped)
    wrapped = ServerHeadersMiddleware(wrapped)
    return RequestLogMiddleware(wrapped, metrics, traces, json_logs=settings.json_logs)


async def _measure_lag(metrics: Metrics) -> None:
    """Measure the delay of the event loop, which every request waits for at each of its steps, until cancelled."""
    while True:
        due = time.perf_counter() + _LAG_INTERVAL_S
        await asyncio.sleep(_LAG_INTERVAL_S)
        metrics.loop_lag.observe(max(time.perf_counter() - due, 0.0))


class ServerHeadersMiddleware:
    """Adds the headers that every response carries."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._instance = secrets.token_hex(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = current_request()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-SIE-Server-Version"] = CONTRACT_VERSION
                headers["X-SIE-Build"] = __version__
                headers["X-SIE-Served-By"] = "local"
                headers["X-SIE-Runtime-Instance"] = self._instance
                headers["X-SIE-Request-ID"] = request.request_id
                if request.trace_id is not None:
                    headers["X-Trace-ID"] = request.trace_id
            await send(message)

        await self._app(scope, receive, send_with_headers)


async def _sie_error(request: Request, error: SIEError) -> Response:
    return error_response(request.scope["path"], error)


async def _http_error(request: Request, error: HTTPException) -> Response:
    methods = (error.headers or {}).get("Allow")
    if error.status_code == 405 and methods is not None:
        told = SIEError(Code.METHOD_NOT_ALLOWED, f"method {request.method} is not allowed here; allowed: {methods}")
    else:
        told = _nothing()
    response = error_response(request.scope["path"], told)
    response.headers.update(error.headers or {})
    return response


async def _no_websocket(websocket: WebSocket) -> None:
    await websocket.send_denial_response(error_response(websocket.scope["path"], _nothing()))


def _nothing() -> SIEError:
    return SIEError(Code.NOT_FOUND, "there is nothing at this path; /docs lists the routes")


async def _internal_error(request: Request, _: Exception) -> Response:
    return _internal(request.scope["path"])


def _internal(path: str) -> Response:
    response = error_response(path, SIEError(Code.INTERNAL_ERROR, "internal error"))
    # The exception goes on to uvicorn, which logs it and closes the connection; the client must be told.
    response.headers["Connection"] = "close"
    return response


class ServerErrorMiddleware:
    """Answers every failure with INTERNAL_ERROR, including those of compiled code that are not an `Exception`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_noticed(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_noticed)
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # uvicorn logs it
            if not started and scope["type"] == "websocket":
                await WebSocket(scope, receive, send).send_denial_response(_internal(scope["path"]))
            elif not started:
                await _internal(scope["path"])(scope, receive, send)
            raise
