"""Elementwise functions."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

_COLUMNS = 64  # a multiple of any CPU's vector length


def pad_to_vectors(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Make the bits of an elementwise function of `[rows, n]` independent of an element's place.

    On a CPU, PyTorch computes the last elements of a tensor, which do not fill a vector, by other instructions than the
    rest. So rows are padded to whole vectors.
    """

    def applied(x: Tensor) -> Tensor:
        missing = -x.shape[1] % _COLUMNS
        return function(F.pad(x, (0, missing)))[:, : x.shape[1]] if missing and x.device.type == "cpu" else function(x)

    return applied
