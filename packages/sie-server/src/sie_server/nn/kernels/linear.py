"""Linear layers by the CPU kernel, in float32, bfloat16 or int8."""

import ctypes
import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sie_server.nn.kernels.int8_weights import quantize, scale_input_channels
from sie_server.nn.kernels.library import installed_library, linear_isa_level, vector_isa_level
from sie_server.nn.linear import GatedLinear, Linear
from sie_server.options import Activation

_COLUMNS = 32  # of a panel in bfloat16 and int8; kColumns of linear.h
_ALIGNMENT = 64


class _Curve(NamedTuple):
    """An activation function as `y · sigmoid(y · (a + b s + c s²))` with s = min(y², limit)."""

    a: float
    b: float
    c: float
    limit: float


# GELU: the minimax coefficients, with an absolute error of 2.5e-5, a hundredth of the rounding error of bfloat16. The
# other functions have this form exactly.
_CURVES: dict[Activation, _Curve] = {
    "none": _Curve(0, 0, 0, 0),
    "gelu": _Curve(1.59501568, 0.0740113657, -0.000703040609, 25),
    "gelu_tanh": _Curve(2 * math.sqrt(2 / math.pi), 2 * math.sqrt(2 / math.pi) * 0.044715, 0, math.inf),
    "silu": _Curve(1, 0, 0, math.inf),
}


KernelDtype = Literal["float32", "bfloat16", "int8"]
# Values of `LinearDtype` and `Activation` in linear.h.
_KERNEL_DTYPES: dict[KernelDtype, int] = {"float32": 0, "bfloat16": 1, "int8": 2}
_CURVE, _ERF = 1, 2


