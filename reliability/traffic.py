"""Load generators: closed loops, which wait for an answer before the next request, and open loops, which do not."""

import asyncio
import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import aiohttp
from workload import Request, Workload

# A request without an answer after this time is lost; longer than any takes under the heaviest load here.
_ANSWER_S = 120.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of one request. Times are monotonic seconds.

    due: when it should have been sent.
    status: HTTP status; 0: no answer.
    code: error code, or the reason for no answer.
    retry_after: seconds.
    echoed: whether the answer has the request's id.
    body: of an answer with status 200.
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
    """A session with an unlimited number of kept-alive connections."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=_ANSWER_S), trust_env=False
    )


async def send(client: aiohttp.ClientSession, url: str, request: Request, name: str, due: float) -> Outcome:
    """Send a request with the id `name` and wait for its outcome. Never raises for a fault of the server."""
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


async def closed_loop(
    url: str, workloads: Sequence[Workload], connections: int, go_on: Callable[[], bool], seed: int = 0
) -> list[Outcome]:
    """Send requests one after the other on each connection while `go_on()`, waiting for Retry-After when refused."""
    outcomes: list[Outcome] = []

    async def loop(client: aiohttp.ClientSession, number: int) -> None:
        rng = random.Random(seed * 1000 + number)
        count = 0
        while go_on():
            request = rng.choice(workloads).draw(rng)
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


async def open_loop(
    url: str, workloads: Sequence[Workload], rate: float, seconds: float, seed: int = 0
) -> tuple[list[Outcome], float]:
    """Send `rate` requests per second as Poisson arrivals, without waiting for answers or retrying.

    Returns the outcomes, and the longest delay between when a request was due and when it was sent, in seconds. Latency
    counts from when a request was due, so that delays of the generator are included.
    """
    rng = random.Random(seed)
    async with session() as client:
        tasks: list[asyncio.Task[Outcome]] = []
        late = 0.0
        due = started = time.monotonic()
        while (due := due + rng.expovariate(rate)) < started + seconds:
            request = rng.choice(workloads).draw(rng)
            await asyncio.sleep(max(due - time.monotonic(), 0))
            late = max(late, time.monotonic() - due)
            tasks.append(asyncio.create_task(send(client, url, request, f"o{seed}-{len(tasks)}", due)))
        return list(await asyncio.gather(*tasks)), late


class BackgroundLoad:
    """A closed loop in a thread of its own, as a context manager, with its outcomes afterwards.

    prepare: called in the thread first.
    """

    def __init__(
        self,
        url: str,
        workloads: Sequence[Workload],
        connections: int = 4,
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        self.outcomes: list[Outcome] = []
        self._prepare = prepare
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(url, workloads, connections))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self, url: str, workloads: Sequence[Workload], connections: int) -> None:
        self._prepare()
        self.outcomes = asyncio.run(closed_loop(url, workloads, connections, lambda: not self._stop.is_set()))


def _code(body: bytes) -> str:
    try:
        detail = json.loads(body)["detail"]
        return str(detail["code"] if isinstance(detail, dict) else detail)
    except (ValueError, KeyError, TypeError):
        return "no code"
