"""Load from many connections: closed loops, which wait for an answer before they ask again, and open ones."""

import asyncio
import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import aiohttp
from mixture import Mixture, Request

# Beyond what any request may take under the heaviest load here: a request without an answer until then is lost.
_ANSWER_S = 120.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request and what became of it. Times are of one clock, in seconds.

    due: when it was to be sent. status: 0 where no answer came. code: the error's, or why there was no answer.
    retry_after: seconds. echoed: whether the answer names this very request. body: of a 200.
    """

    request: Request
    due: float
    ended: float
    status: int
    code: str
    retry_after: float | None
    echoed: bool
    body: bytes

    @property
    def seconds(self) -> float:
        return self.ended - self.due


def session() -> aiohttp.ClientSession:
    """As many connections as there are requests at once, which are kept."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=_ANSWER_S), trust_env=False
    )


async def send(client: aiohttp.ClientSession, url: str, request: Request, name: str, due: float) -> Outcome:
    """Send a request under this name and wait for what becomes of it; never raises for what a server does."""
    status, code, retry_after, echoed, body = 0, "", None, False, b""
    headers = {"Content-Type": "application/json", "Accept": "application/json", "X-Request-ID": name}
    try:
        async with client.post(url + request.path, data=request.body, headers=headers) as answer:
            body = await answer.read()
            status = answer.status
            echoed = answer.headers.get("X-SIE-Request-ID") == name
            if "Retry-After" in answer.headers:
                retry_after = float(answer.headers["Retry-After"])
            if status != 200:
                code, body = _code(body), b""
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        status, code, body = 0, type(error).__name__, b""
    return Outcome(request, due, time.monotonic(), status, code, retry_after, echoed, body)


async def closed(
    url: str, mixtures: Sequence[Mixture], connections: int, go_on: Callable[[], bool], seed: int = 0
) -> list[Outcome]:
    """Each connection has one request under way while `go_on` holds, and waits as long as a refusal says."""
    outcomes: list[Outcome] = []

    async def loop(client: aiohttp.ClientSession, number: int) -> None:
        rng = random.Random(seed * 1000 + number)
        count = 0
        while go_on():
            request = rng.choice(mixtures).draw(rng)
            count += 1
            outcome = await send(client, url, request, f"c{seed}-{number}-{count}", time.monotonic())
            outcomes.append(outcome)
            pause = 0.2 if outcome.status == 0 else (outcome.retry_after or 0.0)
            until = time.monotonic() + pause
            while go_on() and time.monotonic() < until:
                await asyncio.sleep(min(0.1, max(until - time.monotonic(), 0)))

    async with session() as client, asyncio.TaskGroup() as group:
        for number in range(connections):
            group.create_task(loop(client, number))
    return outcomes


async def opened(
    url: str, mixtures: Sequence[Mixture], rate: float, seconds: float, seed: int = 0
) -> tuple[list[Outcome], float]:
    """Poisson arrivals, `rate` requests per second whatever becomes of those before; none is sent again.

    Returns what became of them, and the latest that one was sent after it was due, in seconds: late arrivals are the
    generator's fault, and their latency counts from when they were due.
    """
    rng = random.Random(seed)
    async with session() as client:
        tasks: list[asyncio.Task[Outcome]] = []
        late = 0.0
        due = started = time.monotonic()
        while (due := due + rng.expovariate(rate)) < started + seconds:
            request = rng.choice(mixtures).draw(rng)
            await asyncio.sleep(max(due - time.monotonic(), 0))
            late = max(late, time.monotonic() - due)
            tasks.append(asyncio.create_task(send(client, url, request, f"o{seed}-{len(tasks)}", due)))
        return list(await asyncio.gather(*tasks)), late


class Flow:
    """A closed loop in a thread of its own, as a context: what becomes of requests while something happens.

    prepare: what the thread does first.
    """

    def __init__(
        self,
        url: str,
        mixtures: Sequence[Mixture],
        connections: int = 4,
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        self.outcomes: list[Outcome] = []
        self._prepare = prepare
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(url, mixtures, connections))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self, url: str, mixtures: Sequence[Mixture], connections: int) -> None:
        self._prepare()
        self.outcomes = asyncio.run(closed(url, mixtures, connections, lambda: not self._stop.is_set()))


def _code(body: bytes) -> str:
    try:
        detail = json.loads(body)["detail"]
        return str(detail["code"] if isinstance(detail, dict) else detail)
    except (ValueError, KeyError, TypeError):
        return "no code"
