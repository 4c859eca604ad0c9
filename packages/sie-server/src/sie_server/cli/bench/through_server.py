"""A server in its own process, and a client with minimal overhead."""

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


class Serving(NamedTuple):
    """Base URL and process id of a running server."""

    url: str
    pid: int


@contextmanager
def serving(*flags: str) -> Iterator[Serving]:
    """Run `sie-server serve` with these flags on a free port of the loopback interface.

    Raises:
        RuntimeError: it did not start; the message has its last lines.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "sie_server", "serve", "--host", "127.0.0.1", "--port", "0", *flags],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "SIE_LOG_LEVEL": "warning"},
    )
    lines: list[str] = []
    url: list[str] = []
    known = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if match := re.search(r"SIE is ready at (\S+)", line):
                url.append(match[1])
                known.set()
        known.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        if not known.wait(_START_S) or not url:
            raise RuntimeError(f"the server did not start: {''.join(lines[-5:]).strip()}")
        yield Serving(url[0], process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join()
        if process.stderr is not None:
            process.stderr.close()


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99 in milliseconds: the smallest value that this share of all does not exceed."""
    ordered = sorted(seconds)
    return {f"p{share}": ordered[-(-len(ordered) * share // 100) - 1] * 1e3 for share in (50, 95, 99)}
