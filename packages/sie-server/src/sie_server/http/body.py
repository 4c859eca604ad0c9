"""Reading requests: the headers that every route honours, the body, and the limits on it."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from starlette.requests import ClientDisconnect, Request

from sie_server import codec, wire
from sie_server.errors import Code, SIEError
from sie_server.http.body_memory import LARGE, BodyHold, BodyMemory
from sie_server.http.body_threads import BodyThreads
from sie_server.http.ignored_fields import Beside, ignored_options
from sie_server.http.negotiation import JSON, MSGPACK, MSGPACK_NAMES, negotiate
from sie_server.http.version_skew import VersionSkew
from sie_server.large_bodies.outline import Body, ListField
from sie_server.large_bodies.reader import Reader, memory
from sie_server.request_context import current_request, timed
from sie_server.settings import Settings

T = TypeVar("T")
# Key in a request's scope: whether its whole body has arrived, and is the next message.
ARRIVED = "sie.arrived"
# Elements of a list that take the event loop some milliseconds.
_MANY = 1000
# A body of which that many bytes, or values, can be decoded on the event loop without anybody noticing.
_AT_ONCE_MSGPACK = 32 * 2**10
_AT_ONCE_VALUES = 8_192
# A client that sends or reads more slowly counts as stalled.
SLOWEST_BYTES_PER_S = 8 * 2**10
# Bytes of a request body per segment.
_SEGMENT_BYTES = 2**20


class HasItems(Protocol):
    """A body with the list that most routes have."""

    items: list[wire.Item]


WithItems = TypeVar("WithItems", bound=HasItems)


class BodyReader:
    """Reads the request bodies of one server, large ones on `threads`. memory: of those that are still there."""

    def __init__(self, settings: Settings, body_memory: BodyMemory, threads: BodyThreads) -> None:
        self._settings = settings
        self._skew = VersionSkew()
        self._memory = body_memory
        self._threads = threads

    @property
    def max_items(self) -> int:
        """Largest number of items, documents or texts in a request."""
        return self._settings.max_items

    async def decoded(
        self,
        request: Request,
        hold: BodyHold,
        whole: Callable[[Body], T],
        pieces: Callable[[Reader], T],
        listed: ListField | Callable[[bytes], ListField],
        *,
        msgpack: bool = False,
        invalid: Code = Code.INVALID_INPUT,
    ) -> T:
        """The decoded body, checked: at once as a `whole`, or in `pieces` and on another thread where that takes long.

        hold: counts it. listed: the list that makes it large, or finds it in the body. invalid: the code of what can't
            be decoded.

        Raises:
            SIEError: `invalid`, with the path of the fault; INVALID_INPUT, there is too much of something; as `bytes`.
        """
        segments = await self.bytes(request, hold)
        with timed("decode"):
            if len(segments) == 1 and _at_once(segments[0], msgpack):
                return whole(segments[0])

            def read() -> T:
                settings = self._settings
                raw = b"".join(segments)
                segments.clear()
                reader = Reader(
                    raw,
                    listed if isinstance(listed, ListField) else listed(raw),
                    msgpack=msgpack,
                    most_values=settings.max_values,
                    most_text=settings.max_item_text_bytes,
                    invalid=invalid,
                )
                found = pieces(reader)
                self._memory.grown(hold, memory(found) - len(raw))
                return found

            return await self._threads.run(hold.client, read)

    async def items(self, request: Request, hold: BodyHold, kind: type[WithItems]) -> tuple[WithItems, bool]:
        """A body in either encoding, and whether to answer in MessagePack.

        It has `items`, of which there are some, none too many and none too large. Where they are many, the list is
        emptied when the request is answered.

        Raises:
            SIEError: as `decoded`.
        """
        msgpack, answer_msgpack = negotiate(request.headers)
        listed = ListField("items", "candidates", wire.Item, self._settings.max_items)
        context = current_request()

        def has_options(body: WithItems) -> bool:
            return getattr(body, "options", None) is not None or getattr(body, "params", None) is not None

        def beside(parts: Beside) -> None:
            context.ignored = ignored_options(parts, msgpack=msgpack)

        def whole(raw: Body) -> WithItems:
            body = codec.decode(raw, kind, msgpack=msgpack)
            if has_options(body):
                beside(codec.decode(raw, Beside, msgpack=msgpack))
            self.check_count(len(body.items), "items", "candidates")
            if len(raw) > self._settings.max_item_text_bytes:
                for index, item in enumerate(body.items):
                    self._check_item(item, f"items[{index}]")
                if isinstance(body, wire.ScoreRequest):
                    self._check_item(body.query, "query")
            return body

        def pieces(reader: Reader) -> WithItems:
            body = reader.beside(kind)
            if has_options(body):
                beside(reader.beside(Beside))
            for index, item in enumerate(reader.elements() if reader.has_list else ()):
                self._check_item(item, f"items[{index}]", reader)
                body.items.append(item)
            self.check_count(len(body.items), "items", "candidates")
            if isinstance(body, wire.ScoreRequest):
                self._check_item(body.query, "query", reader)
            return body

        body = await self.decoded(request, hold, whole, pieces, listed, msgpack=msgpack)
        self.leave(hold, body.items)
        return body, answer_msgpack

    async def bytes(self, request: Request, hold: BodyHold) -> list[bytes]:
        """The whole body unchanged, in segments of about 1 MiB, at least one.

        It may fall behind a rate of 8 KiB per second for `receive_timeout` seconds.

        Raises:
            SIEError: as soon as it is known: BODY_TOO_LARGE, BODY_ENCODED or TOO_SLOW; QUEUE_FULL, the bodies of all
                requests are too large; INVALID_INPUT if the client asks for another machine.
            starlette.requests.ClientDisconnect: the client disconnected before the body was complete.
        """
        # The first value of each name. Most requests have none of these headers but the length.
        sent = dict(reversed(request.scope["headers"]))
        if b"origin" in sent:
            self._check_page(request)
        if (version := sent.get(b"x-sie-sdk-version")) is not None:
            self._skew.check(version.decode("latin-1"))
        if b"x-sie-remote" in sent:
            _check_remote(request.headers)
        limit, patience_s = self._settings.max_request_body_bytes, self._settings.receive_timeout
        encoding = sent.get(b"content-encoding", b"identity").decode("latin-1").lower()
        if encoding not in ("", "identity"):
            raise SIEError(
                Code.BODY_ENCODED, f"Content-Encoding '{encoding}' is not supported: send the body uncompressed"
            )
        declared = sent.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > limit:
            raise _too_large(limit)
        if request.scope.get(ARRIVED):
            body = await _arrived(request)
            self._memory.take(hold, len(body))
            if len(body) > limit:
                raise _too_large(limit)
            return [body]
        # Not a list of chunks: each has about fifty bytes of overhead, and a client can make them arbitrarily small.
        # Nor a single buffer: growing it may copy it, which would block the event loop.
        segments: list[bytes] = []
        segment, size = bytearray(), 0
        loop = asyncio.get_running_loop()
        due = loop.time() + patience_s
        try:
            async with asyncio.timeout(patience_s) as deadline:
                more = True
                while more:
                    message = await request.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    chunk, more = message.get("body", b""), message.get("more_body", False)
                    self._memory.take(hold, len(chunk))
                    size += len(chunk)
                    if size > limit:
                        raise _too_large(limit)
                    segment += chunk
                    if len(segment) >= _SEGMENT_BYTES:
                        segments.append(bytes(segment))
                        segment = bytearray()
                    if more:
                        # Sending faster does not earn a longer pause.
                        due = min(due + len(chunk) / SLOWEST_BYTES_PER_S, loop.time() + patience_s)
                        deadline.reschedule(due)
        except TimeoutError:
            raise SIEError(Code.TOO_SLOW, f"timed out reading the request body after {size} bytes") from None
        return [*segments, bytes(segment)]

    def _check_page(self, request: Request) -> None:
        """Raises SIEError: CONTENT_TYPE, a page of another origin sends a request that browsers do not preflight."""
        origin, allowed = request.headers.get("origin"), self._settings.cors_origins
        if origin is None or origin in allowed or "*" in allowed:
            return
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media not in (JSON, *MSGPACK_NAMES):
            raise SIEError(
                Code.CONTENT_TYPE,
                f"cross-origin request from '{origin[:200]}': send the body as {JSON} or {MSGPACK}, and allow the "
                "origin with --cors-origins",
            )

    @staticmethod
    def leave(hold: BodyHold, elements: list[Any]) -> None:
        """Free the elements of this list once the request is answered.

        To free many takes long: that is not for the event loop.
        """
        if len(elements) > _MANY or hold.is_large:
            hold.leavings = elements

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


async def _arrived(request: Request) -> bytes:
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    body: bytes = message["body"]
    return body


def _check_remote(headers: Mapping[str, str]) -> None:
    """Raises SIEError: INVALID_INPUT, the client asks for a remote machine. This server computes everything itself."""
    if (remote := headers.get("X-SIE-Remote")) is not None and remote != "forbid":
        raise SIEError(Code.INVALID_INPUT, f"X-SIE-Remote must be 'forbid', got '{remote}'")


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _at_once(raw: Body, msgpack: bool) -> bool:
    if msgpack or len(raw) > LARGE:
        return len(raw) <= _AT_ONCE_MSGPACK
    # Commas in texts count too; there are hundreds in a long one, and not thousands.
    return len(raw) <= _AT_ONCE_MSGPACK or sum(map(raw.count, (b",", b"[", b"{"))) <= _AT_ONCE_VALUES


def _too_large(limit: int) -> SIEError:
    return SIEError(Code.BODY_TOO_LARGE, f"request body exceeds the limit of {limit} bytes")
