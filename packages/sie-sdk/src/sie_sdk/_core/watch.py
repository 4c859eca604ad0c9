"""The life of a status stream, without I/O.

`watch_statuses` is a generator like `exchange`, over a WebSocket (RFC 6455) instead of requests. It opens the stream,
reads its frames, and opens it again when it ends, after the pauses that `sie_sdk.retry` defines for requests.
"""

import base64
import os
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, Final

from sie_sdk._core.exchange import (
    Attempt,
    Call,
    Clock,
    Failure,
    Pause,
    ServerHistory,
    Trace,
    next_attempt,
    wait_to_retry,
)
from sie_sdk._core.reply import Reply
from sie_sdk.errors import RequestError
from sie_sdk.types import StatusMessage

# A read holds up a `close()` by another thread for no longer than this.
_GLANCE_S = 0.5
_SWITCHING_PROTOCOLS: Final = 101


@dataclass(frozen=True, slots=True)
class Open:
    """A handshake to send, answered with the `Reply` or the `Failure`. The connection stays open."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Read:
    """A read, answered with the next bytes, b"" at the end of the connection, None at the timeout, or a `Failure`."""

    timeout_s: float


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes to send, without an answer: if that fails, so does the next read."""

    data: bytes
    timeout_s: float


@dataclass(frozen=True, slots=True)
class ShowStatus:
    """A status for the caller."""

    status: StatusMessage


def check_mode(mode: str) -> None:
    """Raises ValueError unless `mode` is one that a single server has."""
    if mode not in ("auto", "worker"):
        reason = ": the status of a cluster comes from a gateway" if mode == "cluster" else ""
        raise ValueError(f"mode must be 'auto' or 'worker', got {mode!r}{reason}")


Steps = Generator[Pause | Open | Read | Write | ShowStatus, Any, None]


def watch_statuses(call: Call[StatusMessage], history: ServerHistory, clock: Clock) -> Steps:
    """Yields statuses forever; raises if the budget of `call` passes without one, or the server has no such stream."""
    trace, since_s = Trace(), clock.monotonic()
    while True:
        attempt = _upgrade(next_attempt(call, since_s + call.budget_s - clock.monotonic()))
        answer = yield Open(attempt)
        if isinstance(answer, Reply):
            history.heard(answer)
        if isinstance(answer, Reply) and answer.status == _SWITCHING_PROTOCOLS:
            shown, answer = yield from _frames(call, clock)
            if shown:
                trace, since_s = Trace(), clock.monotonic()
        elif isinstance(answer, Reply) and answer.status < 500 and answer.status != 429:
            fault = answer.server_message()
            message = f"no status stream at {call.url}: {fault.message}"
            if answer.lacks_route(fault):
                message = call.context.without_route(message)
            raise RequestError(message, code=fault.code, status_code=answer.status)
        yield from wait_to_retry(call, attempt, answer, since_s, trace, history, clock)


def _upgrade(attempt: Attempt) -> Attempt:
    handshake = {
        "connection": "upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": base64.b64encode(os.urandom(16)).decode(),
    }
    return replace(attempt, headers={**attempt.headers, **handshake})


def _frames(call: Call[StatusMessage], clock: Clock) -> Generator[Read | Write | ShowStatus, Any, tuple[bool, Failure]]:
    """Yields statuses until the connection ends; returns whether there were any, and how it ended."""
    # Imported here because few programs watch. Not `httpx2.websockets`, which is built on wsproto too: its blocking
    # session leaves a thread behind that keeps a program from ending while the server is silent, and its asyncio one
    # cancels the task that leaves an `async for` loop early.
    from wsproto import ConnectionType, events
    from wsproto.connection import Connection
    from wsproto.utilities import ProtocolError

    connection, text, shown, heard = Connection(ConnectionType.CLIENT), "", False, clock.monotonic()
    while True:
        received = yield Read(_GLANCE_S)
        if isinstance(received, Failure):
            return shown, received
        if received is None:
            if clock.monotonic() - heard < call.read_timeout_s:
                continue
            return shown, Failure("connect", TimeoutError(f"no frame within {call.read_timeout_s:g} s"))
        heard = clock.monotonic()
        try:
            connection.receive_data(received or None)
            for event in connection.events():
                if isinstance(event, events.Ping):
                    yield Write(connection.send(event.response()), _GLANCE_S)
                elif isinstance(event, events.TextMessage):
                    text += event.data
                    if event.message_finished:
                        yield ShowStatus(call.parse(Reply(_SWITCHING_PROTOCOLS, {}, text.encode())))
                        text, shown = "", True
                elif isinstance(event, events.CloseConnection):
                    return shown, Failure(
                        "connect", ConnectionError(f"closed by the server with code {int(event.code)}")
                    )
        except ProtocolError as error:
            return shown, Failure("connect", error)
