"""What the engine answers with."""

from dataclasses import dataclass
from typing import Any

from sie_server.engine.highlights import Traced


@dataclass(slots=True)
class Timing:
    """Seconds a request spent per stage. Stages of its parts add up."""

    tokenization: float = 0.0
    queue: float = 0.0
    inference: float = 0.0


@dataclass(frozen=True, slots=True)
class Scored:
    """One score per document, in input order, activation applied.

    lengths: tokens of each document's pair, over all its windows, a shared prefix included. truncated: whether it was
    cut. spans: the part of its text that scored best, in code points, half-open; None unless long documents go in
    windows. tokens: those computed, a shared prefix once. traced: what made the scores, where it was asked for.
    """

    scores: list[float]
    lengths: list[int]
    truncated: list[bool]
    spans: list[tuple[int, int] | None]
    tokens: int
    timing: Timing
    traced: Traced | None


@dataclass(frozen=True, slots=True)
class Encoded:
    """One dict of vectors per text, by output type."""

    vectors: list[dict[str, Any]]
    tokens: int
    timing: Timing
