"""Products of PyTorch's libraries, in whose order of sums the number of rows may have a say.

oneDNN and MKL choose how to sum by the shape, and so they may for any number of rows. So they only see a few numbers of
them, which are tried when a model is loaded: those that gave a row the same bits, wherever it stood, are used.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

# Rows of x and of what is added to its product, if anything → the product's.
RowProduct = Callable[[Tensor, Tensor | None], Tensor]

_STEP = 32
SIZES = (8, 16, *range(_STEP, 513, _STEP))


@torch.inference_mode()
def same_alone(product: RowProduct, inputs: int) -> bool:
    """Whether a few rows have the same bits alone, together, and at another place. inputs: width of a row."""
    x = _rows(40, inputs)
    everything = product(x, None)
    places = (slice(21, 22), slice(25, 32))
    return all(torch.equal(product(x[rows].clone(), None), everything[rows]) for rows in places)


@torch.inference_mode()
def equal_sizes(product: RowProduct, inputs: int, before_each: Callable[[], None] = lambda: None) -> tuple[int, ...]:
    """Those of SIZES, ascending, with which a row has the same bits: the most that go together, or none.

    inputs: width of a row. before_each: called before each product.
    """

    def tried(x: Tensor, residual: Tensor | None) -> Tensor:
        before_each()
        return product(x, residual)

    x = _rows(SIZES[-1], inputs)
    best: list[int] = []
    left = list(SIZES)
    while len(left) > len(best):
        most = left[-1]
        expected = tried(x[:most].clone(), None)
        rolled = tried(x[:most].roll(1, 0), None).roll(-1, 0)
        same = [size for size in left[:-1] if _same(tried, x, expected, size)]
        if torch.equal(rolled, expected) and len(same) + 1 > len(best):
            best = [*same, most]
        left = [size for size in left[:-1] if size not in same]
    return tuple(best)


def _rows(count: int, width: int) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(0))


def _same(product: RowProduct, x: Tensor, expected: Tensor, size: int) -> bool:
    # From another place: at its edges a product may be computed otherwise as well.
    first = (len(expected) - size) // 2 | 1
    rows = slice(first, first + size)
    return torch.equal(product(x[rows].clone(), None)[: len(expected) - first], expected[rows])


def next_size(rows: int) -> int:
    """The next larger of SIZES, or multiple of their step."""
    return next((size for size in SIZES if size >= rows), rows + -rows % _STEP)


def in_sizes(product: RowProduct, sizes: tuple[int, ...], x: Tensor, residual: Tensor | None) -> Tensor:
    """`product`, in calls of so many rows, the last one filled up with zeros; where there are no sizes, row by row."""
    rows = len(x)
    if rows in sizes:
        return product(x, residual)
    parts: list[Tensor] = []
    done = 0
    while done < rows or not parts:
        size, end = _first_size(sizes or (1,), rows - done), rows
        if size < rows - done:
            end = done + size
        missing = size - (end - done)
        added = None if residual is None else _filled(residual[done:end], missing)
        parts.append(product(_filled(x[done:end], missing), added)[: end - done])
        done = end
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _filled(x: Tensor, missing: int) -> Tensor:
    return F.pad(x, (0, 0, 0, missing)) if missing else x


def _first_size(sizes: tuple[int, ...], rows: int) -> int:
    """All rows where few would be added, or no size is near, else as many as there is a size for."""
    enough = next((size for size in sizes if size >= rows), None)
    fewer = [size for size in sizes if size <= rows]
    if enough is not None and (not fewer or enough - rows <= rows // 8 or fewer[-1] <= rows // 2):
        return enough
    return fewer[-1]
