"""Successful answers: encoded at once, or, where they are large, on another thread and written in pieces."""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sie_server import codec
from sie_server.http.body_memory import BodyHold, BodyMemory
from sie_server.http.body_threads import BodyThreads
from sie_server.http.negotiation import JSON, MSGPACK
from sie_server.large_bodies.writer import json_list, pieces
from sie_server.request_context import timed
from sie_server.stepwise import clear_one_by_one

# Bytes of a response per write.
_PIECE_BYTES = 512 * 2**10


class AnswerWriter:
    """Makes the responses of one server. memory: counts the bytes of large ones until they are sent."""

    def __init__(self, memory: BodyMemory, threads: BodyThreads) -> None:
        self._memory = memory
        self._threads = threads

    async def write(
        self,
        body: msgspec.Struct,
        field: str,
        headers: dict[str, str],
        hold: BodyHold,
        elements: Iterable[Any] | None = None,
        *,
        large: bool,
        msgpack: bool,
        bare: bool = False,
    ) -> Response:
        """A successful response, encoded on another thread if it is `large`; `field` has the list that makes it so.

        hold: of the request; from now on it is on the answer, where that is large, and lasts as long as it is sent.
        elements: those of the list where it is still empty, as they are made. bare: the response is the list alone.
        """
        media_type = MSGPACK if msgpack else JSON
        with timed("encode"):
            if not large:
                content = getattr(body, field) if bare else body
                return Response(codec.encode(content, msgpack=msgpack), media_type=media_type, headers=headers)

            def encode() -> list[bytes]:
                own: list[Any] = getattr(body, field)
                made = own if elements is None else elements
                parts = json_list(made) if bare else pieces(body, field, made, msgpack=msgpack)
                encoded = list(coalesced(parts))
                clear_one_by_one(own)
                return encoded

            response = PiecewiseResponse(await self._threads.run(hold.client, encode), headers, media_type)
        response.hold = hold
        self._memory.grown(hold, response.size - hold.bytes)
        return response


class PiecewiseResponse(Response):
    """A response of `size` bytes, written in pieces as fast as the client reads. `hold` counts it until it is sent."""

    hold: BodyHold | None = None

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
