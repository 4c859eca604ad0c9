"""Linear layers, as a checkpoint has them and as they are computed."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sie_server.nn.elementwise import in_whole_vectors
from sie_server.nn.row_invariance import in_sizes
from sie_server.options import Activation

# Each as a function, and as oneDNN's name and algorithm of it. There "none" means the exact erf form of GELU.
ACTIVATIONS: dict[Activation, tuple[Callable[[Tensor], Tensor], str, str]] = {
    "none": (lambda x: x, "none", ""),
    "gelu": (in_whole_vectors(F.gelu), "gelu", "none"),
    "gelu_tanh": (in_whole_vectors(partial(F.gelu, approximate="tanh")), "gelu", "tanh"),
    "silu": (in_whole_vectors(F.silu), "swish", ""),
}


class Linear(nn.Module):
    """`activation(x Wᵀ + b)` over the last dimension.

    The input is cast to the weight's dtype, so a float32 residual stream feeds bfloat16 products without the caller
    saying so.
    A `residual` `[rows, sum(out_features)]` is added to what comes out, in its own dtype.
    Several checkpoint weights may lie one above the other in one product: `out_features` then has a number for each.
    packed: what computes it once a model is loaded; weight and bias are gone then. numbers: how many there are in both.

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
        self.numbers = sum(p.numel() for p in (self.weight, self.bias) if p is not None)
        self.activation = activation
        self.packed: nn.Module | None = None
        self._sizes: tuple[int, ...] | None = None

    def pack(self, packed: nn.Module, sizes: tuple[int, ...] | None) -> None:
        """Leave the computing to `packed`, in calls of so many rows; None: of any number of them."""
        self.packed, self._sizes = packed, sizes
        del self.weight, self.bias

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if self.packed is not None:
            if self._sizes is not None:
                return in_sizes(self.packed, self._sizes, x, residual)
            packed: Tensor = self.packed(x, residual)
            return packed
        y = self._formula(x.to(self.weight.dtype))
        return y if residual is None else residual + y

    def _formula(self, x: Tensor) -> Tensor:
        function, _, _ = ACTIVATIONS[self.activation]
        return function(F.linear(x, self.weight, self.bias))


class GatedLinear(Linear):
    """A gated unit (Shazeer 2020): `activation(x Wᵀ + b) · (x Vᵀ + c)`, W and V one above the other in the weight.

    gate_first: W is the upper one.
    Shapes: x `[rows, in_features]` → `[rows, width]`, dtype of the weight.
    """

    def __init__(
        self, in_features: int, width: int, activation: Activation, gate_first: bool = True, bias: bool = True
    ) -> None:
        super().__init__(in_features, width, width, activation=activation, bias=bias)
        self.gate_first = gate_first

    def halves(self) -> list[tuple[Tensor, Tensor | None]]:
        """Weight and bias of the gate and of the value."""
        biases = (None, None) if self.bias is None else self.bias.chunk(2)
        pairs = list(zip(self.weight.chunk(2), biases, strict=True))
        return pairs if self.gate_first else pairs[::-1]

    def _formula(self, x: Tensor) -> Tensor:
        function, _, _ = ACTIVATIONS[self.activation]
        gate, value = (F.linear(x, weight, bias) for weight, bias in self.halves())
        return function(gate) * value


class LibraryLinear(nn.Module):
    """A `Linear` or a `GatedLinear` by PyTorch's libraries: on a CPU by oneDNN, with its weights in oneDNN's blocked
    layout and bias and activation fused into the product.

    How many rows there are may decide in which order those sum (`nn/row_invariance.py`).
    """

    weight0: Tensor
    bias0: Tensor | None
    weight1: Tensor
    bias1: Tensor | None

    def __init__(self, linear: Linear) -> None:
        super().__init__()
        self.activation = linear.activation
        parts = linear.halves() if isinstance(linear, GatedLinear) else [(linear.weight, linear.bias)]
        self.gated = len(parts) == 2
        self.dtype = linear.weight.dtype
        for i, (weight, bias) in enumerate(parts):
            self.register_buffer(f"weight{i}", _reordered(weight.detach()))
            self.register_buffer(f"bias{i}", None if bias is None else bias.detach())

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        x = x.to(self.dtype)
        y = _product(x, self.weight0, self.bias0, self.activation)
        if self.gated:
            y = y * _product(x, self.weight1, self.bias1, "none")
        return y if residual is None else residual + y


def _reordered(weight: Tensor) -> Tensor:
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return weight
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
    return packed


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, activation: Activation) -> Tensor:
    function, name, algorithm = ACTIVATIONS[activation]
    if not weight.is_mkldnn:
        return function(F.linear(x, weight, bias))
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, name, [], algorithm)
    return y
