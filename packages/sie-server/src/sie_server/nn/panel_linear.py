"""Linear layers by a kernel of our own on a CPU, in float32, in bfloat16 or in 8-bit integers."""

import ctypes
import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sie_server.nn.kernels.library import installed_library, panel_level, vector_level
from sie_server.nn.linear import GatedLinear, Linear
from sie_server.options import Activation

_COLUMNS = 32  # of a panel in bfloat16 and in integers, kColumns of linear.h
_ALIGNMENT = 64
# Of a weight in integers, with the copy for outliers.
INT8_BYTES = 3
_TINY = torch.finfo(torch.float32).tiny


class _Curve(NamedTuple):
    """An activation function as `y · sigmoid(y · (a + b y² + c y⁴))`, with y² at most `limit`."""

    a: float
    b: float
    c: float
    limit: float


# GELU by erf: the coefficients with the least largest error, 2.5e-5, a hundredth of what bfloat16 rounds by. The others
# have this form exactly.
_CURVES: dict[Activation, _Curve] = {
    "none": _Curve(0, 0, 0, 0),
    "gelu": _Curve(1.59501568, 0.0740113657, -0.000703040609, 25),
    "gelu_tanh": _Curve(2 * math.sqrt(2 / math.pi), 2 * math.sqrt(2 / math.pi) * 0.044715, 0, math.inf),
    "silu": _Curve(1, 0, 0, math.inf),
}


Numbers = Literal["float32", "bfloat16", "int8"]
# As linear.h counts them.
_NUMBERS: dict[Numbers, int] = {"float32": 0, "bfloat16": 1, "int8": 2}
_CURVE, _ERF = 1, 2


class Arguments(ctypes.Structure):
    """`LinearArguments` of linear.h, field by field."""

    _fields_ = (
        *((n, ctypes.c_void_p) for n in ("x", "spread", "levels", "weights", "step", "sums", "bias", "residual", "y")),
        *((name, ctypes.c_int64) for name in ("x_row", "residual_row", "y_row")),
        *((name, ctypes.c_int32) for name in ("rows", "inputs", "outputs", "panels")),
        *((name, ctypes.c_int32) for name in ("numbers", "x_bfloat16", "y_bfloat16", "activated", "gated")),
        *((name, ctypes.c_float) for name in ("a", "b", "c", "limit")),
    )


def bfloat16_panels() -> bool:
    """Whether the kernel multiplies bfloat16 on this processor."""
    return panel_level() >= 2


class PanelLinear(nn.Module):
    """What a `Linear` or a `GatedLinear` computes, by the kernel; the weights lie in panels of a few columns.

    In float32; in bfloat16, summed in float32; or in integers. Then the columns of the weight are scaled to the same
    size, which the activations take over: so no column is rounded away beside a larger one. A row of activations gets
    256 levels between its least and its greatest value, except for its few largest values, which are multiplied in
    higher precision: they would stretch the levels of all others (Dettmers et al. 2022, LLM.int8()). A channel of the
    weight gets 255 levels around zero. Nothing is calibrated, and rows have nothing in common.

    Shapes: as those of `Linear`; x float32 or bfloat16. What is added to a residual stays float32.
    """

    weights: Tensor
    bias: Tensor | None
    spread: Tensor | None
    levels: Tensor | None
    step: Tensor | None
    sums: Tensor | None

    def __init__(self, linear: Linear, numbers: Numbers) -> None:
        super().__init__()
        library = installed_library()
        assert library is not None
        self._library, self._numbers = library, _NUMBERS[numbers]
        self._level = vector_level() if numbers == "float32" else panel_level()
        self.dtype = linear.weight.dtype
        self.gated = isinstance(linear, GatedLinear)
        self._activation = _activation(linear.activation, exact=numbers == "float32")
        self.outputs, self.inputs = linear.weight.shape
        self.panels = 0
        weight = linear.weight.detach()
        bias = None if linear.bias is None else linear.bias.detach().float()
        for name in ("spread", "levels", "step", "sums"):
            self.register_buffer(name, None)
        if numbers == "float32":
            self._lay(linear, weight.float(), bias)
        else:
            self._round(linear, weight, torch.zeros(len(weight)) if bias is None else bias, int8=numbers == "int8")
        tensors = (self.spread, self.levels, self.weights, self.step, self.sums, self.bias)
        self._constants = [_address(t) for t in tensors]

    def _lay(self, linear: Linear, weight: Tensor, bias: Tensor | None) -> None:
        columns = float32_columns(self._library, self._level)
        if isinstance(linear, GatedLinear):
            self.outputs //= 2
            weight = _interleaved(weight, linear.gate_first, columns).flatten(0, 1)
            bias = None if bias is None else _interleaved(bias, linear.gate_first, columns).flatten()
        laid = lay_float32(self._library, self._level, weight)
        self.panels = len(laid)
        self.register_buffer("weights", laid)
        self.register_buffer("bias", None if bias is None else _aligned(_panels(bias, columns)))

    def _round(self, linear: Linear, weight: Tensor, bias: Tensor, int8: bool) -> None:
        if int8:
            self.spread = weight.float().pow(2).mean(0).sqrt()
            weight = weight / self.spread.clamp_min(_TINY)
        if isinstance(linear, GatedLinear):
            self.outputs //= 2
            weight, bias = (_interleaved(x, linear.gate_first, _COLUMNS) for x in (weight, bias))
        else:
            weight, bias = _panels(weight, _COLUMNS), _panels(bias, _COLUMNS)
        if int8:
            self.step = weight.abs().amax(2).div_(127).clamp_min_(_TINY)
            levels = weight.div(self.step[:, :, None]).round_().to(torch.int8)
            self.sums = levels.sum(2).float()
            self.levels = self._cells(levels, 4)
        self.panels = len(bias)
        self.register_buffer("bias", bias)
        weights = weight.to(torch.bfloat16)
        self.register_buffer("weights", _outlier_weights(weights) if int8 else self._cells(weights, 2))

    def _cells(self, x: Tensor, numbers: int) -> Tensor:
        """`[panels, columns, n]` → `[panels, n / numbers, columns, numbers]`, so many of which have four bytes."""
        missing = -x.shape[2] % numbers
        cells = (F.pad(x, (0, missing)) if missing else x).flatten(0, 1).view(torch.float32)
        laid = lay_float32(self._library, vector_level(), cells)
        return laid.view(x.dtype).view(*laid.shape, numbers)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if x.dtype not in (torch.float32, torch.bfloat16):
            x = x.float()
        x = x if x.stride(1) == 1 else x.contiguous()
        dtype = self.dtype
        if residual is not None:
            dtype, residual = torch.float32, residual.float().contiguous()
        y = torch.empty(len(x), self.outputs, dtype=dtype)
        arguments = Arguments(
            *(x.data_ptr(), *self._constants, _address(residual), y.data_ptr()),
            *(x.stride(0), self.outputs, self.outputs),
            *(len(x), self.inputs, self.outputs, self.panels),
            *(self._numbers, x.dtype == torch.bfloat16, y.dtype == torch.bfloat16, self._activation[0], self.gated),
            *self._activation[1],
        )
        if self._library.sie_linear(ctypes.byref(arguments), self._level):
            raise MemoryError("no memory for a linear layer")
        return y


