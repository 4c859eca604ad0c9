"""What the engine answers with, as the wire has it."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from msgspec import UNSET, Raw
from numpy.typing import NDArray

from sie_server import codec, wire
from sie_server.api.quantize import quantize
from sie_server.engine.highlights import Highlight
from sie_server.engine.results import Scored
from sie_server.errors import Code, SIEError
from sie_server.options import Dtype

# Results, or numbers in them, from which on an answer is made on another thread.
MANY = 1000
_MANY_NUMBERS = 32_768


def ranking(
    items: Sequence[wire.Item], scored: Scored, options: wire.ScoreOptions
) -> tuple[list[int], list[wire.ScoreEntry]]:
    """Which items an answer has, best first, and the entries that it has for them."""
    # sorted() is stable: equal scores keep the order of the request.
    order = sorted(range(len(items)), key=lambda i: -scored.scores[i])[: options.top_k]
    return order, [
        wire.ScoreEntry(
            item_id=_item_id(items[i], i),
            score=scored.scores[i],
            rank=rank,
            tokens=scored.lengths[i] if options.return_tokens else UNSET,
            truncated=scored.truncated[i] if options.return_tokens else UNSET,
            span=scored.spans[i] or UNSET,
        )
        for rank, i in enumerate(order)
    ]


def _item_id(item: wire.Item, index: int) -> str:
    return f"item-{index}" if item.id is None else item.id


def written_highlights(highlights: Sequence[Highlight], *, msgpack: bool) -> Any:
    """Those of a document, encoded, for `ScoreEntry.highlights`."""
    lights = [wire.Highlight(light.query, light.document, light.score) for light in highlights]
    return Raw(codec.encode(lights, msgpack=msgpack))


def is_large(vectors: Sequence[dict[str, Any]]) -> bool:
    """Whether so many embeddings take long to put into an answer."""
    numbers = sum(
        values[1].size if isinstance(values, tuple) else values.size for each in vectors for values in each.values()
    )
    return len(vectors) > MANY or numbers > _MANY_NUMBERS


def embeddings(
    items: Sequence[wire.Item], vectors: list[dict[str, Any]], dtype: Dtype, vocabulary: int | None
) -> Iterator[wire.EncodedItem]:
    """As `embedding`, for each item, whose vectors are let go then."""
    for index, (item, own) in enumerate(zip(items, vectors, strict=True)):
        yield embedding(item, f"items[{index}]", own, dtype, vocabulary)
        vectors[index] = {}


def embedding(
    item: wire.Item, field: str, vectors: dict[str, Any], dtype: Dtype, vocabulary: int | None
) -> wire.EncodedItem:
    """An item's vectors, by output type, in the dtype that was asked for. vocabulary: how wide sparse ones are.

    Raises:
        SIEError: INFERENCE_ERROR, one is not finite; it names the field.
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
