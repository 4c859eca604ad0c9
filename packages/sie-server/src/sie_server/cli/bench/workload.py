"""Texts to measure with: common words, in documents as long as those of a search."""

import random
from collections.abc import Iterable

import msgspec

# Words that nearly every tokenizer has as one token each.
WORDS = tuple(
    """
    time year people way day man thing woman life child world school state family student group country problem
    hand part place case week company system program question work government number night point home water room
    mother area money story fact month lot right study book eye job word business issue side kind head house
    service friend father power hour game line end member law car city community name president team minute idea
    body information
    """.split()  # noqa: SIM905 # a list of ninety strings fills a page
)
QUERY_WORDS = 9
# Tokens of a pair beside its document, about: the query and the special ones.
PAIR_TOKENS = QUERY_WORDS + 3
# Of a pair, in tokens: a log-normal distribution with a mean of about 140.
SHORTEST, LONGEST, LOG_MEAN, LOG_DEVIATION = 32, 411, 4.85, 0.5
# What sentence-transformers' `predict` takes at a time.
BATCH = 32


def text(rng: random.Random, words: int) -> str:
    """So many words."""
    return " ".join(rng.choices(WORDS, k=words))


def workload(documents: int, seed: int = 1) -> tuple[str, list[str]]:
    """A query and documents; pairs have 32 to 411 words and special tokens, log-normal, mean about 140."""
    rng = random.Random(seed)
    query = text(rng, QUERY_WORDS)
    lengths = (max(SHORTEST, min(LONGEST, int(rng.lognormvariate(LOG_MEAN, LOG_DEVIATION)))) for _ in range(documents))
    return query, [text(rng, length - PAIR_TOKENS) for length in lengths]


def body(query: str, documents: Iterable[str]) -> bytes:
    """The request that scores them, in JSON."""
    return msgspec.json.encode({"query": {"text": query}, "items": [{"text": document} for document in documents]})


def padded(lengths: Iterable[int], batch: int = BATCH) -> int:
    """Tokens that batches of so many would have, longest first, each padded to its longest."""
    ordered = sorted(lengths, reverse=True)
    return sum(ordered[at] * len(ordered[at : at + batch]) for at in range(0, len(ordered), batch))
