"""A few pairs of one model, every one of them: alone, beside one other document, and beside all."""

import http.client
import random
from collections.abc import Callable
from urllib.parse import urlsplit

from mixture import Mixture
from truth import scores

# Short documents and a little longer ones: libraries take other paths for the products of the former.
_WORDS = range(1, 21)


def differing(url: str, model: str, text: Callable[[random.Random, int], str], queries: int = 12) -> tuple[int, int]:
    """How many pairs were asked for, 20 for each query, and how many did not have the same bits all three times.

    text: a text of that many words.
    """
    rng = random.Random(0)
    mixture = Mixture(
        model,
        [text(rng, 1 + number % 5) for number in range(queries)],
        [text(rng, words) for words in _WORDS],
    )
    everything = range(len(mixture.documents))
    companies = [[number, everything[-1 - number]] for number in everything[: len(everything) // 2]] + [everything]
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
    differ: set[tuple[str, int]] = set()
    for query in mixture.queries:
        alone = [scores(connection, mixture.request(query, [number]))[0] for number in everything]
        for numbers in companies:
            together = scores(connection, mixture.request(query, numbers))
            differ |= {(query, n) for n, score in zip(numbers, together, strict=True) if score != alone[n]}
    connection.close()
    return len(mixture.queries) * len(everything), len(differ)
