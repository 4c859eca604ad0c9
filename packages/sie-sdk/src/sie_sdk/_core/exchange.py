"""One call's life, without I/O.

`exchange` is a generator. It yields an `Attempt` (send it, answer with the `Reply` or the `Failure`) or a `Pause`
(sleep), and returns the result or raises. `BlockingSession` and `AwaitedSession` are two loops around it.
"""

import logging
import math
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sie_sdk import retry
from sie_sdk._core.reply import Reply, Subject
from sie_sdk._version import CONTRACT_VERSION
from sie_sdk.errors import SIEConnectionError, SIEError

T = TypeVar("T")
log = logging.getLogger("sie_sdk")

# Longer than a pause between two requests of a search application, shorter than the server's 120 s.
KEEPALIVE_S = 60.0


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request, and how long, how often and in what sense it may be repeated.

    `budget_s` bounds the whole call, pauses included; 0 means a single attempt.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    parse: Callable[[Reply], T]
    subject: Subject
    retrying: retry.RetryOptions
    budget_s: float
    connect_timeout_s: float
    read_timeout_s: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """Send this once.

    `pool_timeout_s` is how long to wait for a free connection, `connect_timeout_s` for a new one to open,
    `read_timeout_s` for the server's next bytes, and `total_s`, which may be infinite, for all of it.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    pool_timeout_s: float
    connect_timeout_s: float
    read_timeout_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class Failure:
    """No complete answer arrived, because of `cause`."""

    kind: retry.FailureKind
    cause: Exception


@dataclass(frozen=True, slots=True)
class Pause:
    """Sleep before the next attempt."""

    seconds: float


@dataclass(slots=True)
class Trace:
    """What a call can tell besides its result."""

    retries: Counter[retry.Reason] = field(default_factory=Counter)
    model_revision: str | None = None

    def add(self, other: "Trace") -> None:
        """Counts another call in, one that was a part of this one."""
        self.retries.update(other.retries)
        self.model_revision = other.model_revision or self.model_revision


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and chance; tests bring their own."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    draw: Callable[[], float] = random.random


class VersionSkew:
    """Warns once if the server's major version differs or its minor version is more than one away.

    Both numbers are versions of the HTTP interface, not of a package.
    """

    def __init__(self) -> None:
        self._warned = False

    def check(self, server_version: str | None) -> None:
        if self._warned or server_version is None or not _skewed(server_version, CONTRACT_VERSION):
            return
        self._warned = True
        log.warning("the server implements version %s; this SDK is for %s", server_version, CONTRACT_VERSION)


Steps = Generator[Attempt | Pause, Reply | Failure | None, T]


def exchange(call: Call[T], trace: Trace, skew: VersionSkew, clock: Clock) -> Steps[T]:
    """Sends `call` until it has an answer, its error is final, or its budget is spent."""
    deadline = clock.monotonic() + call.budget_s
    while True:
        attempt = attempt_of(call, deadline - clock.monotonic())
        answer = yield attempt
        if isinstance(answer, Reply):
            skew.check(answer.headers.get("x-sie-server-version"))
            trace.model_revision = answer.headers.get("x-sie-model-revision", trace.model_revision)
            if answer.succeeded:
                return call.parse(answer)
        assert answer is not None, "an attempt is answered with a Reply or a Failure"
        yield from before_another(call, attempt, answer, deadline, trace, clock)


def before_another(
    call: Call[T], attempt: Attempt, answer: Reply | Failure, deadline: float, trace: Trace, clock: Clock
) -> Generator[Pause, Any, None]:
    """Waits until `attempt`, which got no better than `answer`, may be repeated; raises its error if it may not."""
    if isinstance(answer, Reply):
        error, again = _refused(answer, call, trace, clock)
    else:
        error, again = _failed(answer, attempt, call, trace, clock)
    if again is None or again.delay_s >= deadline - clock.monotonic():
        raise error
    _announce(call, error, again, trace)
    trace.retries[again.reason] += 1
    yield Pause(again.delay_s)
    if clock.monotonic() >= deadline:
        raise error


def attempt_of(call: Call[T], left_s: float) -> Attempt:
    """The next attempt of a call that has `left_s` of its budget."""
    pool_s, connect_s, read_s = left_s, min(call.connect_timeout_s, left_s), min(call.read_timeout_s, left_s)
    if call.budget_s == 0:
        pool_s, connect_s, read_s, left_s = call.read_timeout_s, call.connect_timeout_s, call.read_timeout_s, math.inf
    return Attempt(call.method, call.url, call.headers, call.body, pool_s, connect_s, read_s, left_s)


def _refused(reply: Reply, call: Call[T], trace: Trace, clock: Clock) -> tuple[SIEError, retry.Retry | None]:
    now_s = clock.wall()
    retry_after_s = retry.parse_retry_after(reply.headers.get("retry-after"), now_s)
    error = reply.error(call.subject, retries=trace.retries["memory"], retry_after_s=retry_after_s)
    again = retry.after_response(
        reply.status, error.code, reply.headers, trace.retries, call.retrying, draw=clock.draw(), now_s=now_s
    )
    return error, again


def _failed(
    failure: Failure, attempt: Attempt, call: Call[T], trace: Trace, clock: Clock
) -> tuple[SIEConnectionError, retry.Retry | None]:
    reason = str(failure.cause) or type(failure.cause).__name__
    if failure.kind == "timeout":
        reason = f"{type(failure.cause).__name__}: no answer within {attempt.read_timeout_s:.3g} s"
    # A base URL may hold a password, and this message ends up in logs.
    url = re.sub(r"//[^/]*@", "//", call.url)
    error = SIEConnectionError(f"{call.method} {url}: {reason}", kind=failure.kind)
    error.__cause__ = failure.cause
    return error, retry.after_failure(failure.kind, trace.retries, call.retrying, draw=clock.draw())


def _announce(call: Call[T], error: SIEError, again: retry.Retry, trace: Trace) -> None:
    # Someone at a terminal should learn at once why nothing happens; whoever reads a log, only once per call.
    first_failure = again.reason == "connection" and trace.retries["connection"] == 0
    level = logging.WARNING if first_failure else logging.INFO
    log.log(level, "%s; asking again in %.1f s, for up to %g s in all", error, again.delay_s, call.budget_s)


def _skewed(one: str, other: str) -> bool:
    try:
        (major, minor), (other_major, other_minor) = (map(int, version.split(".")[:2]) for version in (one, other))
    except ValueError:
        return False
    return major != other_major or abs(minor - other_minor) > 1
