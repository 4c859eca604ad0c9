"""HTTP connections: uvicorn's, with limits on the time, size and number of their requests.

uvicorn waits indefinitely for the head of a request, buffers heads of any size, reads on while a pipeline waits, and
keeps responses that a client does not read. Its `timeout_keep_alive` applies to connections that had a response.
"""

import asyncio
import sys
from contextvars import Context
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from sie_server.errors import ANSWERS, Code, SIEError
from sie_server.http.body import ARRIVED, SLOWEST_BYTES_PER_S
from sie_server.http.connection_limits import ADMITTED, ConnectionLimits
from sie_server.http.error_responses import error_response
from sie_server.metrics import Metrics

# Large enough for model ids of 60,000 characters, which get MODEL_NOT_FOUND.
_MAX_HEAD_BYTES = 128 * 2**10
_MAX_HEADERS = 128
_MAX_PIPELINE = 64
# Bytes of framing per byte of body: a chunk of one byte takes six.
_MAX_FRAMING = 8
# Time for a client to read the response: closing at once with unread data may discard it.
_LINGER_S = 2.0


class Connection(HttpToolsProtocol):
    """One connection. When it exceeds a limit, it gets an error response if possible, and is closed.

    receive_s: time for a head to arrive, and for a response to be read, plus a second per 8 KiB of it.
    """

    def __init__(self, receive_s: float, limits: ConnectionLimits, metrics: Metrics, **given: Any) -> None:
        super().__init__(**given)
        self._receive_s = receive_s
        self._limits = limits
        self._metrics = metrics
        # Client of the last request that was admitted.
        self._owner: str | None = None
        self._above_limit = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._reading_timer: asyncio.TimerHandle | None = None
        self._in_head = False
        self._head_bytes = 0
        self._framing = 0
        self._error: SIEError | None = None
        self._refused = False
        self._fed = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        over = len(self.connections) - self._limits.leaving - self._limits.most
        if over > 0:
            self._above_limit = not self._limits.make_room() or over > 1
            # Identifying the client needs a connection too. Beyond `extra`, connections are closed without a response.
            if self._above_limit and over > self._limits.extra and not self._limits.make_room_above_limit():
                self._count(Code.QUEUE_FULL)
                transport.abort()
                return
        self._expect_head()
        if self._above_limit:
            self._limits.above_limit(self)
        else:
            self._limits.idle(self, stranger=True)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self._stop_reading_timer()
        self._limits.closed(self, self._owner)
        super().connection_lost(exc)

    @property
    def receives(self) -> bool:
        return not self._idle and bool(self.cycle.more_body)

    def give_way(self) -> None:
        if self._idle:
            self._count(Code.QUEUE_FULL)
            self.transport.abort()
        else:
            # Later, and outside of the context of the request that is being handled now.
            self.loop.call_soon(self._give_up, context=Context())

    def _give_up(self) -> None:
        if self._idle:
            self.transport.close()
        else:
            self._refuse(_full("this one was closed for a client with fewer"), of_request=True)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._reading_timer is None:
            self._expect_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_reading_timer()

    def handle_websocket_upgrade(self) -> None:
        if self._above_limit and not self._limits.make_room():
            self._refuse(_full("none is idle"))
            return
        self._limits.closed(self, self._owner)
        super().handle_websocket_upgrade()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        in_body = not self._idle
        if self._in_head:
            self._head_bytes += len(data)
        if in_body:
            self._framing += len(data)
        self._fed = data
        super().data_received(data)
        self._fed = b""
        if self not in self.connections:  # upgraded to a WebSocket
            return
        if self._in_head and self._head_bytes > _MAX_HEAD_BYTES:
            self._refuse(_head_too_large())
        elif in_body and self._framing > _MAX_HEAD_BYTES:
            self._refuse(SIEError(Code.INVALID_INPUT, "the chunked encoding of the request body has too much overhead"))
        elif self._idle and self._head_timer is None:
            self._expect_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers of a chunked body are ignored; they must not become headers.
        if not self._in_head:
            return
        super().on_header(name, value)
        if len(self.headers) > _MAX_HEADERS:
            self._fail(_head_too_large())

    def on_headers_complete(self) -> None:
        self._in_head, self._framing = False, 0
        self._stop_head_timer()
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > _MAX_HEAD_BYTES:
            self._fail(_head_too_large())
        if len(self.pipeline) >= _MAX_PIPELINE:
            self._fail(
                SIEError(Code.INVALID_INPUT, f"more than {_MAX_PIPELINE} requests are pipelined on this connection")
            )
        if self._declines:
            return
        self._limits.request_begins(self)
        super().on_headers_complete()
        self.scope[ADMITTED] = self._admitted  # type: ignore[literal-required]

    def on_body(self, body: bytes) -> None:
        self._framing -= min(_MAX_FRAMING * len(body), self._framing)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._declines:
            super().on_message_complete()
            self.scope[ARRIVED] = True  # type: ignore[literal-required]

    def _should_upgrade(self) -> bool:
        return bool(self.parser.get_method() == b"GET") and super()._should_upgrade()

    @property
    def _declines(self) -> bool:
        """Whether to ignore an offered upgrade to a protocol such as HTTP/2, which some clients always offer."""
        return (
            bool(self.parser.should_upgrade()) and not self._should_upgrade() and self.parser.get_method() != b"CONNECT"
        )

    def _unsupported_upgrade_warning(self) -> None:
        """Parse the request again without its upgrade headers.

        The parser takes the bytes after the head for the other protocol: uvicorn would handle a request without a body,
        and then parse the body as the next request.
        """
        error = sys.exception()
        assert isinstance(error, httptools.HttpParserUpgrade)
        head = [self.parser.get_method() + b" " + self.url + b" HTTP/" + self.parser.get_http_version().encode()]
        for name, value in self.headers:
            if name == b"connection":
                kept = [token for token in value.split(b",") if token.strip().lower() != b"upgrade"]
                head.append(b"connection:" + b",".join(kept))
            elif name != b"upgrade":
                head.append(name + b":" + value)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        rest = self._fed[error.args[0] :]
        self._fed = b"\r\n".join([*head, b"", rest])
        HttpToolsProtocol.data_received(self, self._fed)

    def on_response_complete(self) -> None:
        unread = self.cycle.more_body
        super().on_response_complete()
        self._limits.request_ends(self, self._owner)
        if self._idle and not self.transport.is_closing():
            self._limits.idle(self, stranger=self._owner is None)
        if self._reading_timer is None:
            self._expect_reading()
        if unread and self._idle:
            self._expect_head()  # after the rest of a refused body

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._error or SIEError(Code.INVALID_INPUT, msg))

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _admitted(self, client: str) -> SIEError | None:
        over = self._above_limit and len(self.connections) - self._limits.leaving > self._limits.most
        if over and not self._limits.make_room_for(client):
            self._count(Code.QUEUE_FULL)
            return _full("no other client has more than this one")
        self._above_limit = False
        self._owner = client
        self._limits.admitted(self, client)
        return None

    def _fail(self, error: SIEError) -> None:
        # Stops the parser; uvicorn then calls `send_400_response`.
        self._error = error
        raise ValueError(error.message)

    def _expect_head(self) -> None:
        self._stop_head_timer()
        self._head_timer = self.loop.call_later(self._receive_s, self._head_is_late)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        if self._in_head:
            self._refuse(SIEError(Code.TOO_SLOW, f"no request arrived within {self._receive_s:g} s"))
        else:
            self.transport.close()

    def _stop_reading_timer(self) -> None:
        if self._reading_timer is not None:
            self._reading_timer.cancel()
            self._reading_timer = None

    def _expect_reading(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._reading_timer = self.loop.call_later(self._receive_s, self._reading_is_late, left) if left else None

    def _reading_is_late(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left and before - left < self._receive_s * SLOWEST_BYTES_PER_S:
            self._count(Code.TOO_SLOW)
            self.transport.abort()
        else:
            self._expect_reading()

    def _refuse(self, error: SIEError, *, of_request: bool = False) -> None:
        """Send an error response and close. of_request: it answers the request in progress."""
        self._stop_head_timer()
        self._refused = True
        self._count(error.code)
        waiting = bool(self.pipeline) or (not self._idle and not self.cycle.more_body)
        self.pipeline.clear()
        # While earlier requests are unanswered, a response would be taken for theirs.
        if not self._idle and (self.cycle.response_started or (waiting and not of_request)):
            self.transport.close()
            return
        response = error_response(self.cycle.scope["path"] if of_request else "", error)
        head = [STATUS_LINE[response.status_code][:-2]]
        head += [name + b": " + value for name, value in response.raw_headers if name != b"connection"]
        self.transport.write(b"\r\n".join([*head, b"connection: close", b"", bytes(response.body)]))
        self.transport.write_eof()
        if not self._idle:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.flow.resume_reading()
        self._head_timer = self.loop.call_later(_LINGER_S, self.transport.close)

    def _count(self, code: Code) -> None:
        self._metrics.refused_connections.labels(ANSWERS[code].wire).inc()


def _full(reason: str) -> SIEError:
    return SIEError(Code.QUEUE_FULL, f"too many connections to this server: {reason}")


def _head_too_large() -> SIEError:
    message = f"the request line and headers exceed {_MAX_HEAD_BYTES} bytes or {_MAX_HEADERS} headers"
    return SIEError(Code.HEAD_TOO_LARGE, message)
