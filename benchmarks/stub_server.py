"""Stub server for `sdk.py`: answers every request with the same ranking at once. Prints its base URL.

python benchmarks/stub_server.py 10
"""

import asyncio
import sys

import httptools
import msgspec
import uvloop


class Connection(asyncio.Protocol):
    """Answers every complete request without reading it."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._transport.write(self._answer)  # type: ignore[attr-defined]


async def serve(documents: int) -> None:
    answer = ranking(documents)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(answer), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def ranking(documents: int) -> bytes:
    """A 200 with the headers that the real server sends."""
    scores = [{"item_id": f"item-{i}", "score": 0.9 - i / 100, "rank": i} for i in range(documents)]
    body = msgspec.msgpack.encode({"model": "m", "query_id": None, "scores": scores, "usage": {"input_tokens": 200}})
    times = [f"x-{stage}-time: 1.23" for stage in ("total", "queue", "tokenization", "inference", "postprocessing")]
    about = ["content-type: application/msgpack", "x-sie-server-version: 0.10.1", f"content-length: {len(body)}"]
    return "\r\n".join(["HTTP/1.1 200 OK", *about, *times, "\r\n"]).encode() + body


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
