"""What is known of a request while it is answered: for its log lines, the count of errors, and its trace."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
class Answering:
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
ANSWERING: ContextVar[Answering | None] = ContextVar("answering", default=None)


def answering() -> Answering:
    """The request that the running task answers; for what is only called to answer one."""
    found = ANSWERING.get()
    assert found is not None
    return found


def passed(*stages: Stage) -> None:
    """Add stages to the trace of the request that is answered, if it has one."""
    found = ANSWERING.get()
    if found is not None and found.stages is not None:
        found.stages += stages


@contextmanager
def stage(name: str) -> Iterator[None]:
    """What runs inside is a stage, however it ends."""
    started = time.perf_counter()
    try:
        yield
    finally:
        passed(Stage(name, started, time.perf_counter()))
