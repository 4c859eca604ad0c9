"""The ASGI application: routes, errors, the headers every answer carries, start and stop."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
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
from sie_server.api.native import Routes
from sie_server.engine.engine import Engine
from sie_server.errors import Code, SIEError
from sie_server.http.api_keys import Doors, Keys
from sie_server.http.drain import Drain
from sie_server.http.error_responses import error_response
from sie_server.http.event_loop_lag import watch_lag
from sie_server.http.request_log import Observed
from sie_server.metrics import Metrics
from sie_server.request_context import current_request
from sie_server.settings import Settings

if TYPE_CHECKING:
    from sie_server.http.tracing import Traces  # OpenTelemetry is an extra


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

    It answers while it preloads; `/readyz` turns 200 and `on_ready` is called when every preload is in memory,
    `on_failed` when one can't be had. traces: where those of its requests go, if they are wanted. `drain` is begun by
    whoever runs the application.

    Raises:
        ValueError: the API keys can't be used.
    """
    routes = Routes(engine, settings, metrics)
    keys = Keys(settings.api_keys, settings.api_keys_file)

    async def preload() -> None:
        try:
            for model_id in settings.preload:
                await engine.residency.preload(model_id)
        except SIEError as error:
            on_failed(error)
        else:
            routes.ready = True
            on_ready()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        engine.start()
        preloading, lag = asyncio.create_task(preload()), asyncio.create_task(watch_lag(metrics))
        try:
            yield
        finally:
            routes.ready = False
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
    # Around it all, not as its middleware: Starlette answers what nothing caught outside of those.
    drained = (drain or Drain()).around(Doors(app, keys))
    guarded = ServerHeaders(Contained(_readable_from(drained, settings.cors_origins)))
    return Observed(guarded, metrics, traces, json_logs=settings.json_logs)


def _readable_from(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """The application, with leave for the pages of these origins to call it and to read what they need of an answer."""
    if not origins:
        return app
    return CORSMiddleware(
        app, allow_origins=origins, allow_methods=["GET", "POST"], allow_headers=["*"], expose_headers=["*"]
    )


class ServerHeaders:
    """Adds the headers every answer carries."""

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
        told = SIEError(Code.METHOD_NOT_ALLOWED, f"this path takes {methods}, not {request.method}")
    else:
        told = _nothing()
    response = error_response(request.scope["path"], told)
    response.headers.update(error.headers or {})
    return response


async def _no_websocket(websocket: WebSocket) -> None:
    await websocket.send_denial_response(error_response(websocket.scope["path"], _nothing()))


def _nothing() -> SIEError:
    return SIEError(Code.NOT_FOUND, "there is nothing at this path; /docs lists what there is")


async def _internal_error(request: Request, _: Exception) -> Response:
    return _internal(request.scope["path"])


def _internal(path: str) -> Response:
    response = error_response(path, SIEError(Code.INTERNAL_ERROR, "internal error"))
    # The exception goes on to uvicorn, which logs it and closes the connection: the client has to know.
    response.headers["Connection"] = "close"
    return response


class Contained:
    """The application, whose every failure has an answer: those of other languages too, which are no `Exception`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        answered = False

        async def send_seen(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self._app(scope, receive, send_seen)
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # uvicorn logs it
            if not answered and scope["type"] == "websocket":
                await WebSocket(scope, receive, send).send_denial_response(_internal(scope["path"]))
            elif not answered:
                await _internal(scope["path"])(scope, receive, send)
            raise
