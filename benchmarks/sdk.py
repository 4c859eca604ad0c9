"""Small requests per second through the asyncio client, compared with HTTP libraries alone.

    python benchmarks/sdk.py

The server is a stub in a process of its own that gives every request the same answer, a ranking of 10 documents, at
once: what is measured is the client's side. The peers send the same bytes and read the answer's; the SDK also makes
the request and reads the ranking. All take turns in this process, on one thread. Processor time is this process's.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
import msgspec
from rich.console import Console
from rich.progress import track
from rich.table import Table

from sie_sdk import SIEAsyncClient
from sie_sdk.types import Item
from sie_server.cli.bench.figures import Summary
from sie_server.machine.processor import processor_name
from sie_testing.rounds import interleave, ratios

MODEL, DOCUMENTS = "m", 10
QUERY = Item(text="what is python?")
ITEMS = [Item(text=f"document {i}, " + "of a few words " * 5) for i in range(DOCUMENTS)]
BODY = msgspec.msgpack.encode({"query": QUERY, "items": ITEMS})
HEADERS = {"content-type": "application/msgpack", "accept": "application/msgpack"}
Request = Callable[[], Awaitable[object]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--requests", type=int, default=3000, help="per round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()

    figures = {}
    with serving() as url, asyncio.Runner() as loop:
        for in_flight in arguments.in_flight:
            figures[in_flight] = measure(loop, url, in_flight, arguments.requests, arguments.rounds)
            report(figures[in_flight], in_flight, arguments.requests)
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"processor": processor_name(), "requests": arguments.requests, "in flight": figures}, indent=2)
        )


def measure(
    loop: asyncio.Runner, url: str, in_flight: int, requests: int, rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Wall and CPU seconds per candidate and round."""
    clients = loop.run(opened(url))
    cpu = defaultdict(list)

    def run(name: str, count: int = requests) -> None:
        started = time.process_time()
        loop.run(drive(clients[name][0], count, in_flight))
        cpu[name].append(time.process_time() - started)

    for name in clients:
        run(name, 4 * in_flight)
    cpu.clear()
    turns = track(range(rounds), description=f"{in_flight} in flight", console=Console(stderr=True))
    seconds = interleave({name: partial(run, name) for name in clients}, turns)
    for _, close in clients.values():
        loop.run(close())
    return {name: {"clock": seconds[name], "processor": cpu[name]} for name in clients}


async def opened(url: str) -> dict[str, tuple[Request, Callable[[], Coroutine[Any, Any, None]]]]:
    """For each candidate, a function that sends one request and one that closes it."""
    sdk, httpx, session = SIEAsyncClient(url), httpx2.AsyncClient(), aiohttp.ClientSession()
    address = f"{url}/v1/score/{MODEL}"

    async def through_httpx2() -> bytes:
        return (await httpx.post(address, content=BODY, headers=HEADERS)).content

    async def through_aiohttp() -> bytes:
        async with session.post(address, data=BODY, headers=HEADERS) as response:
            return await response.read()

    return {
        "SIEAsyncClient": (lambda: sdk.score(MODEL, QUERY, ITEMS), sdk.close),
        "httpx2": (through_httpx2, httpx.aclose),
        "aiohttp": (through_aiohttp, session.close),
    }


async def drive(request: Request, requests: int, in_flight: int) -> None:
    """Send a number of requests with a given concurrency."""
    left = iter(range(requests))

    async def one_after_the_other() -> None:
        for _ in left:
            await request()

    await asyncio.gather(*(one_after_the_other() for _ in range(in_flight)))


def report(figures: dict[str, dict[str, list[float]]], in_flight: int, requests: int) -> None:
    table = Table("", "requests/s", "processor µs/request", "SDK / this one", title=f"{in_flight} in flight")
    ours = figures["SIEAsyncClient"]["clock"]
    for name, seconds in figures.items():
        rate = Summary.of(requests / value for value in seconds["clock"])
        share = Summary.of(value / requests * 1e6 for value in seconds["processor"])
        ratio = ratios(seconds["clock"], ours)
        table.add_row(
            name,
            f"{rate.median:,.0f} ({rate.low:,.0f}–{rate.high:,.0f})",
            f"{share.median:.0f}",
            f"{ratio.median:.2f} × ({ratio.low:.2f}–{ratio.high:.2f})",
        )
    Console().print(table)


@contextmanager
def serving() -> Iterator[str]:
    """The stub's base URL."""
    stub = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("stub_server.py"), str(DOCUMENTS)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert stub.stdout is not None
        yield stub.stdout.readline().strip()
    finally:
        stub.kill()
        stub.wait()


if __name__ == "__main__":
    main()