def _activation(activation: Activation, exact: bool) -> tuple[int, _Curve]:
    """Which one, as linear.h counts, and its curve as the kernel takes it: it computes y / (1 + 2^…)."""
    curve, slope = _CURVES[activation], -math.log2(math.e)
    which = 0 if activation == "none" else _ERF if exact and activation == "gelu" else _CURVE
    return which, _Curve(curve.a * slope, curve.b * slope, curve.c * slope, curve.limit)


def float32_columns(library: ctypes.CDLL, level: int) -> int:
    """Of a panel of float32 weights."""
    return int(library.sie_float32_columns(level))


def lay_float32(library: ctypes.CDLL, level: int, weight: Tensor) -> Tensor:
    """float32 `[n, inputs]` → panels `[panels, inputs, columns]`, with zeros behind the last row."""
    weight = weight.contiguous()
    rows, inputs = weight.shape
    columns = float32_columns(library, level)
    panels = _aligned_memory(-(-rows // columns), inputs, columns)
    library.sie_lay_float32(
        *(ctypes.c_void_p(weight.data_ptr()), ctypes.c_int64(rows), ctypes.c_int64(inputs)),
        *(ctypes.c_void_p(panels.data_ptr()), level),
    )
    return panels


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _panels(x: Tensor, size: int) -> Tensor:
    """`x` `[n, ...]` → `[panels, size, ...]`, the last one filled up with zeros."""
    if missing := -len(x) % size:
        x = torch.cat((x, x.new_zeros(missing, *x.shape[1:])))
    return x.view(-1, size, *x.shape[1:])


def _interleaved(x: Tensor, gate_first: bool, columns: int) -> Tensor:
    """Half of each panel from the gate's rows and half from the value's."""
    gate, value = x.chunk(2) if gate_first else x.chunk(2)[::-1]
    return torch.cat([_panels(half, columns // 2) for half in (gate, value)], dim=1)


def _outlier_weights(x: Tensor) -> Tensor:
    """`[panels, columns, n]` → `[panels, n, 16, 2]`, two columns half a panel apart beside each other."""
    return _aligned(x.view(len(x), 2, _COLUMNS // 2, -1).permute(0, 3, 2, 1))


def _aligned(x: Tensor) -> Tensor:
    """A contiguous copy from the beginning of a cache line on."""
    return _aligned_memory(*x.shape, dtype=x.dtype).copy_(x)


def _aligned_memory(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    size, item = math.prod(shape), dtype.itemsize
    memory = torch.empty(size + _ALIGNMENT // item, dtype=dtype)
    begin = -memory.data_ptr() % _ALIGNMENT // item
    return memory[begin : begin + size].view(shape)
