"""Requests of all sizes, drawn from a small pool whose pairs can all be scored alone beforehand."""

import random
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from sie_server.cli.bench.workload import WORDS

SIZES = (1, 5, 20, 100)
# Words of a document: log-normal, from a title to more than the limit of most models.
_LOG_MEAN, _LOG_DEVIATION, _LONGEST = 3.2, 0.9, 400


@dataclass(frozen=True)
class Request:
    """A score request. numbers: the documents' indices in the pool."""

    model: str
    query: str
    documents: tuple[str, ...]
    numbers: tuple[int, ...]
    body: bytes

    @property
    def path(self) -> str:
        return f"/v1/score/{self.model}"


@dataclass(frozen=True)
class Workload:
    """A pool of queries and documents for one model. sizes: numbers of documents of a request, equally likely."""

    model: str
    queries: Sequence[str]
    documents: Sequence[str]
    sizes: Sequence[int] = field(default=SIZES)

    def draw(self, rng: random.Random) -> Request:
        """Draw a random request."""
        query = rng.choice(self.queries)
        numbers = rng.choices(range(len(self.documents)), k=rng.choice(self.sizes))
        return self.request(query, numbers)

    def request(self, query: str, numbers: Sequence[int]) -> Request:
        """Make a request with these documents. Items have no ids, so that documents can be repeated."""
        documents = tuple(self.documents[number] for number in numbers)
        items = [{"text": document} for document in documents]
        body = msgspec.json.encode({"query": {"id": query[:20], "text": query}, "items": items})
        return Request(self.model, query, documents, tuple(numbers), body)

    def alone(self) -> Iterator[Request]:
        """Yield a request of its own for every pair."""
        for query in self.queries:
            for number in range(len(self.documents)):
                yield self.request(query, [number])


def common_words(rng: random.Random, words: int) -> str:
    """Make a text of common words, one in ten replaced by a random one."""
    return " ".join(
        rng.choice(WORDS) if rng.random() < 0.9 else "".join(rng.choices(string.ascii_lowercase, k=rng.randint(4, 12)))
        for _ in range(words)
    )


def checkpoint_words(rng: random.Random, words: int) -> str:
    """Make a text of words that are one token each in the vocabulary of the tests' checkpoints."""
    return " ".join(f"w{rng.randrange(400)}" for _ in range(words))


def make_workload(
    model: str,
    queries: int = 4,
    documents: int = 100,
    seed: int = 0,
    text: Callable[[random.Random, int], str] = common_words,
    sizes: Sequence[int] = SIZES,
) -> Workload:
    """Make a pool of queries of 1 to 12 words and documents of 1 to 400 words."""
    rng = random.Random(seed)
    lengths = [min(int(rng.lognormvariate(_LOG_MEAN, _LOG_DEVIATION)) + 1, _LONGEST) for _ in range(documents)]
    return Workload(
        model,
        tuple(text(rng, rng.randint(1, 12)) for _ in range(queries)),
        tuple(text(rng, length) for length in lengths),
        tuple(sizes),
    )
