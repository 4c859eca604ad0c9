"""Leaving in good order: what came in is answered, what comes now is sent elsewhere."""

import asyncio

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sie_server.errors import ANSWERS, Code, CutOff
from sie_server.http.error_responses import ShuttingDown
from sie_server.http.negotiation import json

_ANSWER = ANSWERS[Code.SHUTTING_DOWN]
_READY = "/readyz"


class Drain:
    """Knows the HTTP requests that are being answered, and refuses new ones once it has `begun`.

    While it is `noticed`, which comes first, new requests are still answered, but `/readyz` says that no more should be
    sent. In either state an answer is the last one on its connection.
    """

    def __init__(self) -> None:
        self.noticed = False
        self.begun = False
        self._tasks: set[asyncio.Task[object]] = set()

    @property
    def done(self) -> bool:
        """Whether nothing that came in is left to answer."""
        return not self._tasks

    def cut(self) -> None:
        """Answer what is left as what comes now; an answer that has begun is cut off."""
        for task in self._tasks:
            task.cancel()

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application, drained."""

        async def drained(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] in ("http", "websocket") and self._refuses(scope["path"]):
                await _refuse(scope, receive, send)
            elif scope["type"] == "http":
                await self._answer(app, scope, receive, send)
            else:
                await app(scope, receive, send)

        return drained

    def _refuses(self, path: str) -> bool:
        return self.begun or (self.noticed and path == _READY)

    async def _answer(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        answering = False

        async def send_seen(message: Message) -> None:
            nonlocal answering
            answering = True
            if (self.begun or self.noticed) and message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        try:
            await app(scope, receive, send_seen)
        except asyncio.CancelledError:
            if not self.begun:
                raise
            if answering:
                raise CutOff from None
            await _refusal()(scope, receive, send)
        finally:
            self._tasks.discard(task)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    # A client that is cut off while it still sends may not read an answer that is there already.
    while scope["type"] == "http" and (await receive()).get("more_body"):
        pass
    await _refusal()(scope, receive, send)


def _refusal() -> Response:
    # Clients of SIE know these texts. One of them retries only if `detail` has no code in it, the others only if a
    # header has a code that they know.
    body = ShuttingDown(
        _ANSWER.wire,
        error="Service shutting down",
        detail="Server is draining requests before shutdown. Retry on another instance.",
    )
    headers = {"Retry-After": str(_ANSWER.retry_after), "Connection": "close", "X-SIE-Error-Code": _ANSWER.wire}
    return json(body, _ANSWER.status, headers)
