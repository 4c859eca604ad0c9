"""Linear layers: oneDNN with prepacked weights on CPU, `torch.nn.functional.linear` elsewhere."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Literal["none", "gelu", "gelu_tanh", "silu"]

# Each as a function, and as oneDNN's name and algorithm of it. There "none" means the exact erf form of GELU.
ACTIVATIONS: dict[Activation, tuple[Callable[[Tensor], Tensor], str, str]] = {
    "none": (lambda x: x, "none", ""),
    "gelu": (F.gelu, "gelu", "none"),
    "gelu_tanh": (partial(F.gelu, approximate="tanh"), "gelu", "tanh"),
    "silu": (F.silu, "swish", ""),
}

# For a handful of rows oneDNN and MKL take matrix-vector kernels, whose sums come out in another order than the same
# row's in a larger product. From this many rows on, a row's bits do not depend on how many rows stand beside it.
_MIN_ROWS = 4


class Linear(nn.Module):
    """`activation(x Wᵀ + b)` over the last dimension.

    The input is cast to the weight's dtype, so a float32 residual stream feeds bfloat16 products without the caller
    saying so. After `pack()` the weight lives in oneDNN's blocked layout, and bias and activation are fused into the
    product.
    Several checkpoint weights may lie one above the other in one product: `out_features` then has a number for each.

    Shapes: x `[rows, in_features]` → `[rows, sum(out_features)]`, dtype of the weight.
    """

    weight: Tensor | None

    def __init__(
        self, in_features: int, *out_features: int, activation: Activation = "none", bias: bool = True
    ) -> None:
        super().__init__()
        self.blocks = out_features
        self.weight = nn.Parameter(torch.empty(sum(out_features), in_features))
        self.bias = nn.Parameter(torch.empty(sum(out_features))) if bias else None
        self.activation = activation
        self._packed: Tensor | None = None

    def pack(self) -> None:
        """Reorder the weight for oneDNN; a no-op off the CPU or where oneDNN is missing."""
        assert self.weight is not None
        if self.weight.device.type == "cpu" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach().contiguous(), None)
            self.weight = None

    def forward(self, x: Tensor) -> Tensor:
        rows = x.shape[0]
        weight = self.weight if self._packed is None else self._packed
        assert weight is not None
        function, name, algorithm = ACTIVATIONS[self.activation]
        x = at_least_min_rows(x.to(weight.dtype))
        if self._packed is None:
            y = function(F.linear(x, weight, self.bias))
        else:
            y = torch.ops.mkldnn._linear_pointwise(x, weight, self.bias, name, [], algorithm)
        return y[:rows]


def at_least_min_rows(x: Tensor) -> Tensor:
    """`x` `[rows, n]` with rows of zeros added where it has so few that a product's bits would depend on it."""
    missing = _MIN_ROWS - x.shape[0]
    return F.pad(x, (0, 0, 0, missing)) if missing > 0 else x


def pack_linears(module: nn.Module) -> None:
    """Prepack every `Linear` under `module`, in place."""
    for layer in module.modules():
        if isinstance(layer, Linear):
            layer.pack()
