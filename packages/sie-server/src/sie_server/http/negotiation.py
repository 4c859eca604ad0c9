"""Content negotiation, reading of request bodies, and responses in either encoding."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sie_server import codec
from sie_server.errors import Code, SIEError
from sie_server.http.body_memory import Hold
from sie_server.request_context import timed

JSON = "application/json"
MSGPACK = "application/msgpack"
MSGPACK_NAMES = (MSGPACK, "application/x-msgpack")
# A client that sends or reads more slowly counts as stalled.
SLOWEST_BYTES_PER_S = 8 * 2**10
# Bytes of a response per write.
_PIECE_BYTES = 512 * 2**10
# Bytes of a request body per segment.
_SEGMENT_BYTES = 2**20


def sends_msgpack(request: Request) -> bool:
    """Whether Content-Type names MessagePack; any other value, or none, means JSON."""
    content_type = request.headers.get("content-type", "").lower()
    return any(name in content_type for name in MSGPACK_NAMES)


def wants_msgpack(request: Request) -> bool:
    """Whether to respond in MessagePack: unless Accept names JSON and not MessagePack. q-values are ignored."""
    accept = ",".join(request.headers.getlist("accept")).lower()
    return any(name in accept for name in MSGPACK_NAMES) or JSON not in accept


async def read_body(request: Request, limit: int, patience_s: float, hold: Callable[[int], None]) -> list[bytes]:
    """Read the whole body, in segments of about 1 MiB, at least one.

    patience_s: seconds that the body may lag behind a rate of 8 KiB per second. hold: called with the number of bytes
    of each chunk; may raise to refuse it.

    Raises:
        SIEError: BODY_ENCODED, BODY_TOO_LARGE or TOO_SLOW, as soon as it is known.
        starlette.requests.ClientDisconnect: the client disconnected before the body was complete.
    """
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding not in ("", "identity"):
        raise SIEError(Code.BODY_ENCODED, f"Content-Encoding '{encoding}' is not supported: send the body uncompressed")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    # Not a list of chunks: each has about fifty bytes of overhead, and a client can make them arbitrarily small. Nor
    # a single buffer: growing it may copy it, which would block the event loop.
    segments: list[bytes] = []
    segment, size = bytearray(), 0
    loop = asyncio.get_running_loop()
    due = loop.time() + patience_s
    try:
        async with asyncio.timeout(patience_s) as deadline:
            async for chunk in request.stream():
                hold(len(chunk))
                segment += chunk
                size += len(chunk)
                if len(segment) >= _SEGMENT_BYTES:
                    segments.append(bytes(segment))
                    segment = bytearray()
                if size > limit:
                    raise _too_large(limit)
                # Sending faster does not earn a longer pause.
                due = min(due + len(chunk) / SLOWEST_BYTES_PER_S, loop.time() + patience_s)
                deadline.reschedule(due)
    except TimeoutError:
        raise SIEError(Code.TOO_SLOW, f"only {size} bytes of the body arrived in time") from None
    return [*segments, bytes(segment)]


def respond(body: Any, headers: dict[str, str], *, msgpack: bool) -> Response:
    """A successful response."""
    with timed("encode"):
        encoded = codec.encode(body, msgpack=msgpack)
    return Response(encoded, media_type=MSGPACK if msgpack else JSON, headers=headers)


class PiecewiseResponse(Response):
    """A response of `size` bytes, written in pieces as fast as the client reads. `hold` counts it until it is sent."""

    hold: Hold | None = None

    def __init__(self, pieces: Iterable[bytes], headers: dict[str, str], media_type: str) -> None:
        super().__init__(None, 200, headers, media_type)
        self._pieces = deque(pieces)
        self.size = sum(map(len, self._pieces))
        self.headers["content-length"] = str(self.size)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        while self._pieces:
            # Written pieces are freed one by one; freeing all at once would block the event loop.
            await send({"type": "http.response.body", "body": self._pieces.popleft(), "more_body": True})
            # Writing to a client that reads as fast never waits by itself.
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b""})


def coalesced(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, split and joined into pieces of about 512 KiB."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        for start in range(0, len(piece), _PIECE_BYTES):
            waiting.append(piece[start : start + _PIECE_BYTES])
            size += len(waiting[-1])
            if size >= _PIECE_BYTES:
                yield b"".join(waiting)
                waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


def json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON response regardless of Accept: errors and model listings."""
    return Response(codec.encode(body, msgpack=False), status, headers, media_type=JSON)


def _too_large(limit: int) -> SIEError:
    return SIEError(Code.BODY_TOO_LARGE, f"request body exceeds the limit of {limit} bytes")
