"""Synthetic queries and documents of common words, with the lengths of search results."""

import random
from collections.abc import Iterable

import msgspec

# Words that are one token in nearly every tokenizer.
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
# Tokens of a pair without its document: query and special tokens, about.
PAIR_TOKENS = QUERY_WORDS + 3
# Tokens of a pair: log-normal, with a mean of about 140.
SHORTEST, LONGEST, LOG_MEAN, LOG_DEVIATION = 32, 411, 4.85, 0.5
# Default batch size of sentence-transformers' `predict`.
BATCH = 32


def text(rng: random.Random, words: int) -> str:
    """Random words."""
    return " ".join(rng.choices(WORDS, k=words))


def workload(documents: int, seed: int = 1) -> tuple[str, list[str]]:
    """A query and documents; pairs have 32 to 411 words and special tokens, log-normal, mean about 140."""
    rng = random.Random(seed)
    query = text(rng, QUERY_WORDS)
    lengths = (max(SHORTEST, min(LONGEST, int(rng.lognormvariate(LOG_MEAN, LOG_DEVIATION)))) for _ in range(documents))
    return query, [text(rng, length - PAIR_TOKENS) for length in lengths]


def body(query: str, documents: Iterable[str]) -> bytes:
    """The JSON body of a score request."""
    return msgspec.json.encode({"query": {"text": query}, "items": [{"text": document} for document in documents]})


def padded(lengths: Iterable[int], batch: int = BATCH) -> int:
    """Tokens with padding, if sequences are batched by descending length and padded to the longest of each batch."""
    ordered = sorted(lengths, reverse=True)
    return sum(ordered[at] * len(ordered[at : at + batch]) for at in range(0, len(ordered), batch))
