"""What is known of a request while it is answered: for its log lines, the count of errors, and its trace."""

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple

from sie_server.metrics import UNKNOWN


class Stage(NamedTuple):
    """A part of a request's life. started, ended: `time.perf_counter()`. parts: what it was made of."""

    name: str
    started: float
    ended: float
    attributes: Mapping[str, int] = {}
    parts: tuple["Stage", ...] = ()


@dataclass(slots=True, eq=False)
class RequestContext:
    """One request over HTTP.

    model, endpoint: as metrics are labelled. code: of its error. tokens: as usage counts them. stages: None unless it
    is traced.
    """

    request_id: str
    model: str = UNKNOWN
    endpoint: str = UNKNOWN
    code: str | None = None
    tokens: int | None = None
    trace_id: str | None = None
    stages: list[Stage] | None = None


# Of the running task; None where nobody asked over HTTP.
CURRENT: ContextVar[RequestContext | None] = ContextVar("current_request", default=None)


def current_request() -> RequestContext:
    """The request that the running task answers; for what is only called to answer one."""
    found = CURRENT.get()
    assert found is not None
    return found


def record(*stages: Stage) -> None:
    """Add stages to the trace of the request that is answered, if it has one."""
    found = CURRENT.get()
    if found is not None and found.stages is not None:
        found.stages += stages


def timed(name: str) -> AbstractContextManager[None]:
    """What runs inside is a stage, however it ends."""
    found = CURRENT.get()
    return _UNTIMED if found is None or found.stages is None else _Timed(name, found.stages)


class _Timed:
    def __init__(self, name: str, stages: list[Stage]) -> None:
        self._name = name
        self._stages = stages

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._stages.append(Stage(self._name, self._started, time.perf_counter()))


_UNTIMED = nullcontext()
