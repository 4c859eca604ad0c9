"""Row-invariant use of library products, whose bits may depend on the number of rows.

oneDNN and MKL choose the order of summation by the shape. So a product is called with a few row counts only, which are
tested when a model is loaded: those that give a row the same bits, whatever its place.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# (x, residual) → product
RowProduct = Callable[[Tensor, Tensor | None], Tensor]

_STEP = 32
ROW_COUNTS = (8, 16, *range(_STEP, 513, _STEP))


@torch.inference_mode()
def is_row_invariant(product: RowProduct, inputs: int) -> bool:
    """Test whether the bits of a row depend on the number of rows or on its place. inputs: width of a row."""
    x = _rows(40, inputs)
    expected = product(x, None)
    subsets = (slice(21, 22), slice(25, 32))
    return all(torch.equal(product(x[rows].clone(), None), expected[rows]) for rows in subsets)


@torch.inference_mode()
def row_invariant_counts(
    product: RowProduct, inputs: int, check_cancelled: Callable[[], None] = lambda: None
) -> tuple[int, ...]:
    """Find the largest subset of ROW_COUNTS with which a row has the same bits, ascending; empty: there is none.

    inputs: width of a row. check_cancelled: called before each product.
    """

    def call(x: Tensor, residual: Tensor | None) -> Tensor:
        check_cancelled()
        return product(x, residual)

    x = _rows(ROW_COUNTS[-1], inputs)
    best: list[int] = []
    left = list(ROW_COUNTS)
    while len(left) > len(best):
        largest = left[-1]
        expected = call(x[:largest].clone(), None)
        rolled = call(x[:largest].roll(1, 0), None).roll(-1, 0)
        same = [size for size in left[:-1] if _same(call, x, expected, size)]
        if torch.equal(rolled, expected) and len(same) + 1 > len(best):
            best = [*same, largest]
        left = [size for size in left[:-1] if size not in same]
    return tuple(best)


def _rows(count: int, width: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((count, width), np.float32))


def _same(product: RowProduct, x: Tensor, expected: Tensor, size: int) -> bool:
    # From the middle: the first and last rows of a product may be computed differently.
    first = (len(expected) - size) // 2 | 1
    rows = slice(first, first + size)
    return torch.equal(product(x[rows].clone(), None)[: len(expected) - first], expected[rows])


def next_row_count(rows: int) -> int:
    """Round up to one of ROW_COUNTS, or beyond them to a multiple of their step."""
    return next((size for size in ROW_COUNTS if size >= rows), rows + -rows % _STEP)


def in_row_counts(product: RowProduct, counts: tuple[int, ...], x: Tensor, residual: Tensor | None) -> Tensor:
    """Compute a product in calls with the given row counts, the last padded with zeros; without counts, row by row."""
    rows = len(x)
    if rows in counts:
        return product(x, residual)
    parts: list[Tensor] = []
    done = 0
    while done < rows or not parts:
        size, end = _next_call(counts or (1,), rows - done), rows
        if size < rows - done:
            end = done + size
        missing = size - (end - done)
        padded_residual = None if residual is None else _pad(residual[done:end], missing)
        parts.append(product(_pad(x[done:end], missing), padded_residual)[: end - done])
        done = end
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _pad(x: Tensor, missing: int) -> Tensor:
    return F.pad(x, (0, 0, 0, missing)) if missing else x


def _next_call(counts: tuple[int, ...], rows: int) -> int:
    """Row count of the next call for `rows` remaining rows: the next larger count if little padding is needed."""
    enough = next((count for count in counts if count >= rows), None)
    fewer = [count for count in counts if count <= rows]
    if enough is not None and (not fewer or enough - rows <= rows // 8 or fewer[-1] <= rows // 2):
        return enough
    return fewer[-1]
