"""Shared by the benchmarks of the engine: our engine in process, and document lengths."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sie_server.catalog.catalog import Entry
from sie_server.engine.calls import EncodeCall, ScoreCall
from sie_server.engine.results import Ranking
from sie_server.options import Comparison, Output, ScoreMode
from sie_testing.engine_loop import Running, running

TIMEOUT_S = 3600.0


class Ours:
    """Our engine with one loaded model, on an event loop of its own as in the server, without HTTP."""

    def __init__(self, running: Running, model_id: str) -> None:
        self.running = running
        self.model = running.model(model_id, TIMEOUT_S)

    def score(self, query: str, documents: list[str], mode: ScoreMode = "dense") -> Ranking:
        """Score one request, including tokenization."""
        work = self.running.engine.score(ScoreCall(self.model.id, query, documents, comparison=Comparison(mode)))
        return self.running.run(work, TIMEOUT_S)

    def encode(self, texts: list[str], output: Output, is_query: bool = False) -> list[Any]:
        """Encode one request, including tokenization; returns one embedding per text."""
        work = self.running.engine.encode(EncodeCall(self.model.id, texts, [output], is_query))
        return [vectors[output] for vectors in self.running.run(work, TIMEOUT_S).vectors]


@contextmanager
def serving(entry: Entry, **settings: Any) -> Iterator[Ours]:
    """An engine with the model of `entry`; its threads have ended afterwards."""
    with running({entry.id: entry}, load_wait=TIMEOUT_S, **settings) as handle:
        yield Ours(handle, entry.id)


def lengths(rng: random.Random, count: int, log_mean: float = 4.85, shortest: int = 32) -> list[int]:
    """Draw lengths in tokens, `shortest` to 411: log-normal, with a mean and a deviation of 0.5 of the logarithms."""
    return [max(shortest, min(411, int(rng.lognormvariate(log_mean, 0.5)))) for _ in range(count)]
