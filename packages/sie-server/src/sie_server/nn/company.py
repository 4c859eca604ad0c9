"""Whether a product gives a row the same bits in any company, found out by trying."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

# Rows of x and of what is added to its product, if anything → the product's.
RowProduct = Callable[[Tensor, Tensor | None], Tensor]

# Libraries take other paths for a few rows. These are tried, against the same rows among more.
_COUNTS = (32, 16, 4, 1)
_MOST = 64


@torch.inference_mode()
def fewest_rows(product: RowProduct, inputs: int) -> int | None:
    """The fewest rows from which on a row's bits do not depend on how many there are; None where they always do.

    inputs: width of a row.
    """
    x = torch.randn(_MOST, inputs, generator=torch.Generator().manual_seed(0))
    everything = product(x, None)
    fewest = None
    for count in _COUNTS:
        # From several places: at its edges a product may be computed otherwise as well.
        for first in (0, (_MOST - count) // 2 + 1, _MOST - count):
            rows = slice(first, first + count)
            if not torch.equal(product(x[rows].clone(), None), everything[rows]):
                return fewest
        fewest = count
    return fewest


def in_company(product: RowProduct, fewest: int | None, x: Tensor, residual: Tensor | None) -> Tensor:
    """`product` with rows of zeros added where there are fewer than that; None: of each row alone."""
    rows = len(x)
    if fewest is None:
        each = [slice(row, row + 1) for row in range(rows)] or [slice(0, 0)]
        return torch.cat([product(x[row], None if residual is None else residual[row]) for row in each])
    if rows >= fewest:
        return product(x, residual)
    missing = (0, 0, 0, fewest - rows)
    return product(F.pad(x, missing), None if residual is None else F.pad(residual, missing))[:rows]
