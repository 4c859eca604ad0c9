"""Per-request observability: request id, log line, error count and trace."""

import logging
import random
import re
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sie_server.errors import CLIENT_CLOSED_REQUEST
from sie_server.http.error_responses import is_foreign
from sie_server.metrics import UNKNOWN, Metrics
from sie_server.request_context import CURRENT, RequestContext

if TYPE_CHECKING:
    from sie_server.http.tracing import Traces

_LOG = logging.getLogger(__name__)
_API = "/v1/"
_REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)


class RequestLogMiddleware:
    """Logs, counts and traces requests. A client's `X-Request-ID` becomes the id of its request.

    Finished requests are logged at debug level; with `json_logs`, requests to API routes at info level.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, traces: "Traces | None", *, json_logs: bool) -> None:
        self._app = app
        self._metrics = metrics
        self._traces = traces
        # Ids need not be secret, and a read of the system's random numbers gives the GIL away.
        self._ids = random.Random()
        self._api_level = logging.INFO if json_logs else logging.DEBUG

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request = RequestContext(
            given if _REQUEST_ID.fullmatch(given) else f"{self._ids.getrandbits(128):032x}", started
        )
        trace = None if self._traces is None else self._traces.begin(headers, request, started)
        is_api = _is_api(scope)
        status = 0

        async def send_noticed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        # Never reset: uvicorn logs exceptions of this task later, with the id of the request.
        CURRENT.set(request)
        try:
            with self._metrics.in_progress.track_inprogress() if is_api else nullcontext():
                await self._app(scope, receive, send_noticed)
        finally:
            ended = time.perf_counter()
            if is_api and status >= 400 and status != CLIENT_CLOSED_REQUEST:
                request.code = request.code or f"HTTP_{status}"
                self._metrics.errors.labels(request.model, request.endpoint, request.code).inc()
            self._log(scope, request, status, ended - started, self._api_level if is_api else logging.DEBUG)
            if trace is not None:
                trace.end(scope["method"], _route(scope), status, ended)

    def _log(self, scope: Scope, request: RequestContext, status: int, seconds: float, level: int) -> None:
        if _LOG.isEnabledFor(level):
            route = _route(scope)
            fields = {
                "model": request.model if request.endpoint != UNKNOWN else None,
                "route": route,
                "status": status,
                "ms": round(seconds * 1e3, 2),
                "tokens": request.tokens,
                "code": request.code,
            }
            _LOG.log(level, "%s %s", scope["method"], route, extra=fields)


def _is_api(scope: Scope) -> bool:
    """Whether a request is for the models, in whichever API."""
    path = scope["path"]
    return path.startswith(_API) or is_foreign(path) or (path == "/" and scope["method"] == "POST")


def _route(scope: Scope) -> str:
    """The pattern of the route that matched; the path that a client sent is not kept."""
    route = scope.get("route")
    return UNKNOWN if route is None else route.path.replace(":path}", "}")
