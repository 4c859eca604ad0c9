"""Late-interaction scores from token vectors, computed on the client.

MaxSim (Khattab and Zaharia, "ColBERT", 2020): the best match of each query token among the document's tokens,
summed over the query,

    score(q, d) = sum over i of max over j of  q[i] . d[j]

without normalization or averaging. Vectors are cast to float32 and otherwise used as they are.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# The vectors of some documents and their similarities hold at most this many float32 (4 MiB, to stay in the processor's
# cache), unless a single document needs more.
_CHUNK_ELEMENTS = 1024 * 1024
_CHUNK_QUERY_TOKENS = 1024
# Tokens per document, on average, from which a product each is faster than a common one of copied documents.
_TOKENS_WORTH_A_CALL = 64


def maxsim(query: Array, documents: Array | Sequence[Array]) -> list[float]:
    """Computes MaxSim of a query and each document.

        >>> query = np.array([[1.0, 0.0], [0.0, 1.0]])
        >>> maxsim(query, [np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([[0.0, 1.0]])])
        [1.5, 1.0]

    Args:
        query: `[query_tokens, dim]`, of any real dtype.
        documents: A list of arrays `[document_tokens, dim]` of any real dtype, whose lengths may differ; a 3-D array is
            a list of documents of equal length (contiguous float32 is not copied), a 2-D array a single document.

    Returns:
        One score per document, in their order; higher is better. An empty list for no documents.

    Raises:
        ValueError: An array is not 2-D, has no tokens, differs from the query in width, or holds values that are
            infinite, not a number, or too large for float32. The message names it, e.g. `documents[3]`.
    """
    query = np.asarray(query)
    scores: list[float] = _maxsim([query], _matrices("documents", documents), names=["query"])[0].tolist()
    return scores


def maxsim_batch(queries: Array | Sequence[Array], documents: Array | Sequence[Array]) -> NDArray[np.float32]:
    """Computes MaxSim of every query and every document.

        >>> maxsim_batch([np.eye(2)], [np.eye(2), np.eye(2) / 2, np.array([[0.0, 1.0]])])
        array([[2., 1., 1.]], dtype=float32)

    Args:
        queries: Like the documents of `maxsim`: a list of arrays `[query_tokens, dim]`, a 3-D or a 2-D array.
        documents: As for `maxsim`.

    Returns:
        float32 `[queries, documents]`.

    Raises:
        ValueError: As `maxsim`; the message names `queries[i]` or `documents[i]`.
    """
    arrays = _matrices("queries", queries)
    return _maxsim(arrays, _matrices("documents", documents), names=[f"queries[{i}]" for i in range(len(arrays))])


def _matrices(name: str, arrays: Array | Sequence[Array]) -> Array | list[Array]:
    """Returns a 3-D array or a list of arrays: both have a length, and slices of their own kind."""
    if isinstance(arrays, np.ndarray):
        if arrays.ndim not in (2, 3):
            raise ValueError(f"{name} must be a list of 2-D arrays, one 2-D or one 3-D array, got shape {arrays.shape}")
        return arrays[None] if arrays.ndim == 2 else arrays
    return [np.asarray(array) for array in arrays]


def _maxsim(queries: Array | list[Array], documents: Array | list[Array], *, names: list[str]) -> NDArray[np.float32]:
    document_names = [f"documents[{i}]" for i in range(len(documents))]
    width = _check(queries, names, None)
    _check(documents, document_names, width)
    scores = np.empty((len(queries), len(documents)), np.float32)
    # Values that can't be multiplied are refused below, by name.
    with np.errstate(invalid="ignore", over="ignore"):
        for some_queries in _chunks(queries, _CHUNK_QUERY_TOKENS):
            query_rows, query_starts = _packed(queries[some_queries])
            columns = np.ascontiguousarray(query_rows.T)
            for some_documents in _chunks(documents, _CHUNK_ELEMENTS // sum(columns.shape)):
                best = _best(columns, documents[some_documents])
                scores[some_queries, some_documents] = np.add.reduceat(best, query_starts, axis=1).T
        # There are far fewer scores than values, so the values are checked only if a score is not finite.
        if not np.isfinite(scores).all():
            _check_finite(queries, names)
            _check_finite(documents, document_names)
            query, document = np.argwhere(~np.isfinite(scores))[0]
            raise ValueError(f"the products of {names[query]} and {document_names[document]} are too large for float32")
    return scores


def _best(columns: NDArray[np.float32], documents: Array | list[Array]) -> NDArray[np.float32]:
    """Returns the best match of each query token in each document, `[documents, query tokens]`.

    columns: the query tokens, `[dim, query tokens]`.
    """
    # Document tokens first: OpenBLAS takes a third less time for this than for the transposed product.
    if isinstance(documents, np.ndarray) or not _worth_a_product_each(documents):
        rows, starts = _packed(documents)
        return _maxima(rows @ columns, starts)
    # Without a copy of the documents, which would take as long as half of the product.
    block = _block(columns.shape[1])
    ends = np.cumsum([-(-len(document) // block) * block for document in documents])
    starts = np.append(0, ends[:-1])
    products = np.empty((ends[-1], columns.shape[1]), np.float32)
    for document, start, end in zip(documents, starts, ends, strict=True):
        last = start + len(document)
        np.matmul(document, columns, out=products[start:last])
        if last < end:
            products[last:end] = -np.inf
    return _maxima(products, starts)


def _block(query_tokens: int) -> int:
    """Rows of products, a power of two, that `_maxima` compares a half with the other: with few columns, none."""
    return 8 if query_tokens >= 128 else 1


def _maxima(products: NDArray[np.float32], starts: NDArray[np.intp]) -> NDArray[np.float32]:
    """Returns the maxima of the rows from each of `starts` to the next; overwrites `products`.

    `reduceat` takes as long for a long row as several operations on whole arrays. So if all documents begin at whole
    blocks, the rows of each block are compared before.
    """
    block = _block(products.shape[1])
    if block > 1 and len(products) % block == 0 and not (starts % block).any():
        blocks, half = products.reshape(-1, block, products.shape[1]), block // 2
        while half:
            np.maximum(blocks[:, :half], blocks[:, half : 2 * half], out=blocks[:, :half])
            half //= 2
        products, starts = blocks[:, 0], starts // block
    return np.maximum.reduceat(products, starts, axis=0)


def _worth_a_product_each(documents: list[Array]) -> bool:
    """Whether a call for each document takes less time than a copy of all: they need no cast, and are not short."""
    tokens = sum(map(len, documents))
    return tokens >= _TOKENS_WORTH_A_CALL * len(documents) and all(each.dtype == np.float32 for each in documents)


def _check(arrays: Array | list[Array], names: list[str], width: int | None) -> int | None:
    """Raises ValueError unless every array is `[tokens >= 1, width >= 1]`; returns the width, None for no arrays."""
    for array, name in zip(arrays, names, strict=True):
        if array.ndim != 2:
            raise ValueError(f"{name} must be a 2-D array [tokens, dim], got shape {array.shape}")
        if array.shape[0] == 0:
            raise ValueError(f"{name} has no tokens")
        if array.shape[1] == 0:
            raise ValueError(f"{name} has vectors without dimensions")
        width = array.shape[1] if width is None else width
        if array.shape[1] != width:
            raise ValueError(f"{name} has vectors of {array.shape[1]} dimensions, but the query's have {width}")
    return width


def _check_finite(arrays: Array | list[Array], names: list[str]) -> None:
    """Raises ValueError for an array with values that are not finite in float32."""
    for array, name in zip(arrays, names, strict=True):
        if not np.isfinite(_float32(array)).all():
            raise ValueError(f"{name} holds values that are infinite or not a number in float32")


def _chunks(arrays: Array | list[Array], tokens: int) -> Iterator[slice]:
    """Yields slices of at most `tokens` tokens in total; a longer array gets a slice of its own."""
    start, held = 0, 0
    for i, array in enumerate(arrays):
        if i > start and held + len(array) > tokens:
            yield slice(start, i)
            start, held = i, 0
        held += len(array)
    if len(arrays):
        yield slice(start, len(arrays))


def _packed(arrays: Array | list[Array]) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Returns all tokens in one float32 array, and the row where each array begins."""
    if isinstance(arrays, np.ndarray):
        count, length, width = arrays.shape
        return _float32(arrays.reshape(count * length, width)), np.arange(count) * length
    return _float32(np.concatenate(arrays)), np.cumsum([0, *map(len, arrays[:-1])])


def _float32(rows: Array) -> NDArray[np.float32]:
    """Casts to float32. NumPy's cast of float16 takes twice as long as the products, this one half as long."""
    if rows.dtype != np.float16:
        return rows.astype(np.float32, copy=False)
    half = rows.view(np.int16)
    if (half & 0x7C00 == 0x7C00).any():  # infinite or not a number, whose exponent the shift would not preserve
        return rows.astype(np.float32)
    bits = half.astype(np.int32)
    bits <<= 13  # the mantissa, and the exponent above it, where float32 has them
    bits &= ~0x70000000  # three copies of the sign between itself and the exponent
    values = bits.view(np.float32)
    values *= 2.0**112  # the exponents count from -127 instead of -15; exact, also for subnormal values
    return values
