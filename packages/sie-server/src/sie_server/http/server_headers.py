"""Headers that every response carries: versions, and the ids of the request and of this process."""

import secrets

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sie_server import CONTRACT_VERSION, __version__
from sie_server.request_context import current_request


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
