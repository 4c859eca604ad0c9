"""Activations of layers and heads: GELU, SiLU and the like, with bits that do not depend on an element's place."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from sie_server.options import Activation, HeadActivation

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


# Each as a function, and as the name and algorithm of oneDNN, where "none" is the exact form of GELU.
ACTIVATIONS: dict[Activation, tuple[Callable[[Tensor], Tensor], str, str]] = {
    "none": (lambda x: x, "none", ""),
    "gelu": (pad_to_vectors(F.gelu), "gelu", "none"),
    "gelu_tanh": (pad_to_vectors(partial(F.gelu, approximate="tanh")), "gelu", "tanh"),
    "silu": (pad_to_vectors(F.silu), "swish", ""),
}

HEAD_ACTIVATIONS: dict[HeadActivation, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "tanh": pad_to_vectors(torch.tanh),
    "gelu": pad_to_vectors(F.gelu),
    "relu": F.relu,
}
