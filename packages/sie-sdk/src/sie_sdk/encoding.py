"""Helpers that read embeddings out of an encode result, in the form that vector databases expect."""

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from sie_sdk.types import EncodeResult, SparseEmbedding


class SparseVector(NamedTuple):
    """Vocabulary ids (int32) and their weights (float32), two 1-D arrays of the same length."""

    indices: NDArray[np.int32]
    values: NDArray[np.float32]


def dense_embedding(result: EncodeResult | Mapping[str, Any]) -> NDArray[Any]:
    """Returns the dense embedding, `[dim]`, in the dtype of the response. Raises ValueError if there is none.

    >>> dense_embedding({"sparse": {"indices": np.array([7]), "values": np.array([1.5])}})
    Traceback (most recent call last):
    ValueError: the result has no dense embedding, only sparse; request it with output_types=['dense']
    """
    return cast(NDArray[Any], _embedding(result, "dense"))


def multivector_embedding(result: EncodeResult | Mapping[str, Any]) -> NDArray[Any]:
    """Returns a vector per token, `[tokens, dim]`, in the dtype of the response. Raises ValueError if there is none."""
    return cast(NDArray[Any], _embedding(result, "multivector"))


def sparse_embedding(result: EncodeResult | Mapping[str, Any]) -> SparseVector:
    """Returns the sparse embedding. Raises ValueError if there is none."""
    return _sparse_vector(_embedding(result, "sparse"))


def sparse_embedding_dict(result: EncodeResult | Mapping[str, Any]) -> dict[int, float]:
    """Returns the sparse embedding as a dict from vocabulary id to weight. Raises ValueError if there is none.

    >>> sparse_embedding_dict({"sparse": {"indices": np.array([7, 2003], np.int32), "values": np.array([1.5, 0.25])}})
    {7: 1.5, 2003: 0.25}
    """
    vector = sparse_embedding(result)
    return dict(zip(vector.indices.tolist(), vector.values.tolist(), strict=True))


def normalize_sparse_vector(vector: SparseVector | SparseEmbedding) -> SparseVector:
    """Scales the vector to unit L2 length, so that dot products are cosines. A zero vector stays as it is.

    >>> normalize_sparse_vector({"indices": np.array([7, 9]), "values": np.array([3.0, 4.0])}).values
    array([0.6, 0.8], dtype=float32)
    """
    indices, values = _sparse_vector(vector)
    length = np.float32(np.linalg.norm(values))
    return SparseVector(indices, values / length if length > 0 else values)


def _embedding(result: Mapping[str, Any], kind: str) -> Any:
    if kind not in result:
        others = ", ".join(name for name in ("dense", "sparse", "multivector") if name in result)
        only = f", only {others}" if others else ""
        raise ValueError(f"the result has no {kind} embedding{only}; request it with output_types=[{kind!r}]")
    return result[kind]


def _sparse_vector(vector: SparseVector | SparseEmbedding) -> SparseVector:
    indices, values = vector if isinstance(vector, SparseVector) else (vector["indices"], vector["values"])
    return SparseVector(np.asarray(indices, np.int32), np.asarray(values, np.float32))
