"""Reading requests: the headers that every route honours, the body, and the limits on it."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from sie_server import codec, wire
from sie_server.errors import Code, SIEError
from sie_server.http.body_memory import Account, Hold, Texts
from sie_server.http.negotiation import (
    JSON,
    MSGPACK,
    MSGPACK_NAMES,
    PiecewiseResponse,
    coalesced,
    read_body,
    respond,
    sends_msgpack,
)
from sie_server.http.version_skew import VersionSkew
from sie_server.large_bodies.outline import Body, ListField
from sie_server.large_bodies.reader import Reader, memory
from sie_server.large_bodies.writer import pieces
from sie_server.request_context import current_request, timed
from sie_server.settings import Settings
from sie_server.stepwise import emptied

T = TypeVar("T")
_MAX_REPEATED_BYTES = 64 * 2**10
# Elements of a list that take the event loop some milliseconds.
_MANY = 1000
# A body of which that many bytes, or values, can be decoded on the event loop without anybody noticing.
_AT_ONCE_MSGPACK = 32 * 2**10
_AT_ONCE_JSON = 256 * 2**10
_AT_ONCE_VALUES = 8_192
# Large bodies and answers that are in the making at once: more would only take memory.
_THREADS = 2


class HasItems(Protocol):
    """A body with the list that most routes have."""

    items: list[wire.Item]


WithItems = TypeVar("WithItems", bound=HasItems)


class BodyReader:
    """Reads the request bodies of one server. `account` counts the bytes of those still in memory."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._skew = VersionSkew()
        self.account = Account(settings.max_bodies_bytes)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="body")

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def max_items(self) -> int:
        """Largest number of items, documents or texts in a request."""
        return self._settings.max_items

    async def answer(
        self,
        body: msgspec.Struct,
        field: str,
        headers: dict[str, str],
        elements: Iterable[msgspec.Struct] | None = None,
        *,
        large: bool,
        msgpack: bool,
    ) -> Response:
        """A successful answer, encoded on another thread if it is `large`; `field` has the list that makes it so.

        elements: those of the list where it is still empty, as they are made.
        """
        if not large:
            return respond(body, headers, msgpack=msgpack)

        def encode() -> list[bytes]:
            own: list[Any] = getattr(body, field)
            made = own if elements is None else elements
            encoded = list(coalesced(pieces(body, field, made, msgpack=msgpack)))
            emptied(own)
            return encoded

        with timed("encode"):
            return PiecewiseResponse(await self.aside(encode), headers, MSGPACK if msgpack else JSON)

    async def perhaps_aside(self, work: Callable[[], T], *, large: bool) -> T:
        """The result, computed on another thread if that takes long."""
        return await self.aside(work) if large else work()

    async def aside(self, work: Callable[[], T]) -> T:
        """The result of what takes long, off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def decoded(
        self,
        request: Request,
        whole: Callable[[Body], T],
        pieces: Callable[[Reader], T],
        listed: ListField,
        *,
        msgpack: bool = False,
        invalid: Code = Code.INVALID_INPUT,
    ) -> T:
        """The decoded body, checked: at once as a `whole`, or in `pieces` and on another thread where that takes long.

        listed: the list that makes it large. invalid: the code of what can't be decoded.

        Raises:
            SIEError: `invalid`, with the path of the fault; INVALID_INPUT, there is too much of something; as `bytes`.
        """
        segments = await self.bytes(request)
        with timed("decode"):
            if len(segments) == 1 and _at_once(segments[0], msgpack):
                return whole(segments[0])
            hold: Hold = request.state.hold

            def read() -> T:
                settings = self._settings
                raw = b"".join(segments)
                segments.clear()
                reader = Reader(
                    raw,
                    listed,
                    msgpack=msgpack,
                    most_values=settings.max_values,
                    most_text=settings.max_item_text_bytes,
                    invalid=invalid,
                )
                found = pieces(reader)
                self.account.grown(hold, memory(found) - len(raw))
                return found

            return await self.aside(read)

    async def items(self, request: Request, kind: type[WithItems]) -> WithItems:
        """A body in either encoding, with `items`, of which there are some, none too many and none too large.

        Where that are many it is emptied when the request is answered.

        Raises:
            SIEError: as `decoded`.
        """
        msgpack = sends_msgpack(request)
        listed = ListField("items", "candidates", wire.Item, self._settings.max_items)

        def whole(raw: Body) -> WithItems:
            body = codec.decode(raw, kind, msgpack=msgpack)
            self.check_count(len(body.items), "items", "candidates")
            if len(raw) > self._settings.max_item_text_bytes:
                for index, item in enumerate(body.items):
                    self._check_item(item, f"items[{index}]")
                if isinstance(body, wire.ScoreRequest):
                    self._check_item(body.query, "query")
            return body

        def pieces(reader: Reader) -> WithItems:
            body = reader.beside(kind)
            for index, item in enumerate(reader.elements() if reader.has_list else ()):
                self._check_item(item, f"items[{index}]", reader)
                body.items.append(item)
            self.check_count(len(body.items), "items", "candidates")
            if isinstance(body, wire.ScoreRequest):
                self._check_item(body.query, "query", reader)
            return body

        body = await self.decoded(request, whole, pieces, listed, msgpack=msgpack)
        self.leave(request, body.items)
        return body

    async def bytes(self, request: Request) -> list[bytes]:
        """The body unchanged, in segments. `request.state.hold` counts it.

        Raises:
            SIEError: BODY_TOO_LARGE, BODY_ENCODED or TOO_SLOW; QUEUE_FULL, the bodies of all requests are too large;
                INVALID_INPUT if the client asks for another machine.
        """
        self._check_page(request)
        self._skew.check(request.headers.get("X-SIE-SDK-Version"))
        _check_remote(request.headers)
        settings = self._settings
        hold = request.state.hold = Hold(self.account, current_request().client)
        return await read_body(
            request,
            settings.max_request_body_bytes,
            settings.receive_timeout,
            lambda more: self.account.take(hold, more),
        )

    def _check_page(self, request: Request) -> None:
        """Raises SIEError: CONTENT_TYPE, a page of another origin sends what browsers let it send unasked."""
        origin, allowed = request.headers.get("origin"), self._settings.cors_origins
        if origin is None or origin in allowed or "*" in allowed:
            return
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media not in (JSON, *MSGPACK_NAMES):
            raise SIEError(
                Code.CONTENT_TYPE,
                f"a page of another origin ('{origin[:200]}') must send its body as {JSON} or {MSGPACK}, and needs "
                "--cors-origins to be let in",
            )

    @staticmethod
    def is_large(request: Request) -> bool:
        """Whether its answer may be large for what it repeats of the body, such as ids."""
        hold: Hold = request.state.hold
        return hold.bytes > _AT_ONCE_JSON

    def sends(self, request: Request, response: Response) -> None:
        """From now on the request's hold is on its answer, where that is large, and lasts as long as it is sent."""
        if isinstance(response, PiecewiseResponse):
            response.hold = hold = request.state.hold
            self.account.grown(hold, response.size - hold.bytes)

    def release(self, request: Request) -> None:
        """End the hold of an answered request. Its body counts until all work on its `kept` texts has ended."""
        request.state.hold = None
        if (leavings := getattr(request.state, "leavings", None)) is not None:
            with suppress(RuntimeError):  # it shuts down
                self._threads.submit(emptied, leavings)

    @staticmethod
    def kept(request: Request, texts: Iterable[T]) -> list[T]:
        """The texts in a list that keeps its body's bytes counted."""
        held = Texts(texts)
        held.hold = request.state.hold
        return held

    @staticmethod
    def leave(request: Request, elements: list[Any]) -> None:
        """Free the elements of this list once the request is answered.

        To free many takes long: that is not for the event loop.
        """
        if len(elements) > _MANY or BodyReader.is_large(request):
            request.state.leavings = elements

    def check_count(self, count: int, field: str, noun: str) -> None:
        """Raises SIEError: INVALID_INPUT, there are none or too many."""
        if not count:
            raise SIEError(Code.INVALID_INPUT, f"Field '{field}' must not be empty", param=field)
        if count > self._settings.max_items:
            limit = self._settings.max_items
            raise SIEError(Code.INVALID_INPUT, f"Field '{field}' must contain at most {limit} {noun}", param=field)

    def _check_item(self, item: wire.Item, field: str, reader: Reader | None = None) -> None:
        metadata = 0 if item.id is None else _bytes(item.id)
        if item.metadata is not None:
            metadata += sum(len(key.encode()) + len(raw) for key, raw in item.metadata.items())
            if reader is not None:
                metadata += reader.hidden(item.metadata)
                # Nobody reads it, and each value takes more than its bytes.
                item.metadata = None
        self.check_size(item.text or "", field, metadata)

    def check_size(self, text: str, field: str, metadata: int = 0) -> None:
        """Raises SIEError: INVALID_INPUT, the text with `metadata` bytes of id and metadata is over the limit."""
        limit = self._settings.max_item_text_bytes
        # A character has at least one byte and at most four, so that most texts need no counting.
        if len(text) * 4 + metadata <= limit:
            return
        if len(text) > limit or _bytes(text) + metadata > limit:
            raise SIEError(
                Code.INVALID_INPUT, f"Field '{field}' must hold at most {limit} bytes of UTF-8 text", param=field
            )

    def check_repeated(self, fields: Mapping[str, str | None], items: int) -> None:
        """For templates and instructions, which every item gets: together they must not be more than a body may hold.

        Raises SIEError: INVALID_INPUT, a field is over its share of the limit for `items` items, or over 64 KiB.
        """
        limit = min(_MAX_REPEATED_BYTES, self._settings.max_request_body_bytes // items)
        for field, text in fields.items():
            if text is not None and _bytes(text) > limit:
                raise SIEError(
                    Code.INVALID_INPUT,
                    f"Field '{field}' must hold at most {limit} bytes of UTF-8 text in a request of {items} items",
                    param=field,
                )


def _check_remote(headers: Mapping[str, str]) -> None:
    """Raises SIEError: INVALID_INPUT, the client asks for a remote machine. This server computes everything itself."""
    if (remote := headers.get("X-SIE-Remote")) is not None and remote != "forbid":
        raise SIEError(Code.INVALID_INPUT, f"X-SIE-Remote must be 'forbid', got '{remote}'")


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _at_once(raw: Body, msgpack: bool) -> bool:
    if msgpack or len(raw) > _AT_ONCE_JSON:
        return len(raw) <= _AT_ONCE_MSGPACK
    # Commas in texts count too; there are hundreds in a long one, and not thousands.
    return len(raw) <= _AT_ONCE_MSGPACK or sum(map(raw.count, (b",", b"[", b"{"))) <= _AT_ONCE_VALUES
