"""Comparison of scores of pairs alone, together with one other document, and with all."""

import http.client
import random
from collections.abc import Callable
from urllib.parse import urlsplit

from expected_scores import scores
from workload import Workload

# Libraries use different code for the products of very short documents.
_WORDS = range(1, 21)


def differing(url: str, model: str, text: Callable[[random.Random, int], str], queries: int = 12) -> tuple[int, int]:
    """Count the pairs scored, 20 per query, and those whose score was not bit-identical all three times.

    text: makes a text of a given number of words.
    """
    rng = random.Random(0)
    workload = Workload(
        model,
        [text(rng, 1 + number % 5) for number in range(queries)],
        [text(rng, words) for words in _WORDS],
    )
    everything = range(len(workload.documents))
    batches = [[number, everything[-1 - number]] for number in everything[: len(everything) // 2]] + [everything]
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
    differ: set[tuple[str, int]] = set()
    for query in workload.queries:
        alone = [scores(connection, workload.request(query, [number]))[0] for number in everything]
        for numbers in batches:
            together = scores(connection, workload.request(query, numbers))
            differ |= {(query, n) for n, score in zip(numbers, together, strict=True) if score != alone[n]}
    connection.close()
    return len(workload.queries) * len(everything), len(differ)
