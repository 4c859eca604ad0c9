"""Reading a request: the headers that every route honours, its body, and the limits on it."""

from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar, cast

import torch
from starlette.requests import Request

from sie_server import codec
from sie_server.answering import stage
from sie_server.errors import Code, SIEError
from sie_server.http.machine_profile import check_machine_profile
from sie_server.http.negotiation import read_body, sends_msgpack
from sie_server.http.version_skew import VersionSkew
from sie_server.settings import Settings

T = TypeVar("T")
_MAX_REPEATED_BYTES = 64 * 2**10


class Bodies:
    """The request bodies of one server.

    held: bytes in those of requests that are not answered yet
    """

    def __init__(self, settings: Settings, device: torch.device) -> None:
        self._settings = settings
        self._device = device
        self._skew = VersionSkew()
        self.held = 0

    async def read(self, request: Request, kind: type[T], *, msgpack: bool, invalid: Code = Code.INVALID_INPUT) -> T:
        """The decoded body.

        Raises:
            SIEError: `invalid`, with the path of the fault; as `bytes`.
        """
        with stage("decode"):
            raw = await self.bytes(request)
            return codec.decode(raw, kind, msgpack=msgpack, invalid=invalid)

    async def items(self, request: Request, kind: type[T]) -> T:
        """A body in either encoding, with `items`, of which there are some, none too many and none too large.

        Raises:
            SIEError: as `read`.
        """
        body: Any = await self.read(request, kind, msgpack=sends_msgpack(request))
        self.check_count(len(body.items), "items", "candidates")
        for index, item in enumerate(body.items):
            self.check_size(item.text or "", f"items[{index}]", item.metadata)
        return cast(T, body)

    async def bytes(self, request: Request) -> bytes:
        """The body as it came.

        Raises:
            SIEError: BODY_TOO_LARGE, BODY_ENCODED or TOO_SLOW; QUEUE_FULL, those of all requests are too large;
                INVALID_INPUT for another machine's.
        """
        self._skew.check(request.headers.get("X-SIE-SDK-Version"))
        check_machine_profile(request.headers, self._settings.machine_profile, self._device)
        settings = self._settings
        hold = partial(self._hold, request)
        return await read_body(request, settings.max_request_body_bytes, settings.receive_timeout, hold)

    def _hold(self, request: Request, count: int) -> None:
        own = getattr(request.state, "body_bytes", 0)
        others, most = self.held - own, self._settings.max_bodies_bytes
        if others and self.held + count > most:
            raise SIEError(
                Code.QUEUE_FULL, f"the bodies of other requests take {others} bytes; together at most {most} are held"
            )
        request.state.body_bytes = own + count
        self.held += count

    def release(self, request: Request) -> None:
        """The request is answered, and its body gone."""
        self.held -= getattr(request.state, "body_bytes", 0)
        request.state.body_bytes = 0

    def check_count(self, count: int, field: str, noun: str) -> None:
        """Raises SIEError: INVALID_INPUT, there are none or too many."""
        if not count:
            raise SIEError(Code.INVALID_INPUT, f"Field '{field}' must not be empty", param=field)
        if count > self._settings.max_items:
            limit = self._settings.max_items
            raise SIEError(Code.INVALID_INPUT, f"Field '{field}' must contain at most {limit} {noun}", param=field)

    def check_size(self, text: str, field: str, metadata: Mapping[str, Any] | None = None) -> None:
        """Raises SIEError: INVALID_INPUT, a text with its metadata, values as they came, is over the limit."""
        limit = self._settings.max_item_text_bytes
        # A character has at most four bytes, so that most texts need no counting.
        if metadata is None and len(text) * 4 <= limit:
            return
        size = _bytes(text) + sum(len(key.encode()) + len(raw) for key, raw in (metadata or {}).items())
        if size > limit:
            raise SIEError(
                Code.INVALID_INPUT, f"Field '{field}' must hold at most {limit} bytes of UTF-8 text", param=field
            )

    def check_repeated(self, fields: Mapping[str, str | None], items: int) -> None:
        """For templates and instructions, which every item gets: together they must not be more than a body may hold.

        Raises SIEError: INVALID_INPUT, one of the fields is over its share for so many items, or over 64 KiB.
        """
        limit = min(_MAX_REPEATED_BYTES, self._settings.max_request_body_bytes // items)
        for field, text in fields.items():
            if text is not None and _bytes(text) > limit:
                raise SIEError(
                    Code.INVALID_INPUT,
                    f"Field '{field}' must hold at most {limit} bytes of UTF-8 text in a request of {items} items",
                    param=field,
                )


def _bytes(text: str) -> int:
    return len(text.encode())
