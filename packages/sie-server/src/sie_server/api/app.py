"""The ASGI application: routes, errors, middleware, start and stop."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from sie_server.api.playground import is_playground
from sie_server.api.routes import Routes
from sie_server.engine.engine import Engine
from sie_server.errors import Code, SIEError
from sie_server.http.api_keys import ApiKeyMiddleware, ApiKeys
from sie_server.http.client_identity import ClientMiddleware
from sie_server.http.error_responses import ServerErrorMiddleware, error_response, internal_error
from sie_server.http.request_log import RequestLogMiddleware
from sie_server.http.server_headers import ServerHeadersMiddleware
from sie_server.http.shutdown import Drain, DrainMiddleware
from sie_server.metrics import Metrics
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
    drain = drain or Drain()
    routes = Routes(engine, settings, metrics, drain)
    keys = ApiKeys(settings.api_keys, settings.api_keys_file)

    async def preload() -> None:
        try:
            for model_id in settings.preload:
                await engine.residency.preload(model_id)
        except SIEError as error:
            on_failed(error)
        else:
            routes.health.started = True
            on_ready()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        engine.start()
        preloading, lag = asyncio.create_task(preload()), asyncio.create_task(_measure_lag(metrics))
        try:
            yield
        finally:
            routes.health.started = False
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
    wrapped: ASGIApp = ClientMiddleware(app)
    wrapped = ApiKeyMiddleware(wrapped, keys, is_playground if settings.playground else lambda _: False)
    wrapped = DrainMiddleware(wrapped, drain)
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
    return SIEError(Code.NOT_FOUND, "no route matches this path; /docs lists the routes")


async def _internal_error(request: Request, _: Exception) -> Response:
    return internal_error(request.scope["path"])
