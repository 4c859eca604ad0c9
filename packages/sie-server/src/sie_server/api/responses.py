"""Results of the engine as bodies of answers."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from msgspec import UNSET, Raw
from numpy.typing import NDArray

from sie_server import codec, wire
from sie_server.engine.highlights import Highlight
from sie_server.engine.results import Ranking
from sie_server.errors import Code, SIEError
from sie_server.options import Dtype

# An answer with more results, or numbers in them, is made on another thread.
MANY = 1000
_MANY_NUMBERS = 32_768


def score_entries(items: Sequence[wire.Item], ranking: Ranking, *, return_tokens: bool) -> Iterator[wire.ScoreEntry]:
    """The entries of a score's answer, best first."""
    for rank, index in enumerate(ranking.order):
        item_id = items[index].id
        yield wire.ScoreEntry(
            item_id=f"item-{index}" if item_id is None else item_id,
            score=ranking.scores[index],
            rank=rank,
            tokens=ranking.lengths[index] if return_tokens else UNSET,
            truncated=ranking.truncated[index] if return_tokens else UNSET,
            span=ranking.spans[index] or UNSET,
            highlights=ranking.highlights[rank] if ranking.highlights else UNSET,
        )


def encoded_highlights(highlights: Sequence[Highlight], *, msgpack: bool) -> Any:
    """The highlights of a document for `ScoreEntry.highlights`, encoded."""
    return Raw(
        codec.encode([wire.Highlight(each.query, each.document, each.score) for each in highlights], msgpack=msgpack)
    )


def is_large(vectors: Sequence[dict[str, Any]]) -> bool:
    """Whether these embeddings take long to put into an answer."""
    numbers = sum(
        values[1].size if isinstance(values, tuple) else values.size for each in vectors for values in each.values()
    )
    return len(vectors) > MANY or numbers > _MANY_NUMBERS


def embeddings(
    items: Sequence[wire.Item], vectors: list[dict[str, Any]], dtype: Dtype, vocabulary: int | None
) -> Iterator[wire.EncodedItem]:
    """The items with their vectors, as `embedding`. Each item's vectors are freed once it has been made."""
    for index, (item, vectors_of_item) in enumerate(zip(items, vectors, strict=True)):
        yield embedding(item, f"items[{index}]", vectors_of_item, dtype, vocabulary)
        vectors[index] = {}


def embedding(
    item: wire.Item, field: str, vectors: dict[str, Any], dtype: Dtype, vocabulary: int | None
) -> wire.EncodedItem:
    """An item's vectors by output type, in the requested dtype. vocabulary: width of sparse vectors.

    Raises:
        SIEError: INFERENCE_ERROR, one is not finite; `param` names its field.
    """
    encoded = wire.EncodedItem(id=UNSET if item.id is None else item.id)
    name = "binary" if dtype == "ubinary" else dtype
    if (dense := vectors.get("dense")) is not None:
        encoded.dense = wire.DenseVector(len(dense), name, _quantized(dense, dtype, field))
    if (sparse := vectors.get("sparse")) is not None:
        # Weights of a few tokens: bits and bytes would not make them smaller by much, and are not asked for.
        kind: Dtype = "float16" if dtype == "float16" else "float32"
        indices, weights = sparse
        encoded.sparse = wire.SparseVector(vocabulary, kind, indices, _quantized(weights, kind, field))
    if (rows := vectors.get("multivector")) is not None:
        encoded.multivector = wire.MultiVector(rows.shape[1], rows.shape[0], name, _quantized(rows, dtype, field))
    return encoded


def _quantized(vectors: NDArray[np.float32], dtype: Dtype, field: str) -> NDArray[Any]:
    if dtype != "float16":
        check_finite(vectors, field)
        return quantize(vectors, dtype)
    with np.errstate(over="ignore"):
        halves = quantize(vectors, dtype)
    check_finite(halves, field)
    return halves


def check_finite(values: NDArray[Any], field: str) -> None:
    """Raises SIEError: INFERENCE_ERROR, the embedding of this field has NaN or infinity in it."""
    if not np.isfinite(values).all():
        raise SIEError(Code.INFERENCE_ERROR, f"The model produced a non-finite embedding for '{field}'", param=field)


def quantize(vectors: NDArray[np.float32], dtype: Dtype) -> NDArray[Any]:
    """Quantise each vector along the last axis on its own; scale factors are not kept.

    float16: cast. int8: `round(x / max|x| · 127)`. uint8: min–max to 0…255. binary, ubinary: one bit per dimension,
    set where x > 0, packed most significant bit first, so the last axis shrinks by eight.
    A vector that is constant (uint8) or zero (int8) becomes zeros.
    """
    match dtype:
        case "float32":
            return vectors
        case "float16":
            return vectors.astype(np.float16)
        case "int8":
            peak = np.abs(vectors).max(axis=-1, keepdims=True)
            levels: NDArray[np.float32] = np.round(vectors / np.where(peak > 0, peak, 1) * 127)
            return levels.astype(np.int8)
        case "uint8":
            low = vectors.min(axis=-1, keepdims=True)
            span = vectors.max(axis=-1, keepdims=True) - low
            levels = np.round((vectors - low) / np.where(span > 0, span, 1) * 255)
            return levels.astype(np.uint8)
        case "binary" | "ubinary":
            bits: NDArray[np.uint8] = np.packbits(vectors > 0, axis=-1)
            return bits
