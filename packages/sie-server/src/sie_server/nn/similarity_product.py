"""Products of hidden states with a few query vectors in float32, as for MaxSim."""

import ctypes
from collections.abc import Sequence as Items

import torch
from torch import Tensor

from sie_server.nn.kernels.library import installed_library, vector_isa_level
from sie_server.nn.kernels.linear import LinearArguments, pack_float32_panels


class SimilarityProduct:
    """`x Wᵀ` in which the bits of a row do not depend on other sequences' rows.

    Computed by the float32 kernel for linear layers. Without the kernels, by one library product per sequence, whose
    shape depends on that sequence alone.

    Shapes: weight float32 `[n, width]`; x float32 `[rows, width]` → `[rows, n]`.
    """

    def __init__(self, weight: Tensor) -> None:
        self._outputs, self._inputs = weight.shape
        self._library = installed_library() if weight.device.type == "cpu" else None
        self._level = vector_isa_level()
        self._weight = weight if self._library is None else pack_float32_panels(self._library, self._level, weight)

    def __call__(self, x: Tensor, lengths: Items[int]) -> Tensor:
        """Compute the product. lengths: rows of each sequence in x."""
        if self._library is None:
            return self._by_sequence(x, lengths)
        x = x.contiguous()
        y = torch.empty(len(x), self._outputs)
        arguments = LinearArguments(
            *(x.data_ptr(), None, None, self._weight.data_ptr(), None, None, None, None, y.data_ptr()),
            *(self._inputs, 0, self._outputs),
            *(len(x), self._inputs, self._outputs, len(self._weight)),
        )
        if self._library.sie_linear(ctypes.byref(arguments), self._level):
            raise MemoryError("can't allocate memory for a product")
        return y

    def _by_sequence(self, x: Tensor, lengths: Items[int]) -> Tensor:
        if x.device.type != "cpu":
            return x @ self._weight.T
        # Copies: equal bits need equal alignment, which new tensors have.
        return torch.cat([rows.clone() @ self._weight.T for rows in torch.split(x, list(lengths))])
