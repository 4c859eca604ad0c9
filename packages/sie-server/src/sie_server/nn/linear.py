"""Linear layers: oneDNN with prepacked weights on CPU, `torch.nn.functional.linear` elsewhere."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Literal["none", "gelu"]

# For a handful of rows oneDNN and MKL take matrix-vector kernels, whose sums come out in another order than the same
# row's in a larger product. From this many rows on, a row's bits do not depend on how many rows stand beside it.
_MIN_ROWS = 4


class Linear(nn.Module):
    """`activation(x Wᵀ + b)` over the last dimension.

    The input is cast to the weight's dtype, so a float32 residual stream feeds bfloat16 products without the caller
    saying so. After `pack()` the weight lives in oneDNN's blocked layout and bias and GELU are fused into the product.

    Shapes: x `[rows, in_features]` → `[rows, out_features]`, dtype of the weight.
    """

    weight: Tensor | None

    def __init__(self, in_features: int, out_features: int, activation: Activation = "none", bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
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
        x = at_least_min_rows(x.to(weight.dtype))
        if self._packed is None:
            y = F.linear(x, weight, self.bias)
            y = F.gelu(y) if self.activation == "gelu" else y
        else:
            # "none" as the algorithm of GELU is the exact erf form, the one BERT was trained with.
            algorithm = "none" if self.activation == "gelu" else ""
            y = torch.ops.mkldnn._linear_pointwise(x, weight, self.bias, self.activation, [], algorithm)
        return y[:rows]


class GatedLinear(Linear):
    """GEGLU (Shazeer 2020): `gelu(x Wᵀ + b) · (x Vᵀ + c)`, with W and V one above the other in one weight.

    Shapes: x `[rows, in_features]` → `[rows, out_features]`, dtype of the weight.
    """

    def __init__(self, in_features: int, out_features: int, gate_first: bool, bias: bool = True) -> None:
        super().__init__(in_features, 2 * out_features, bias=bias)
        self.gate_first = gate_first

    def forward(self, x: Tensor) -> Tensor:
        first, second = super().forward(x).chunk(2, dim=-1)
        gate, value = (first, second) if self.gate_first else (second, first)
        # GELU's kernel for strided input rounds otherwise, and a single row is never strided: a copy keeps bits equal.
        return F.gelu(gate.contiguous()) * value


def at_least_min_rows(x: Tensor) -> Tensor:
    """`x` `[rows, n]` with rows of zeros added where it has so few that a product's bits would depend on it."""
    missing = _MIN_ROWS - x.shape[0]
    return F.pad(x, (0, 0, 0, missing)) if missing > 0 else x


def pack_linears(module: nn.Module) -> None:
    """Prepack every `Linear` under `module`, in place."""
    for layer in module.modules():
        if isinstance(layer, Linear):
            layer.pack()
