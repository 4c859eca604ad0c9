"""Tokens per second of a model on this machine."""

import random
import statistics
import time
from collections.abc import Sequence

from rich.console import Console

from sie_server.catalog.catalog import parse_known, shipped, with_models
from sie_server.cli.bench.in_process import loaded
from sie_server.cli.bench.workload import PAIR_TOKENS, QUERY_WORDS, text
from sie_server.options import Precision

_ROUNDS = 3


def measured(model: str, extra: Sequence[str], device: str, precision: Precision, documents: int, tokens: int) -> float:
    """Score requests in process; returns the tokens per second, the median of three rounds.

    documents: of a request. tokens: of a pair.

    Raises:
        ValueError: an unknown model or device.
        LoadError, SIEError: the model can't be loaded, or does not score.
    """
    entry = parse_known(model, with_models(shipped(), extra))
    rng = random.Random(1)
    texts = [text(rng, max(1, tokens - PAIR_TOKENS)) for _ in range(documents)]
    query, rates = text(rng, QUERY_WORDS), []
    with Console(stderr=True).status(f"measuring {entry.id}"), loaded(entry, device, precision) as ours:
        ours.score(query, texts[:1])
        for _ in range(_ROUNDS):
            started = time.perf_counter()
            scored = ours.score(query, texts)
            rates.append(sum(scored.lengths) / (time.perf_counter() - started))
    return statistics.median(rates)
