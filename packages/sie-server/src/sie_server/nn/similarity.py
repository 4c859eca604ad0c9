"""Heads that compare each sequence with one query, which goes ahead of them in their first batch."""

import math
from collections.abc import Mapping
from collections.abc import Sequence as Items
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sie_server.nn.heads import Head, kept, pool, segments
from sie_server.nn.similarity_product import SimilarityProduct
from sie_server.nn.sparse import SparseVector
from sie_server.options import Pooling
from sie_server.tokenization.sequence import Lead, Sequence


class Similarity(Protocol):
    """A head that gives the similarity of each sequence to a query: a float, or a `Matched` of `Matches`."""

    lead: Lead

    def observe_lead(self, hidden: Tensor) -> None: ...

    def __call__(self, hidden: Tensor, lengths: Items[int], sequences: Items[Sequence]) -> list[Any]: ...


class QueryHead:
    """Keeps what it reads off the query's rows, in `_query`, for all batches of a request."""

    def __init__(self, query: Sequence) -> None:
        self.lead = Lead(query)
        self._query: Any = None


class MaxSim(QueryHead):
    """Late interaction (Khattab and Zaharia 2020, eq. 3).

    Sum over query tokens of the largest dot product with a document token, both normalised; with `mean`, divided by the
    number of query tokens. Tokens without a vector of their own are left out.
    """

    def __init__(self, query: Sequence, projections: nn.Module, mean: bool = False) -> None:
        super().__init__(query)
        self._projections = projections
        self._tokens = len(query) if query.keep is None else int(query.keep.sum())
        self._scale = 1 / self._tokens if mean else 1.0

    def observe_lead(self, hidden: Tensor) -> None:
        vectors, _ = self._unit(hidden, [len(hidden)], [self.lead.sequence])
        self._query = SimilarityProduct(vectors)

    def _unit(self, hidden: Tensor, lengths: Items[int], sequences: Items[Sequence]) -> tuple[Tensor, list[int]]:
        vectors, counts = kept(self._projections(hidden), lengths, sequences)
        return F.normalize(vectors, dim=-1), counts

    def _cosines(self, hidden: Tensor, lengths: Items[int], sequences: Items[Sequence]) -> tuple[Tensor, list[int]]:
        """Cosines `[tokens, query tokens]` of all documents' tokens, in one product; tokens of each document."""
        documents, counts = self._unit(hidden, lengths, sequences)
        return self._query(documents, counts), counts

    def _scores(self, cosines: Tensor, counts: Items[int]) -> list[float]:
        scores: list[float] = (segments(cosines, counts, "max").sum(dim=1) * self._scale).tolist()
        return scores

    def __call__(self, hidden: Tensor, lengths: Items[int], sequences: Items[Sequence]) -> list[Any]:
        return self._scores(*self._cosines(hidden, lengths, sequences))


class Matched(NamedTuple):
    """A MaxSim score and its terms, one per query token that has a vector.

    rows: int64, the nearest token of the document's sequence. cosines: float32, of the two tokens.
    """

    score: float
    rows: NDArray[np.int64]
    cosines: NDArray[np.float32]


class Matches(MaxSim):
    """MaxSim with the terms of each score. Returns a `Matched` per sequence."""

    def __call__(self, hidden: Tensor, lengths: Items[int], sequences: Items[Sequence]) -> list[Any]:
        cosines, counts = self._cosines(hidden, lengths, sequences)
        parts = zip(self._scores(cosines, counts), torch.split(cosines, counts), sequences, strict=True)
        return [self._matched(score, part, sequence) for score, part, sequence in parts]

    def _matched(self, score: float, cosines: Tensor, sequence: Sequence) -> Matched:
        largest, nearest = (x.cpu().numpy() for x in cosines.max(dim=0))
        return Matched(score, nearest if sequence.keep is None else np.flatnonzero(sequence.keep)[nearest], largest)


class Cosine(QueryHead):
    """Cosine of the pooled vectors, after the layers behind the pooling."""

    def __init__(self, query: Sequence, pooling: Pooling, pooled: nn.Module) -> None:
        super().__init__(query)
        self._pooling = pooling
        self._layers = pooled

    def _pooled(self, hidden: Tensor, lengths: Items[int]) -> Tensor:
        return F.normalize(self._layers(pool(hidden, lengths, self._pooling)), dim=-1)

    def observe_lead(self, hidden: Tensor) -> None:
        self._query = SimilarityProduct(self._pooled(hidden, [len(hidden)]))

    def __call__(self, hidden: Tensor, lengths: Items[int], sequences: Items[Sequence]) -> list[float]:
        scores: list[float] = self._query(self._pooled(hidden, lengths), [1] * len(lengths))[:, 0].tolist()
        return scores


class SparseSimilarity(QueryHead):
    """Dot product of the sparse vectors that the head `sparse` gives for query and document."""

    def __init__(self, query: Sequence, sparse: Head) -> None:
        super().__init__(query)
        self._sparse = sparse

    def observe_lead(self, hidden: Tensor) -> None:
        [self._query] = self._sparse(hidden, [len(hidden)], [self.lead.sequence])

    def __call__(self, hidden: Tensor, lengths: Items[int], sequences: Items[Sequence]) -> list[float]:
        return [self._match(vector) for vector in self._sparse(hidden, lengths, sequences)]

    def _match(self, vector: SparseVector) -> float:
        (query_tokens, query_weights), (tokens, weights) = self._query, vector
        _, of_query, of_document = np.intersect1d(query_tokens, tokens, assume_unique=True, return_indices=True)
        # Exact products and a sum that is rounded once: the result does not depend on the order.
        return math.fsum(np.multiply(query_weights[of_query], weights[of_document], dtype=np.float64).tolist())


class Hybrid:
    """Weighted sum of several similarities to one query."""

    def __init__(self, weights: Mapping[Similarity, float]) -> None:
        self._weights = weights
        self.lead = next(iter(weights)).lead

    def observe_lead(self, hidden: Tensor) -> None:
        for part in self._weights:
            part.observe_lead(hidden)

    def __call__(self, hidden: Tensor, lengths: Items[int], sequences: Items[Sequence]) -> list[float]:
        columns = [
            [weight * score for score in part(hidden, lengths, sequences)] for part, weight in self._weights.items()
        ]
        return [sum(parts) for parts in zip(*columns, strict=True)]
