"""The life of one call, without I/O.

`exchange` is a generator. It yields an `Attempt`, to be sent and answered with a `Reply` or a `Failure`, or a `Pause`
to sleep for. It returns the result or raises the error. `SyncSession` and `AsyncSession` drive it.
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
from sie_sdk._core.reply import ErrorContext, Reply
from sie_sdk._version import CONTRACT_VERSION
from sie_sdk.errors import SIEConnectionError, SIEError

T = TypeVar("T")
log = logging.getLogger("sie_sdk")

# Longer than a pause between two requests of a search application, shorter than the server's 120 s.
KEEPALIVE_S = 60.0


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request with its retry policy.

    `budget_s` limits the whole call, pauses included; 0 allows a single attempt. `unreached_s` limits the waits for a
    server that the client has never had a response from.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    parse: Callable[[Reply], T]
    context: ErrorContext
    retrying: retry.RetryOptions
    budget_s: float
    unreached_s: float
    connect_timeout_s: float
    read_timeout_s: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """One HTTP request to send.

    `pool_timeout_s` limits the wait for a free connection, `connect_timeout_s` the opening of a new one,
    `read_timeout_s` the wait for the next bytes, and `total_s`, which may be infinite, the whole attempt.
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
    """A missing or incomplete response, and the exception that caused it."""

    kind: retry.FailureKind
    cause: Exception


@dataclass(frozen=True, slots=True)
class Pause:
    """A sleep before the next attempt."""

    seconds: float


@dataclass(slots=True)
class Trace:
    """The retries of a call, and what the server reported: the model revision, and options that it ignored."""

    retries: Counter[retry.Reason] = field(default_factory=Counter)
    model_revision: str | None = None
    ignored: list[str] = field(default_factory=list)

    def add(self, other: "Trace") -> None:
        """Adds the counts of a call that was part of this one."""
        self.retries.update(other.retries)
        self.model_revision = other.model_revision or self.model_revision
        self.ignored += other.ignored

    def heard(self, headers: Mapping[str, str]) -> None:
        """Notes what the headers of a response report."""
        self.model_revision = headers.get("x-sie-model-revision", self.model_revision)
        names = headers.get("x-sie-ignored", "").split(",")
        self.ignored += [name.strip() for name in names if name.strip()]


@dataclass(frozen=True, slots=True)
class Clock:
    """Sources of time and randomness; tests replace them."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    draw: Callable[[], float] = random.random


class ServerHistory:
    """Observations of one client about its server. `reached`: the server has responded, in whatever way.

    Warns once if the server's major version differs or its minor version is more than one away. Both numbers are
    versions of the HTTP interface, not of a package.
    """

    def __init__(self) -> None:
        self.reached = False
        self._warned = False

    def heard(self, reply: Reply) -> None:
        """Notes a response."""
        self.reached = True
        server_version = reply.headers.get("x-sie-server-version")
        if self._warned or server_version is None or not _skewed(server_version, CONTRACT_VERSION):
            return
        self._warned = True
        log.warning("the server implements version %s; this SDK is for %s", server_version, CONTRACT_VERSION)


Steps = Generator[Attempt | Pause, Reply | Failure | None, T]


def exchange(call: Call[T], trace: Trace, history: ServerHistory, clock: Clock) -> Steps[T]:
    """Sends `call` until it succeeds, fails with a final error, or exceeds its time budget."""
    since_s = clock.monotonic()
    while True:
        attempt = next_attempt(call, since_s + call.budget_s - clock.monotonic())
        outcome = yield attempt
        if isinstance(outcome, Reply):
            history.heard(outcome)
            trace.heard(outcome.headers)
            if outcome.succeeded:
                return call.parse(outcome)
        assert outcome is not None, "an attempt is answered with a Reply or a Failure"
        yield from wait_to_retry(call, attempt, outcome, since_s, trace, history, clock)


def wait_to_retry(
    call: Call[T],
    attempt: Attempt,
    outcome: Reply | Failure,
    since_s: float,
    trace: Trace,
    history: ServerHistory,
    clock: Clock,
) -> Generator[Pause, Any, None]:
    """Pauses before the next attempt, or raises the error in `outcome` if the call must not be retried.

    `since_s` is when the call began.
    """
    budget_s = call.budget_s if history.reached else min(call.budget_s, call.unreached_s)
    deadline = since_s + budget_s
    if isinstance(outcome, Reply):
        error, next_retry = _from_reply(outcome, call, trace, clock)
    else:
        error, next_retry = _from_failure(outcome, attempt, call, trace, clock)
    if next_retry is None or next_retry.delay_s >= deadline - clock.monotonic():
        raise error
    _log_retry(budget_s, error, next_retry, trace)
    trace.retries[next_retry.reason] += 1
    yield Pause(next_retry.delay_s)
    if clock.monotonic() >= deadline:
        raise error


def next_attempt(call: Call[T], left_s: float) -> Attempt:
    """Returns the next attempt of a call with `left_s` seconds left."""
    pool_s, connect_s, read_s = left_s, min(call.connect_timeout_s, left_s), min(call.read_timeout_s, left_s)
    if call.budget_s == 0:
        pool_s, connect_s, read_s, left_s = call.read_timeout_s, call.connect_timeout_s, call.read_timeout_s, math.inf
    return Attempt(call.method, call.url, call.headers, call.body, pool_s, connect_s, read_s, left_s)


def _from_reply(reply: Reply, call: Call[T], trace: Trace, clock: Clock) -> tuple[SIEError, retry.Retry | None]:
    now_s = clock.wall()
    retry_after_s = retry.parse_retry_after(reply.headers.get("retry-after"), now_s)
    error = reply.error(call.context, retries=trace.retries["memory"], retry_after_s=retry_after_s)
    next_retry = retry.after_response(
        reply.status, error.code, reply.headers, trace.retries, call.retrying, draw=clock.draw(), now_s=now_s
    )
    return error, next_retry


def _from_failure(
    failure: Failure, attempt: Attempt, call: Call[T], trace: Trace, clock: Clock
) -> tuple[SIEConnectionError, retry.Retry | None]:
    reason = str(failure.cause) or type(failure.cause).__name__
    if failure.kind == "timeout":
        reason = f"{type(failure.cause).__name__}: no response within {attempt.read_timeout_s:.3g} s"
    # A base URL may hold a password, and this message ends up in logs.
    url = re.sub(r"//[^/]*@", "//", call.url)
    error = SIEConnectionError(f"{call.method} {url}: {reason}", kind=failure.kind)
    error.__cause__ = failure.cause
    return error, retry.after_failure(failure.kind, trace.retries, call.retrying, draw=clock.draw())


def _log_retry(budget_s: float, error: SIEError, next_retry: retry.Retry, trace: Trace) -> None:
    # The first failure is a warning, so that a user at a terminal sees why nothing happens; more would flood a log.
    first_failure = next_retry.reason == "connection" and trace.retries["connection"] == 0
    level = logging.WARNING if first_failure else logging.INFO
    log.log(level, "%s; retrying in %.1f s, for up to %g s in total", error, next_retry.delay_s, budget_s)


def _skewed(one: str, other: str) -> bool:
    try:
        (major, minor), (other_major, other_minor) = (map(int, version.split(".")[:2]) for version in (one, other))
    except ValueError:
        return False
    return major != other_major or abs(minor - other_minor) > 1
