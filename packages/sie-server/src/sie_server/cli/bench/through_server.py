"""A server in its own process, and a client with minimal overhead."""

import http.client
import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

_START_S = 600.0
_STOP_S = 40.0
STAGES = ("total", "queue", "tokenization", "inference", "postprocessing")
MSGPACK, JSON = "application/msgpack", "application/json"


class Headers(Protocol):
    """Headers of a response; names in any case."""

    def get(self, name: str, /) -> str | None: ...


class Answer(NamedTuple):
    """seconds: on the client's clock, from the first byte sent to the last one read. stages: the server's seconds."""

    seconds: float
    stages: dict[str, float]
    body: bytes


class Client:
    """One kept connection. Not thread-safe."""

    def __init__(self, url: str, model: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=3600)
        self._path = f"/v1/score/{model}"

    def score(self, body: bytes, accept: str = JSON, content_type: str = JSON) -> Answer:
        """Send a request and read its answer.

        Raises:
            RuntimeError: the answer is an error.
        """
        started = time.perf_counter()
        self._connection.request("POST", self._path, body, {"Content-Type": content_type, "Accept": accept})
        answer = self._connection.getresponse()
        read = answer.read()
        seconds = time.perf_counter() - started
        if answer.status != 200:
            raise RuntimeError(f"the server answered {answer.status}: {read[:500].decode(errors='replace')}")
        return Answer(seconds, stages(answer.headers), read)

    def close(self) -> None:
        self._connection.close()


def stages(headers: Headers) -> dict[str, float]:
    """Seconds per stage on the server, from the headers of its response."""
    return {name: float(headers.get(f"X-{name.title()}-Time") or 0) / 1e3 for name in STAGES}


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99 in milliseconds: the smallest value that this share of all does not exceed."""
    ordered = sorted(seconds)
    return {f"p{share}": ordered[-(-len(ordered) * share // 100) - 1] * 1e3 for share in (50, 95, 99)}
