"""Context of the HTTP request that is being answered: for its log lines, metrics and trace."""

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple

from sie_server.metrics import UNKNOWN


class Stage(NamedTuple):
    """A stage of a request. started, ended: `time.perf_counter()`. parts: stages inside it."""

    name: str
    started: float
    ended: float
    attributes: Mapping[str, int] = {}
    parts: tuple["Stage", ...] = ()


@dataclass(slots=True, eq=False)
class RequestContext:
    """One HTTP request.

    started: `time.perf_counter()` when it came in. model: its id as the client sent it, and, once the request is
    answered, as metrics are labelled. endpoint: as metrics are labelled. client: opaque identity. code: of its error.
    tokens: as usage counts them. ignored: paths of fields that nothing reads. stages: None unless the request is
    traced.
    """

    request_id: str
    started: float = 0.0
    model: str = UNKNOWN
    endpoint: str = UNKNOWN
    client: str = ""
    code: str | None = None
    tokens: int | None = None
    ignored: Sequence[str] = ()
    trace_id: str | None = None
    stages: list[Stage] | None = None


# The context of the running task; None in tasks that serve no HTTP request.
CURRENT: ContextVar[RequestContext | None] = ContextVar("request_context", default=None)


def current_request() -> RequestContext:
    """The context of the request that the running task answers. There must be one."""
    found = CURRENT.get()
    assert found is not None
    return found


def record(*stages: Stage) -> None:
    """Add stages to the trace of the current request, if it has one."""
    found = CURRENT.get()
    if found is not None and found.stages is not None:
        found.stages += stages


def timed(name: str) -> AbstractContextManager[None]:
    """Record the body of the `with` as a stage, however it ends."""
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
