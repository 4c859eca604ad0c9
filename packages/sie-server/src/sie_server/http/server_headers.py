"""Headers that every response carries: versions, and the ids of the request and of this process."""

import secrets

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sie_server import CONTRACT_VERSION, __version__
from sie_server.request_context import current_request


class ServerHeadersMiddleware:
    """Adds the headers that every response carries."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        common = {
            "X-SIE-Server-Version": CONTRACT_VERSION,
            "X-SIE-Build": __version__,
            "X-SIE-Served-By": "local",
            "X-SIE-Runtime-Instance": secrets.token_hex(32),
        }
        self._common = [(name.lower().encode(), value.encode()) for name, value in common.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = current_request()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message["headers"], *self._common, (b"x-sie-request-id", request.request_id.encode())]
                if request.trace_id is not None:
                    headers.append((b"x-trace-id", request.trace_id.encode()))
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_with_headers)
