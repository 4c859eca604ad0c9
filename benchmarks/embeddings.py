"""Rankings by embeddings: how a client requests, stores and compares them.

A dense embedding is a multivector of one token here: its MaxSim is the dot product.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from collection import Collection, Mask, Scores
from numpy.typing import NDArray
from rich.progress import Progress

from sie_sdk import SIEClient
from sie_sdk.scoring import maxsim_batch
from sie_sdk.types import Item, OutputDType

Array = NDArray[Any]
Kind = Literal["dense", "multivector"]
CHUNK = 256


def unit(vectors: Array) -> Array:
    """Scale each vector to unit length; zero vectors stay zero."""
    vectors = vectors.astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def centred(vectors: Array) -> Array:
    """Subtract the mean of its values from each vector, and scale it to unit length."""
    return unit(vectors - vectors.mean(axis=-1, keepdims=True, dtype=np.float32))


def from_bits(packed: Array) -> Array:
    """Unpack bits as ±1; then a dot product is dim - 2 × Hamming distance."""
    return np.unpackbits(packed, axis=-1) * np.float32(2) - 1


def signs(vectors: Array) -> Array:
    return np.where(vectors > 0, np.float32(1), np.float32(-1))


def as_sent(vectors: Array) -> Array:
    return vectors


class Reading(NamedTuple):
    """A storage dtype, and how a client computes with it. Queries are float32."""

    dtype: OutputDType
    name: str
    document: Callable[[Array], Array]
    query: Callable[[Array], Array] = as_sent


FLOAT32 = Reading("float32", "as sent", as_sent)
READINGS = (
    FLOAT32,
    Reading("float16", "as sent", as_sent),
    Reading("int8", "unit length", unit),
    Reading("int8", "as sent", as_sent),
    Reading("uint8", "mean subtracted, unit length", centred),
    Reading("uint8", "unit length", unit),
    Reading("uint8", "as sent", as_sent),
    Reading("binary", "±1", from_bits),
    Reading("binary", "±1, the query too (Hamming)", from_bits, signs),
)


class Stored(NamedTuple):
    """Ranking by one representation, and bytes per document."""

    scores: Scores
    sizes: NDArray[np.int64]


class Embedder:
    """An encoder behind a server."""

    def __init__(self, client: SIEClient, model: str, progress: Progress) -> None:
        self.client = client
        self.model = model
        self.progress = progress

    def rank(
        self, collection: Collection, candidates: Mask, kind: Kind, readings: Sequence[Reading] = (FLOAT32,)
    ) -> dict[Reading, Stored]:
        """Scores of the candidates `[queries, documents]`.

        A document is encoded once per dtype, if it is anyone's candidate, and no more than 256 are held at a time.
        """
        queries = list(self._encode(list(collection.queries.values()), kind, "float32", is_query=True))
        columns = np.flatnonzero(candidates.any(axis=0))
        texts = list(collection.documents.values())
        ranking: dict[Reading, Stored] = {}
        for dtype in dict.fromkeys(reading.dtype for reading in readings):
            alike = [reading for reading in readings if reading.dtype == dtype]
            scores = {reading: collection.nothing() for reading in alike}
            sizes = np.zeros(len(collection.documents), np.int64)
            starts = range(0, len(columns), CHUNK)
            for start in self.progress.track(starts, description=f"{kind} {dtype}, {len(columns):,} documents"):
                chunk = columns[start : start + CHUNK]
                vectors = list(self._encode([texts[column] for column in chunk], kind, dtype, is_query=False))
                sizes[chunk] = [array.nbytes for array in vectors]
                for rows, held in _groups(candidates[:, chunk]):
                    for reading in alike:
                        asked = [reading.query(queries[row]) for row in rows]
                        stored = [reading.document(vectors[at]) for at in held]
                        scores[reading][np.ix_(rows, chunk[held])] = maxsim_batch(asked, stored)
            ranking |= {reading: Stored(scores[reading], sizes) for reading in alike}
        return ranking

    def _encode(self, texts: Sequence[str], kind: Kind, dtype: OutputDType, is_query: bool) -> Iterator[Array]:
        """One array `[tokens, dim]` per text, `[1, dim]` for dense embeddings."""
        for start in range(0, len(texts), CHUNK):
            items = [Item(text=text) for text in texts[start : start + CHUNK]]
            answer = self.client.encode(self.model, items, output_types=[kind], output_dtype=dtype, is_query=is_query)
            for result in answer:
                yield np.atleast_2d(result[kind])


def _groups(candidates: Mask) -> Iterator[tuple[Array, Array]]:
    """Group queries with the same candidates: rows of the queries, and columns of the candidates."""
    groups: dict[bytes, list[int]] = {}
    for row, wanted in enumerate(candidates):
        groups.setdefault(wanted.tobytes(), []).append(row)
    for rows in groups.values():
        if len(columns := np.flatnonzero(candidates[rows[0]])):
            yield np.array(rows), columns
