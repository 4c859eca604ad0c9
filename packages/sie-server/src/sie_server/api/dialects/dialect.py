"""A rerank API, apart from its fields: its errors, its defaults, and the writer of its results."""

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any, Literal

from msgspec import Struct

from sie_server.api.dialects.request import RankRequest
from sie_server.api.dialects.spans import RelevantSpan


@dataclass(slots=True)
class Ranked:
    """A ranking to write. scores: by document. order: of the results. id: of the request. seconds: they took.

    give_back: whether results repeat documents. warnings: about fields that changed nothing and documents that were
    cut.
    """

    request: RankRequest
    model: str
    scores: Items[float]
    order: Items[int]
    tokens: int
    id: str
    give_back: bool
    warnings: list[str]
    created: int
    seconds: float
    spans: Callable[[int], list[RelevantSpan]] | None = None

    def results(self) -> Iterator[tuple[int, float, str, Any]]:
        """Index, score, text, and document in the form it was sent in, of each result."""
        for index in self.order:
            text = self.request.documents[index]
            yield index, self.scores[index], text, self.request.given[index] if self.request.given else text


@dataclass(frozen=True, slots=True)
class Written:
    """An answer: its body with an empty list `field`, and the elements of that list."""

    body: Struct
    field: str
    elements: Iterator[Any]


@dataclass(frozen=True, slots=True)
class Dialect:
    """A rerank API.

    name: of its prefix. write: its writer. body: type of its answers. bare: an answer is the list alone. in_order:
    results are in the order of the request. give_back: whether results repeat documents by default. scores: by
    default, between 0 and 1 ("unit"), the model's own, or before its activation ("raw"). plain_errors: errors have
    TEI's form. busy: HTTP status of a full queue. none_is_all: `top_n` 0 asks for all. spans: results may
    have relevant spans.
    """

    name: str
    write: Callable[[Ranked], Written]
    body: type[Struct]
    bare: bool = False
    in_order: bool = False
    give_back: bool = False
    scores: Literal["unit", "own", "raw"] = "unit"
    plain_errors: bool = False
    busy: int = 503
    none_is_all: bool = False
    spans: bool = False
