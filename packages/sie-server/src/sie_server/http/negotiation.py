"""Which encoding a request came in, and which one its answer goes out in."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from sie_server import wire
from sie_server.answering import stage
from sie_server.errors import Code, SIEError

JSON = "application/json"
MSGPACK = "application/msgpack"
_MSGPACK_NAMES = (MSGPACK, "application/x-msgpack")


def sends_msgpack(request: Request) -> bool:
    """MessagePack if Content-Type says so; everything else, nothing included, is JSON."""
    content_type = request.headers.get("content-type", "").lower()
    return any(name in content_type for name in _MSGPACK_NAMES)


def wants_msgpack(request: Request) -> bool:
    """MessagePack unless Accept names JSON and not MessagePack; q-values do not count."""
    accept = ",".join(request.headers.getlist("accept")).lower()
    return any(name in accept for name in _MSGPACK_NAMES) or JSON not in accept


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body.

    Raises:
        SIEError: BODY_TOO_LARGE, as soon as that is known.
        starlette.requests.ClientDisconnect: the client went away before it was complete.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
    return b"".join(chunks)


def respond(request: Request, body: Any, headers: dict[str, str]) -> Response:
    """Encode a successful answer as the client asked for."""
    msgpack = wants_msgpack(request)
    with stage("encode"):
        encoded = wire.encode(body, msgpack=msgpack)
    return Response(encoded, media_type=MSGPACK if msgpack else JSON, headers=headers)


def json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer that is JSON whatever Accept says: errors and model listings."""
    return Response(wire.encode(body, msgpack=False), status, headers, media_type=JSON)


def _too_large(limit: int) -> SIEError:
    return SIEError(Code.BODY_TOO_LARGE, f"request body exceeds the limit of {limit} bytes")
