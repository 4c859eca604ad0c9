"""Stalls of a server's event loop, and its peak memory, under the most expensive request bodies.

    python reliability/stalls.py                  # 34 MB each, and requests with large answers: some minutes
    python reliability/stalls.py --size 2000000 --no-computed

A stall is the time that the loop's own steps took between two ticks of 2 ms, plus the time that other threads held the
GIL (`watched.py`); other work on the machine does not count. The exit status is 1 if one was longer than --most.
"""

import argparse
import http.client
import mmap
import os
import struct
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bodies import Bomb, bombs, computed

from sie_testing.serving import EMBEDDED, Server

_PROGRAM = (sys.executable, str(Path(__file__).with_name("watched.py")))
# Slightly below the default limit on bodies.
_LARGEST = 34 * 2**20 - 200
_TIMEOUT_S = 120.0


class Stall(NamedTuple):
    """Result of one body. size, answer: bytes. status: 0: no answer. seconds: latency. peak: memory in MB."""

    bomb: Bomb
    size: int
    status: int
    answer: int
    seconds: float
    stall: float
    peak: float


@contextmanager
def watched(*flags: str, traces: Path | None = None) -> Iterator[tuple[Server, mmap.mmap]]:
    """A server, and the longest stall of its event loop, in seconds, since it was reset to zero.

    traces: file for tracebacks of all threads during long stalls.
    """
    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes(8))
        file.flush()
        environment = {"STALLS": file.name} | ({} if traces is None else {"TRACES": str(traces)})
        program = Server("--preload", EMBEDDED, *flags, command=_PROGRAM, environment=environment)
        with program as server, mmap.mmap(file.fileno(), 8) as shared:
            yield server, shared


def measured(server: Server, shared: mmap.mmap, requests: Iterable[Bomb]) -> Iterator[Stall]:
    """Send the requests one after the other."""
    for bomb in requests:
        body = bomb.body()
        Path(f"/proc/{server.pid}/clear_refs").write_text("5")
        struct.pack_into("d", shared, 0, 0.0)
        started = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=_TIMEOUT_S)
        status = answer = 0
        try:
            connection.request("POST", bomb.path, body, {"Content-Type": bomb.encoding, "Accept": bomb.accept})
            response = connection.getresponse()
            status, answer = response.status, len(response.read())
        except OSError:
            pass  # the table says so
        finally:
            connection.close()
        seconds = time.perf_counter() - started
        time.sleep(0.02)
        yield Stall(bomb, len(body), status, answer, seconds, struct.unpack_from("d", shared)[0], _peak_mb(server.pid))


def _peak_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=_LARGEST, help="bytes of a body")
    parser.add_argument("--most", type=float, default=0.02, help="limit on a stall, in seconds")
    parser.add_argument("--computed", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--only", default="", help="only bodies with this in their name")
    parser.add_argument(
        "--traces", type=Path, help="file for tracebacks of stalls of more than 20 ms; may crash the server"
    )
    chosen = parser.parse_args()
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    worst: list[Stall] = []
    with watched(traces=chosen.traces) as (server, shared):
        each = (bomb for bomb in bombs(chosen.size))
        for kind in (each, computed() if chosen.computed else ()):
            for stall in measured(server, shared, (bomb for bomb in kind if chosen.only in bomb.name)):
                print(
                    f"{stall.bomb.name[:60]:60} {stall.size / 1e6:6.1f} MB → {stall.status} "
                    f"{stall.answer / 1e6:7.2f} MB in {stall.seconds:6.2f} s   stall {stall.stall * 1e3:6.1f} ms   "
                    f"peak {stall.peak:6.0f} MB",
                    flush=True,
                )
                worst.append(stall)
    if not worst:
        parser.error(f"no body has {chosen.only!r} in its name")
    worst.sort(key=lambda stall: -stall.stall)
    over = [stall for stall in worst if stall.stall > chosen.most or not stall.status]
    print(f"\n{len(worst)} bodies, {len(over)} with a stall of more than {chosen.most * 1e3:g} ms or without an answer")
    print(f"longest stall {worst[0].stall * 1e3:.1f} ms: {worst[0].bomb.name}")
    print(f"most memory {max(stall.peak for stall in worst):.0f} MB")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
