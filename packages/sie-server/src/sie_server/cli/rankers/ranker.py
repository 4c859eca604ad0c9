"""The interface of all rankers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class RankerError(Exception):
    """A request could not be answered. The message is a sentence for the user; other requests may succeed."""


class UnavailableError(RankerError):
    """The model or the server is not available, so that other requests would fail as well."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """The scores of one query's documents.

    scores: one per document, in the order of the documents. seconds: duration of the request, as its caller saw it.
    tokens: number of tokens computed; None if the server does not tell. truncated: number of documents that were cut to
    the model's limit; None if the server does not tell.
    """

    scores: list[float]
    seconds: float
    tokens: int | None
    truncated: int | None


NO_DOCUMENTS = Ranked([], 0.0, 0, 0)


class Ranker(Protocol):
    """Ranks documents. `name` is for people: a model id, or an API, a model and an address."""

    @property
    def name(self) -> str: ...

    async def rank(self, query: str, documents: Sequence[str]) -> Ranked:
        """Score documents by their relevance to a query. Calls may be concurrent.

        Raises:
            RankerError: this request failed.
            UnavailableError: and others would, too.
        """
        ...
