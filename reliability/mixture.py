"""Requests of every size, drawn from a pool so small that the score of each pair can be computed alone beforehand."""

import random
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from sie_server.cli.bench.workload import WORDS

SIZES = (1, 5, 20, 100)
# Of a document, in words: a log-normal distribution, from a title to more than most models take.
_LOG_MEAN, _LOG_DEVIATION, _LONGEST = 3.2, 0.9, 400


@dataclass(frozen=True)
class Request:
    """A score request; documents by their number in the pool."""

    model: str
    query: str
    documents: tuple[str, ...]
    numbers: tuple[int, ...]
    body: bytes

    @property
    def path(self) -> str:
        return f"/v1/score/{self.model}"


@dataclass(frozen=True)
class Mixture:
    """Queries and documents for one model, and the requests that are made of them. `sizes`: equally likely."""

    model: str
    queries: Sequence[str]
    documents: Sequence[str]
    sizes: Sequence[int] = field(default=SIZES)

    def draw(self, rng: random.Random) -> Request:
        """One of many."""
        query = rng.choice(self.queries)
        numbers = rng.choices(range(len(self.documents)), k=rng.choice(self.sizes))
        return self.request(query, numbers)

    def request(self, query: str, numbers: Sequence[int]) -> Request:
        """The request for these documents. Its items have no ids, so that a document may come twice."""
        documents = tuple(self.documents[number] for number in numbers)
        items = [{"text": document} for document in documents]
        body = msgspec.json.encode({"query": {"id": query[:20], "text": query}, "items": items})
        return Request(self.model, query, documents, tuple(numbers), body)

    def alone(self) -> Iterator[Request]:
        """Every pair in a request of its own."""
        for query in self.queries:
            for number in range(len(self.documents)):
                yield self.request(query, [number])


def common_words(rng: random.Random, words: int) -> str:
    """Common words, and one in ten that no tokenizer has seen before."""
    return " ".join(
        rng.choice(WORDS) if rng.random() < 0.9 else "".join(rng.choices(string.ascii_lowercase, k=rng.randint(4, 12)))
        for _ in range(words)
    )


def checkpoint_words(rng: random.Random, words: int) -> str:
    """Words of the vocabulary that the tests' checkpoints have, one token each."""
    return " ".join(f"w{rng.randrange(400)}" for _ in range(words))


def mixture(
    model: str,
    queries: int = 4,
    documents: int = 100,
    seed: int = 0,
    text: Callable[[random.Random, int], str] = common_words,
    sizes: Sequence[int] = SIZES,
) -> Mixture:
    """A pool with so many queries of 1 to 12 words and documents of 1 to 400."""
    rng = random.Random(seed)
    lengths = [min(int(rng.lognormvariate(_LOG_MEAN, _LOG_DEVIATION)) + 1, _LONGEST) for _ in range(documents)]
    return Mixture(
        model,
        tuple(text(rng, rng.randint(1, 12)) for _ in range(queries)),
        tuple(text(rng, length) for length in lengths),
        tuple(sizes),
    )
