"""Content negotiation: the encodings of a request and of its answer; and JSON where there is none."""

from typing import Any, NamedTuple

from starlette.datastructures import Headers
from starlette.responses import Response

from sie_server import codec

JSON = "application/json"
MSGPACK = "application/msgpack"
MSGPACK_NAMES = (MSGPACK, "application/x-msgpack")


class Encodings(NamedTuple):
    """Whether the body of a request, and the answer to it, are MessagePack; otherwise they are JSON."""

    body_msgpack: bool
    answer_msgpack: bool


def negotiate(headers: Headers) -> Encodings:
    """The encodings that a request's headers name.

    A body is MessagePack if Content-Type names it; any other value, or none, means JSON. An answer is MessagePack
    unless Accept names JSON and not MessagePack; q-values are ignored.
    """
    content_type = headers.get("content-type", "").lower()
    accept = ",".join(headers.getlist("accept")).lower()
    return Encodings(_names_msgpack(content_type), _names_msgpack(accept) or JSON not in accept)


def json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON response regardless of Accept: errors and model listings."""
    return Response(codec.encode(body, msgpack=False), status, headers, media_type=JSON)


def _names_msgpack(value: str) -> bool:
    return any(name in value for name in MSGPACK_NAMES)
