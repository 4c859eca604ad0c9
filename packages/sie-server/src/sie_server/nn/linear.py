"""Linear layers: as stored in a checkpoint, and as computed by PyTorch's libraries."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sie_server.nn.activations import ACTIVATIONS
from sie_server.nn.row_invariance import in_row_counts
from sie_server.options import Activation


class Linear(nn.Module):
    """`activation(x Wᵀ + b)` over the last dimension.

    The input is cast to the weight's dtype, so that a float32 residual stream can feed bfloat16 products.

    out_features: one number per checkpoint weight; several weights are stacked and computed as one product.
    backend: computes the layer once a model is loaded; weight and bias are deleted then. row_counts: of its calls.
    num_parameters: elements of weight and bias.

    Shapes: x `[rows, in_features]` → `[rows, sum(out_features)]`, dtype of the weight. `residual`
    `[rows, sum(out_features)]` is added to the result, in its own dtype.
    """

    weight: Tensor

    def __init__(
        self, in_features: int, *out_features: int, activation: Activation = "none", bias: bool = True
    ) -> None:
        super().__init__()
        self.blocks = out_features
        self.weight = nn.Parameter(torch.empty(sum(out_features), in_features))
        self.bias = nn.Parameter(torch.empty(sum(out_features))) if bias else None
        self.num_parameters = sum(p.numel() for p in (self.weight, self.bias) if p is not None)
        self.activation = activation
        self.backend: nn.Module | None = None
        self.row_counts: tuple[int, ...] | None = None

    def use_backend(self, backend: nn.Module, row_counts: tuple[int, ...] | None) -> None:
        """Compute by `backend` from now on, in calls of one of `row_counts` rows; None: of any number of rows."""
        self.backend, self.row_counts = backend, row_counts
        del self.weight, self.bias

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if self.backend is not None:
            if self.row_counts is not None:
                return in_row_counts(self.backend, self.row_counts, x, residual)
            y: Tensor = self.backend(x, residual)
            return y
        y = self._reference(x.to(self.weight.dtype))
        return y if residual is None else residual + y

    def _reference(self, x: Tensor) -> Tensor:
        function, _, _ = ACTIVATIONS[self.activation]
        return function(F.linear(x, self.weight, self.bias))


class GatedLinear(Linear):
    """Gated linear unit (Shazeer 2020): `activation(x Wᵀ + b) · (x Vᵀ + c)`, with W and V stacked in the weight.

    gate_first: whether W comes first.

    Shapes: x `[rows, in_features]` → `[rows, width]`, dtype of the weight.
    """

    def __init__(
        self, in_features: int, width: int, activation: Activation, gate_first: bool = True, bias: bool = True
    ) -> None:
        super().__init__(in_features, width, width, activation=activation, bias=bias)
        self.gate_first = gate_first

    def gate_and_value(self) -> list[tuple[Tensor, Tensor | None]]:
        """Weight and bias of the gate, and of the value."""
        biases = (None, None) if self.bias is None else self.bias.chunk(2)
        pairs = list(zip(self.weight.chunk(2), biases, strict=True))
        return pairs if self.gate_first else pairs[::-1]

    def _reference(self, x: Tensor) -> Tensor:
        function, _, _ = ACTIVATIONS[self.activation]
        gate, value = (F.linear(x, weight, bias) for weight, bias in self.gate_and_value())
        return function(gate) * value


class LibraryLinear(nn.Module):
    """Computes a `Linear` or `GatedLinear` by PyTorch's libraries.

    On a CPU by oneDNN, with weights in its blocked layout, and bias and activation fused into the product. The order of
    summation may depend on the number of rows (`nn/row_invariance.py`).
    """

    weight0: Tensor
    bias0: Tensor | None
    weight1: Tensor
    bias1: Tensor | None

    def __init__(self, linear: Linear) -> None:
        super().__init__()
        self.activation = linear.activation
        parts = linear.gate_and_value() if isinstance(linear, GatedLinear) else [(linear.weight, linear.bias)]
        self.gated = len(parts) == 2
        self.dtype = linear.weight.dtype
        for i, (weight, bias) in enumerate(parts):
            self.register_buffer(f"weight{i}", _reorder(weight.detach()))
            self.register_buffer(f"bias{i}", None if bias is None else bias.detach())

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        x = x.to(self.dtype)
        y = _product(x, self.weight0, self.bias0, self.activation)
        if self.gated:
            y = y * _product(x, self.weight1, self.bias1, "none")
        return y if residual is None else residual + y


def _reorder(weight: Tensor) -> Tensor:
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return weight
    reordered: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
    return reordered


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, activation: Activation) -> Tensor:
    function, name, algorithm = ACTIVATIONS[activation]
    if not weight.is_mkldnn:
        return function(F.linear(x, weight, bias))
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, name, [], algorithm)
    return y
