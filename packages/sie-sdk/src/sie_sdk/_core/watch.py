"""The life of a stream of statuses, without I/O.

`watching` is a generator like `exchange`, over a WebSocket (RFC 6455) instead of requests. It opens the stream, reads
frames, and opens it again when it ends, with the pauses that `sie_sdk.retry` has for requests.
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
    Trace,
    VersionSkew,
    attempt_of,
    before_another,
)
from sie_sdk._core.reply import Reply
from sie_sdk.errors import RequestError
from sie_sdk.types import StatusMessage

# The longest that a read may hold up a `close()` by another thread.
_GLANCE_S = 0.5
_SWITCHING_PROTOCOLS: Final = 101


@dataclass(frozen=True, slots=True)
class Open:
    """Send this, and keep the connection; answer with the `Reply` or the `Failure`."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Read:
    """Answer with the next bytes of the connection, none at its end; None if none came for so long; or a `Failure`."""

    timeout_s: float


@dataclass(frozen=True, slots=True)
class Write:
    """Send these bytes; no answer, as a connection that takes none gives none either."""

    data: bytes
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Show:
    """Hand this to whoever watches."""

    status: StatusMessage


def check_mode(mode: str) -> None:
    """Raises ValueError unless `mode` is one that a single server has."""
    if mode not in ("auto", "worker"):
        reason = ": the status of a cluster comes from a gateway" if mode == "cluster" else ""
        raise ValueError(f"mode must be 'auto' or 'worker', got {mode!r}{reason}")


Steps = Generator[Pause | Open | Read | Write | Show, Any, None]


def watching(call: Call[StatusMessage], skew: VersionSkew, clock: Clock) -> Steps:
    """Shows statuses for ever. Raises when `call`'s budget passes without one, or if the server has no such stream."""
    trace, deadline = Trace(), clock.monotonic() + call.budget_s
    while True:
        attempt = _upgrade(attempt_of(call, deadline - clock.monotonic()))
        answer = yield Open(attempt)
        if isinstance(answer, Reply) and answer.status == _SWITCHING_PROTOCOLS:
            skew.check(answer.headers.get("x-sie-server-version"))
            shown, answer = yield from _frames(call, clock)
            if shown:
                trace, deadline = Trace(), clock.monotonic() + call.budget_s
        elif isinstance(answer, Reply) and answer.status < 500 and answer.status != 429:
            said = answer.server_message()
            message = f"no status stream at {call.url}: {said.message}"
            raise RequestError(message, code=said.code, status_code=answer.status)
        yield from before_another(call, attempt, answer, deadline, trace, clock)


def _upgrade(attempt: Attempt) -> Attempt:
    handshake = {
        "connection": "upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": base64.b64encode(os.urandom(16)).decode(),
    }
    return replace(attempt, headers={**attempt.headers, **handshake})


def _frames(call: Call[StatusMessage], clock: Clock) -> Generator[Read | Write | Show, Any, tuple[bool, Failure]]:
    """Shows what comes until the connection ends; whether anything came, and how it ended."""
    # Imported here as few programs watch. Not `httpx2.websockets`, which is built on wsproto too: its blocking session
    # leaves a thread behind that keeps a program from ending while the server is silent, and its asyncio one cancels
    # the task that leaves an `async for` loop early.
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
            return shown, Failure("connect", TimeoutError(f"no frame for {call.read_timeout_s:g} s"))
        heard = clock.monotonic()
        try:
            connection.receive_data(received or None)
            for event in connection.events():
                if isinstance(event, events.Ping):
                    yield Write(connection.send(event.response()), _GLANCE_S)
                elif isinstance(event, events.TextMessage):
                    text += event.data
                    if event.message_finished:
                        yield Show(call.parse(Reply(_SWITCHING_PROTOCOLS, {}, text.encode())))
                        text, shown = "", True
                elif isinstance(event, events.CloseConnection):
                    return shown, Failure("connect", ConnectionError(f"closed by the server, code {int(event.code)}"))
        except ProtocolError as error:
            return shown, Failure("connect", error)
