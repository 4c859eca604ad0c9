"""Linear layers: oneDNN with prepacked weights on CPU, `torch.nn.functional.linear` elsewhere."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sie_server.choices import Activation

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
    A `residual` `[rows, sum(out_features)]` is added to what comes out, in its own dtype.
    Several checkpoint weights may lie one above the other in one product: `out_features` then has a number for each.

    Shapes: x `[rows, in_features]` → `[rows, sum(out_features)]`, dtype of the weight.
    """

    weight: Tensor

    def __init__(
        self, in_features: int, *out_features: int, activation: Activation = "none", bias: bool = True
    ) -> None:
        super().__init__()
        self.blocks = out_features
        self.weight = nn.Parameter(torch.empty(sum(out_features), in_features))
        self.bias = nn.Parameter(torch.empty(sum(out_features))) if bias else None
        self.activation = activation

    def pack(self) -> None:
        """Reorder the weight for oneDNN; a no-op off the CPU or where oneDNN is missing."""
        packed = _pack(self.weight)
        del self.weight
        self.weight = packed

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        y = _linear(x, self.weight, self.bias, self.activation)
        return y if residual is None else residual + y


class GatedLinear(Linear):
    """A gated unit (Shazeer 2020): `activation(x Wᵀ + b) · (x Vᵀ + c)`, W and V one above the other in the weight.

    gate_first: W is the upper one. The two are separate products, so that the activation is fused into its own.
    Shapes: x `[rows, in_features]` → `[rows, width]`, dtype of the weight.
    """

    def __init__(
        self, in_features: int, width: int, activation: Activation, gate_first: bool = True, bias: bool = True
    ) -> None:
        super().__init__(in_features, width, width, activation=activation, bias=bias)
        self.gate_first = gate_first
        self._halves: tuple[Tensor, ...] | None = None

    def pack(self) -> None:
        self._halves = tuple(map(_pack, self.weight.detach().chunk(2)))
        del self.weight

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        halves = self.weight.chunk(2) if self._halves is None else self._halves
        biases = (None, None) if self.bias is None else self.bias.chunk(2)
        pairs = list(zip(halves, biases, strict=True))
        gate, value = pairs if self.gate_first else pairs[::-1]
        y = _linear(x, *gate, self.activation) * _linear(x, *value, "none")
        return y if residual is None else residual + y


def _pack(weight: Tensor) -> Tensor:
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return weight.detach()
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), None)
    return packed


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None, activation: Activation) -> Tensor:
    rows = x.shape[0]
    function, name, algorithm = ACTIVATIONS[activation]
    x = at_least_min_rows(x.to(weight.dtype))
    if weight.is_mkldnn:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, name, [], algorithm)
    else:
        y = function(F.linear(x, weight, bias))
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
