"""Leaving in good order: what came in is answered, what comes now is sent elsewhere."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sie_server.http.negotiation import json

_HEADERS = {"Retry-After": "5", "Connection": "close"}
_BODY = {
    "error": "Service shutting down",
    "detail": "Server is draining requests before shutdown. Retry on another instance.",
}


class Drain:
    """Knows the HTTP requests that are being answered, and refuses new ones once it has `begun`."""

    def __init__(self) -> None:
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
            if self.begun and scope["type"] in ("http", "websocket"):
                await _refuse(scope, receive, send)
            elif scope["type"] == "http":
                await self._answer(app, scope, receive, send)
            else:
                await app(scope, receive, send)

        return drained

    async def _answer(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        answering = False

        async def send_seen(message: Message) -> None:
            nonlocal answering
            answering = True
            await send(message)

        try:
            await app(scope, receive, send_seen)
        except asyncio.CancelledError:
            if answering or not self.begun:
                raise
            await json(_BODY, 503, _HEADERS)(scope, receive, send)
        finally:
            self._tasks.discard(task)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    # A client that is cut off while it still sends may not read an answer that is there already.
    while scope["type"] == "http" and (await receive()).get("more_body"):
        pass
    await json(_BODY, 503, _HEADERS)(scope, receive, send)
