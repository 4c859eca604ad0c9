"""Graceful shutdown: requests in progress are answered, new ones are refused, and the process ends in time."""

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import uvicorn
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sie_server.errors import ANSWERS, Code, CutOff
from sie_server.http.error_responses import ShuttingDown
from sie_server.http.negotiation import json

_LOG = logging.getLogger(__name__)
_ANSWER = ANSWERS[Code.SHUTTING_DOWN]
# Where probes ask whether to send requests, under the names of several APIs.
READINESS = ("/readyz", "/health", "/v1/health/ready", "/ping")
# Requests that are on their way when refusal begins still get a response.
_LINGER_S = 0.3
# EX_SOFTWARE of sysexits.h.
ABANDONED = 70
_ABANDONED_S = 1.0
_LAST_S = 10.0
# For everything that is not a request to end, status streams and the engine included.
_CLOSE_S = 3.0


class Drain:
    """State of the shutdown, and the HTTP requests in progress.

    `noticed`: new requests are still answered, but `READINESS` fails, so that load balancers stop sending. `begun`,
    which follows: new requests are refused. In either state a response is the last one on its connection.
    """

    def __init__(self) -> None:
        self.noticed = False
        self.begun = False
        self._tasks: set[asyncio.Task[object]] = set()

    @property
    def requests(self) -> int:
        """Number of requests in progress."""
        return len(self._tasks)

    @property
    def done(self) -> bool:
        """Whether no request is in progress."""
        return not self._tasks

    def cut(self) -> None:
        """Answer the requests in progress as new ones are; responses that have begun are cut off."""
        for task in self._tasks:
            task.cancel()

    def refuses(self, path: str) -> bool:
        """Whether a new request to `path` is refused."""
        return self.begun or (self.noticed and path in READINESS)

    @contextmanager
    def in_progress(self, task: "asyncio.Task[object]") -> Iterator[None]:
        """Count a request, answered by this task, as in progress."""
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)


class DrainMiddleware:
    """Refuses requests once the server drains, and closes connections after their last response."""

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        self._app = app
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and self._drain.refuses(scope["path"]):
            await _refuse(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        started = False

        async def send_last(message: Message) -> None:
            nonlocal started
            started = True
            if (self._drain.begun or self._drain.noticed) and message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        with self._drain.in_progress(task):
            try:
                await self._app(scope, receive, send_last)
            except asyncio.CancelledError:
                if not self._drain.begun:
                    raise
                if started:
                    raise CutOff from None
                await _refusal()(scope, receive, send)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    # A client whose connection closes while it still sends may not read a response that is already there.
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


class DrainingServer(uvicorn.Server):
    """uvicorn, which drains on SIGTERM, SIGHUP or SIGINT before it exits; a SIGINT while it drains ends it at once.

    `drain_s`: time for requests in progress; the process ends at most 3 s later, whatever still runs. `notice_s`: part
    of `drain_s` during which new requests are still accepted after a SIGTERM or SIGHUP while `/readyz` fails.
    `on_drain`: called on the event loop when new requests begin to be refused.
    """

    def __init__(
        self, config: uvicorn.Config, drain: Drain, drain_s: float, notice_s: float, on_drain: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self.abandoned = 0
        self._drain = drain
        self._drain_s = drain_s
        self._notice_s = notice_s
        self._on_drain = on_drain
        self._noticed_at: float | None = None
        self._began_at: float | None = None
        self._idle_closed = False

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle SIGHUP in addition to uvicorn's signals, unless it is ignored, as under `nohup`."""
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        before = None if ignored else signal.signal(signal.SIGHUP, self.handle_exit)
        try:
            with super().capture_signals():
                yield
        finally:
            if before is not None:
                signal.signal(signal.SIGHUP, before)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._drain.noticed and sig == signal.SIGINT:
            leave(128 + sig)
        self._drain.noticed = True
        # After Ctrl-C no load balancer needs notice.
        self._drain.begun = self._drain.begun or sig == signal.SIGINT or self._notice_s <= 0

    def abandon(self) -> None:
        """Exit with status 70 and the responses that can be finished within a second. Callable from any thread."""
        self.abandoned = ABANDONED
        self._drain_s = _ABANDONED_S
        self._drain.noticed = self._drain.begun = True
        # Even if the event loop is stuck.
        self._leave_after(_LAST_S)

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or (self._drain.noticed and self._drained())

    def _drained(self) -> bool:
        """Take the next step of the shutdown. Returns whether the server should exit now."""
        now = time.monotonic()
        if self._noticed_at is None:
            self._noticed_at = now
            # A model load, say, cannot be interrupted.
            self._leave_after(self._drain_s + _CLOSE_S)
        if not self._drain.begun:
            self._drain.begun = now - self._noticed_at >= min(self._notice_s, self._drain_s)
            return False
        if self._began_at is None:
            self._began_at = now
            self._on_drain()
        if now - self._began_at < min(_LINGER_S, self._drain_s):
            return False
        if not self._idle_closed:
            self._idle_closed = True
            self._close_idle()
        if not self._drain.done and now - self._noticed_at >= self._drain_s:
            _LOG.warning("shutting down with requests unanswered after %g s", self._drain_s)
            self._drain.cut()
            return True
        return self._drain.done

    def _close_idle(self) -> None:
        # Connections made from now on have a request coming, which gets a refusal.
        for connection in list(self.server_state.connections):
            connection.shutdown()

    def _leave_after(self, seconds: float) -> None:
        last = threading.Timer(seconds, lambda: leave(self.abandoned))
        last.daemon = True
        last.start()


def leave(status: int) -> NoReturn:
    """End the process without waiting for its threads."""
    logging.shutdown()
    sys.stderr.flush()
    os._exit(status)
