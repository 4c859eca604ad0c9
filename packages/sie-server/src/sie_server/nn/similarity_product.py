"""Products in float32 of rows that are many with a few that are not weights: MaxSim's cosines, say."""

import ctypes
from collections.abc import Sequence as Items

import torch
from torch import Tensor

from sie_server.nn.kernels.library import installed_library, vector_level
from sie_server.nn.panel_linear import Arguments, lay_float32


class Product:
    """`x Wᵀ`, in which a row of x has the same bits in any company.

    By the kernel that linear layers have in float32: it sums in an order of its own. Where it is not installed, one
    product of the CPU's library for each sequence, whose shape is fixed by that sequence alone.

    Shapes: weight float32 `[n, width]`; x float32 `[rows, width]` → `[rows, n]`.
    """

    def __init__(self, weight: Tensor) -> None:
        self._outputs, self._inputs = weight.shape
        self._library = installed_library() if weight.device.type == "cpu" else None
        self._level = vector_level()
        self._weight = weight if self._library is None else lay_float32(self._library, self._level, weight)

    def __call__(self, x: Tensor, lengths: Items[int]) -> Tensor:
        """lengths: rows of each sequence."""
        if self._library is None:
            return self._by_sequence(x, lengths)
        x = x.contiguous()
        y = torch.empty(len(x), self._outputs)
        arguments = Arguments(
            *(x.data_ptr(), None, None, self._weight.data_ptr(), None, None, None, None, y.data_ptr()),
            *(self._inputs, 0, self._outputs),
            *(len(x), self._inputs, self._outputs, len(self._weight)),
        )
        if self._library.sie_linear(ctypes.byref(arguments), self._level):
            raise MemoryError("no memory for a product")
        return y

    def _by_sequence(self, x: Tensor, lengths: Items[int]) -> Tensor:
        if x.device.type != "cpu":
            return x @ self._weight.T
        # Copies: memory of torch's own always begins alike, as equal bits need.
        return torch.cat([rows.clone() @ self._weight.T for rows in torch.split(x, list(lengths))])
