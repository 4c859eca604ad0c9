"""What the calls of clients share: the server they reach, the right answers, and how a call's answer is judged.

Runs in the environments of the clients, so it imports the standard library alone.
"""

import inspect
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any


class WrongError(AssertionError):
    """The client got an answer that is not the right one, and no error."""


@dataclass(frozen=True)
class Target:
    """A running server, and what it must answer.

    url: without a slash at its end. key: an API key. open_url: of a server that needs no key, whose default model is
    the embedding model, and which reads token ids as those of cl100k. reranker, embedder, late: ids of a cross-encoder,
    of an embedding model that reads queries and documents differently, and of a model with late interaction. query,
    documents: texts.
    scores: of the documents, by scale ("unit": between 0 and 1, "raw": before the activation). tokens: that the ranking
    counts. vectors: of the documents, read as "document" and as "query". front: of the documents, as "document", cut to
    half of the dimensions. embedded: tokens that the embeddings count.
    """

    url: str
    open_url: str
    key: str
    reranker: str
    embedder: str
    late: str
    query: str
    documents: list[str]
    scores: dict[str, list[float]]
    tokens: int
    vectors: dict[str, list[list[float]]]
    front: list[list[float]]
    embedded: int

    @property
    def host(self) -> str:
        """The address without its scheme."""
        return self.url.removeprefix("http://")

    @property
    def half(self) -> int:
        """Half of the dimensions of an embedding."""
        return len(self.front[0])

    def ranking(
        self, results: Iterable[tuple[int, float]], top: int | None = None, scale: str = "unit", order: str = "best"
    ) -> None:
        """Check the index and score of each result: all or the best `top`, best first or in the order sent."""
        found = [(int(index), float(score)) for index, score in results]
        right = self.scores[scale]
        expected = list(range(len(right)))
        if order == "best":
            expected.sort(key=lambda index: -right[index])
        expected = expected[:top]
        if [index for index, _ in found] != expected:
            raise WrongError(f"the order is {[index for index, _ in found]}; it must be {expected}")
        for index, score in found:
            if not math.isclose(score, right[index], rel_tol=1e-4, abs_tol=1e-5):
                raise WrongError(f"the score of document {index} is {score}; it must be {right[index]}")

    def embeddings(self, vectors: Sequence[Sequence[float]], read_as: str = "document", least: float = 0.9999) -> None:
        """Check the direction of each document's vector, in all its dimensions."""
        self._close(vectors, self.vectors[read_as], least)

    def front_embeddings(self, vectors: Sequence[Sequence[float]]) -> None:
        """Check vectors of half the dimensions."""
        self._close(vectors, self.front, 0.9999)

    def _close(self, vectors: Sequence[Sequence[float]], right: list[list[float]], least: float) -> None:
        if len(vectors) != len(right):
            raise WrongError(f"there are {len(vectors)} vectors; there must be {len(right)}")
        for index, (one, other) in enumerate(zip(vectors, right, strict=True)):
            if len(one) != len(other):
                raise WrongError(f"vector {index} has {len(one)} dimensions; it must have {len(other)}")
            if not cosine(one, other) >= least:
                raise WrongError(f"the cosine of vector {index} to the right one is {cosine(one, other):.4f}")


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """The cosine of the angle between two vectors."""
    product = sum(float(a) * float(b) for a, b in zip(one, other, strict=True))
    return product / math.sqrt(sum(float(a) ** 2 for a in one) * sum(float(b) ** 2 for b in other))


def bits(packed: Sequence[int], signed: bool) -> list[float]:
    """The signs, as 1 and -1, of a vector of bits, eight to a number."""
    numbers = [number + 128 if signed else number for number in packed]
    return [1.0 if number >> (7 - bit) & 1 else -1.0 for number in numbers for bit in range(8)]


def same(found: Any, right: Any, what: str) -> None:
    """Check a part of an answer."""
    if found != right:
        raise WrongError(f"{what} is {found!r}; it must be {right!r}")


def refused(attempt: Callable[[], Any], says: str, kind: type[BaseException] | None = None) -> None:
    """Check that a call raises, and that the error tells what the server says."""
    try:
        attempt()
    except WrongError:
        raise
    except BaseException as error:
        _told(error, says, kind)
        return
    raise WrongError(f"nothing was raised; the error must say {says!r}")


async def refused_async(attempt: Awaitable[Any], says: str, kind: type[BaseException] | None = None) -> None:
    """As `refused`, for a call that is awaited."""
    try:
        await attempt
    except BaseException as error:
        _told(error, says, kind)
        return
    raise WrongError(f"nothing was raised; the error must say {says!r}")


def _told(error: BaseException, says: str, kind: type[BaseException] | None) -> None:
    told = message(error)
    if says not in told:
        raise WrongError(f"the error is {told[:300]!r}; it must say {says!r}") from error
    if kind is not None and not isinstance(error, kind):
        raise WrongError(f"the error is a {type(error).__name__}; it must be a {kind.__name__}") from error


def message(error: BaseException) -> str:
    """All that an error tells a user: its text, and the text of the answer that some clients keep beside it."""
    parts = [f"{type(error).__name__}: {error}"]
    text = getattr(getattr(error, "response", None), "text", None)
    if isinstance(text, str):
        parts.append(text)
    return " ".join(parts)


Call = Callable[[Target], Any]
CALLS: dict[tuple[str, str], Call] = {}


def call(client: str, name: str) -> Callable[[Call], Call]:
    """Register a function as a call of a client. It raises WrongError for a wrong answer."""

    def register(function: Call) -> Call:
        assert (client, name) not in CALLS, f"{client} has two calls {name!r}"
        assert len(inspect.signature(function).parameters) == 1
        CALLS[client, name] = function
        return function

    return register
