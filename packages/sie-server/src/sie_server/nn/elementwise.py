"""Functions of single numbers."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

_COLUMNS = 64  # a multiple of the numbers that any CPU takes at a time


def in_whole_vectors(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """`function` of `[rows, n]`, where PyTorch computes it number by number, with bits that do not depend on the row.

    On a CPU it takes the last few numbers of a tensor by other instructions than all others. So rows are filled up,
    where they are not of whole vectors.
    """

    def applied(x: Tensor) -> Tensor:
        missing = -x.shape[1] % _COLUMNS
        return function(F.pad(x, (0, missing)))[:, : x.shape[1]] if missing and x.device.type == "cpu" else function(x)

    return applied