class LinearArguments(ctypes.Structure):
    """`LinearArguments` of linear.h, field by field."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "input_scale", "int8_weights", "weights")),
        *((name, ctypes.c_void_p) for name in ("weight_scale", "weight_sums", "bias", "residual", "y")),
        *((name, ctypes.c_int64) for name in ("x_row", "residual_row", "y_row")),
        *((name, ctypes.c_int32) for name in ("rows", "inputs", "outputs", "panels")),
        *((name, ctypes.c_int32) for name in ("dtype", "x_bfloat16", "y_bfloat16", "activation", "gated")),
        *((name, ctypes.c_float) for name in ("a", "b", "c", "limit")),
    )


def bfloat16_panels() -> bool:
    """Whether the kernel supports bfloat16 on this processor."""
    return linear_isa_level() >= 3


class PanelLinear(nn.Module):
    """Computes a `Linear` or `GatedLinear` by the kernel, with weights in panels of a few output columns.

    In float32; in bfloat16, summed in float32; or in int8, with the weights of `int8_weights.py`. For int8, each row of
    activations is quantized to 256 levels between its minimum and maximum, except for a few values far above the
    others, which are multiplied in bfloat16 (Dettmers et al. 2022, LLM.int8()). There is no calibration, and rows are
    independent of each other.

    level: instruction set level of the kernel.

    Shapes: as for `Linear`; x float32 or bfloat16. With a residual, the result is float32; without one, in int8,
    bfloat16.
    """

    weights: Tensor
    bias: Tensor | None
    input_scale: Tensor | None
    int8_weights: Tensor | None
    weight_scale: Tensor | None
    weight_sums: Tensor | None

    def __init__(self, linear: Linear, dtype: KernelDtype) -> None:
        super().__init__()
        library = installed_library()
        assert library is not None
        self._library, self._dtype = library, _KERNEL_DTYPES[dtype]
        self.level = vector_isa_level() if dtype == "float32" else linear_isa_level()
        # Half the memory traffic, and attention multiplies it faster; int8 rounds more.
        self.dtype = torch.bfloat16 if dtype == "int8" else linear.weight.dtype
        self.gated = isinstance(linear, GatedLinear)
        self._activation = _activation(linear.activation, exact=dtype == "float32")
        self.outputs, self.inputs = linear.weight.shape
        self.panels = 0
        weight = linear.weight.detach()
        bias = None if linear.bias is None else linear.bias.detach().float()
        for name in ("input_scale", "int8_weights", "weight_scale", "weight_sums"):
            self.register_buffer(name, None)
        if dtype == "float32":
            self._pack_float32(linear, weight.float(), bias)
        else:
            self._pack_rounded(linear, weight, torch.zeros(len(weight)) if bias is None else bias, int8=dtype == "int8")
        tensors = (self.input_scale, self.int8_weights, self.weights, self.weight_scale, self.weight_sums, self.bias)
        # What is the same in every call; y has this dtype without a residual.
        self.constants = LinearArguments(
            *(None, *(_address(t) for t in tensors), None, None),
            *(self.inputs, self.outputs, self.outputs),
            *(0, self.inputs, self.outputs, self.panels),
            *(self._dtype, False, self.dtype == torch.bfloat16, self._activation[0], self.gated),
            *self._activation[1],
        )

    def _pack_float32(self, linear: Linear, weight: Tensor, bias: Tensor | None) -> None:
        columns = float32_columns(self._library, self.level)
        if isinstance(linear, GatedLinear):
            self.outputs //= 2
            weight = _interleave_gate(weight, linear.gate_first, columns).flatten(0, 1)
            bias = None if bias is None else _interleave_gate(bias, linear.gate_first, columns).flatten()
        panels = pack_float32_panels(self._library, self.level, weight)
        self.panels = len(panels)
        self.register_buffer("weights", panels)
        self.register_buffer("bias", None if bias is None else _aligned_copy(_split_into_panels(bias, columns)))

    def _pack_rounded(self, linear: Linear, weight: Tensor, bias: Tensor, int8: bool) -> None:
        if int8:
            weight, self.input_scale = scale_input_channels(weight)
        if isinstance(linear, GatedLinear):
            self.outputs //= 2
            weight, bias = (_interleave_gate(x, linear.gate_first, _COLUMNS) for x in (weight, bias))
        else:
            weight, bias = _split_into_panels(weight, _COLUMNS), _split_into_panels(bias, _COLUMNS)
        if int8:
            levels, self.weight_scale, self.weight_sums = quantize(weight)
            self.int8_weights = self._pack_cells(levels, 4)
        self.panels = len(bias)
        self.register_buffer("bias", bias)
        weights = weight.to(torch.bfloat16)
        self.register_buffer("weights", _outlier_weights(weights) if int8 else self._pack_cells(weights, 2))

    def _pack_cells(self, x: Tensor, cell: int) -> Tensor:
        """`[panels, columns, n]` → `[panels, n / cell, columns, cell]`, n padded; `cell` elements are four bytes."""
        missing = -x.shape[2] % cell
        cells = (F.pad(x, (0, missing)) if missing else x).view(torch.float32)
        if float32_columns(self._library, vector_isa_level()) == _COLUMNS:
            panels = pack_float32_panels(self._library, vector_isa_level(), cells.flatten(0, 1))
        else:
            panels = _aligned_copy(cells.transpose(1, 2))
        return panels.view(x.dtype).view(*panels.shape, cell)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if x.dtype not in (torch.float32, torch.bfloat16):
            x = x.float()
        x = x if x.stride(1) == 1 else x.contiguous()
        dtype = self.dtype
        if residual is not None:
            dtype, residual = torch.float32, residual.float().contiguous()
        y = torch.empty(x.shape[0], self.outputs, dtype=dtype)
        arguments = LinearArguments.from_buffer_copy(self.constants)
        arguments.x, arguments.x_row, arguments.x_bfloat16 = x.data_ptr(), x.stride(0), x.dtype == torch.bfloat16
        arguments.y, arguments.y_bfloat16, arguments.rows = y.data_ptr(), dtype == torch.bfloat16, x.shape[0]
        arguments.residual = _address(residual)
        if self._library.sie_linear(ctypes.byref(arguments), self.level):
            raise MemoryError("can't allocate memory for a linear layer")
        return y


def _activation(activation: Activation, exact: bool) -> tuple[int, _Curve]:
    """Value of `Activation` in linear.h, and the curve for the kernel, which computes y / (1 + 2^…)."""
    curve, slope = _CURVES[activation], -math.log2(math.e)
    form = 0 if activation == "none" else _ERF if exact and activation == "gelu" else _CURVE
    return form, _Curve(curve.a * slope, curve.b * slope, curve.c * slope, curve.limit)


def float32_columns(library: ctypes.CDLL, level: int) -> int:
    """Columns of a panel of float32 weights."""
    return int(library.sie_float32_columns(level))


def pack_float32_panels(library: ctypes.CDLL, level: int, weight: Tensor) -> Tensor:
    """Pack a float32 weight: `[n, inputs]` → `[panels, inputs, columns]`, padded with zeros."""
    weight = weight.contiguous()
    rows, inputs = weight.shape
    columns = float32_columns(library, level)
    panels = _aligned_memory(-(-rows // columns), inputs, columns)
    library.sie_pack_float32_panels(
        *(ctypes.c_void_p(weight.data_ptr()), ctypes.c_int64(rows), ctypes.c_int64(inputs)),
        *(ctypes.c_void_p(panels.data_ptr()), level),
    )
    return panels


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _split_into_panels(x: Tensor, size: int) -> Tensor:
    """`[n, ...]` → `[panels, size, ...]`, padded with zeros."""
    if missing := -len(x) % size:
        x = torch.cat((x, x.new_zeros(missing, *x.shape[1:])))
    return x.view(-1, size, *x.shape[1:])


def _interleave_gate(x: Tensor, gate_first: bool, columns: int) -> Tensor:
    """Split gate and value into panels, half of each panel from either."""
    gate, value = x.chunk(2) if gate_first else x.chunk(2)[::-1]
    return torch.cat([_split_into_panels(half, columns // 2) for half in (gate, value)], dim=1)


def _outlier_weights(x: Tensor) -> Tensor:
    """`[panels, columns, n]` → `[panels, n, 16, 2]`, in pairs of columns that are half a panel apart."""
    return _aligned_copy(x.view(len(x), 2, _COLUMNS // 2, -1).permute(0, 3, 2, 1))


def _aligned_copy(x: Tensor) -> Tensor:
    """A contiguous copy, aligned to cache lines."""
    return _aligned_memory(*x.shape, dtype=x.dtype).copy_(x)


def _aligned_memory(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    size, item = math.prod(shape), dtype.itemsize
    memory = torch.empty(size + _ALIGNMENT // item, dtype=dtype)
    begin = -memory.data_ptr() % _ALIGNMENT // item
    return memory[begin : begin + size].view(shape)
