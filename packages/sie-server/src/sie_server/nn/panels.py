"""Linear layers by a kernel of our own on a CPU, in bfloat16 or in 8-bit integers."""

import ctypes
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sie_server.choices import Activation
from sie_server.nn.library import installed_library
from sie_server.nn.linear import GatedLinear, Linear

_COLUMNS = 32  # of a panel, kColumns of linear.h
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


class _Arguments(ctypes.Structure):
    """`LinearArguments` of linear.h, field by field."""

    _fields_ = (
        *((n, ctypes.c_void_p) for n in ("x", "spread", "levels", "weights", "step", "sums", "bias", "residual", "y")),
        *((name, ctypes.c_int64) for name in ("x_row", "residual_row", "y_row")),
        *((name, ctypes.c_int32) for name in ("rows", "inputs", "outputs", "panels")),
        *((name, ctypes.c_int32) for name in ("x_bfloat16", "y_bfloat16", "activated", "gated")),
        *((name, ctypes.c_float) for name in ("a", "b", "c", "limit")),
    )


def int8_level() -> int:
    """0 where the kernel is not installed or this processor has no AVX512-VNNI; 1 with it, 2 with AVX512-BF16 too."""
    library = installed_library()
    return 0 if library is None else int(library.sie_linear_level())


def bfloat16_panels() -> bool:
    """Whether the kernel is the fastest there is for bfloat16: on AVX512-BF16, but where AMX is, oneDNN has that."""
    return int8_level() == 2 and not torch.cpu._is_amx_tile_supported()


class PanelLinear(nn.Module):
    """What a `Linear` or a `GatedLinear` computes, by the kernel; the weights lie in panels of a few columns.

    In bfloat16, summed in float32; or, with `int8`, in integers. Then the columns of the weight are scaled to the same
    size, which the activations take over: so no column is rounded away beside a larger one. A row of activations gets
    256 levels between its least and its greatest value, except for its few largest values, which are multiplied in
    higher precision: they would stretch the levels of all others (Dettmers et al. 2022, LLM.int8()). A channel of the
    weight gets 255 levels around zero. Nothing is calibrated, and rows have nothing in common.

    Shapes: as those of `Linear`; x float32 or bfloat16. What is added to a residual stays float32.
    """

    weights: Tensor
    bias: Tensor
    spread: Tensor | None
    levels: Tensor | None
    step: Tensor | None
    sums: Tensor | None

    def __init__(self, linear: Linear, int8: bool) -> None:
        super().__init__()
        library = installed_library()
        assert library is not None
        self._library, self._level = library, int8_level()
        self.dtype = linear.weight.dtype
        self.activation, self.gated = linear.activation, isinstance(linear, GatedLinear)
        self.outputs, self.inputs = linear.weight.shape
        weight = linear.weight.detach()
        bias = torch.zeros(len(weight)) if linear.bias is None else linear.bias.detach().float()
        spread = None
        if int8:
            spread = weight.float().pow(2).mean(0).sqrt()
            weight = weight / spread.clamp_min(_TINY)
        if isinstance(linear, GatedLinear):
            self.outputs //= 2
            weight, bias = (_interleaved(x, linear.gate_first) for x in (weight, bias))
        else:
            weight, bias = _panels(weight, _COLUMNS), _panels(bias, _COLUMNS)
        step = sums = levels = None
        if int8:
            step = weight.abs().amax(2).div_(127).clamp_min_(_TINY)
            levels = weight.div(step[:, :, None]).round_().to(torch.int8)
            sums = levels.sum(2).float()
            levels = _cells(levels, 4)
        self.register_buffer("spread", spread)
        self.register_buffer("levels", levels)
        self.register_buffer("step", step)
        self.register_buffer("sums", sums)
        self.register_buffer("bias", bias)
        weights = weight.to(torch.bfloat16)
        self.register_buffer("weights", _outlier_weights(weights) if int8 else _cells(weights, 2))
        self._constants = [_address(t) for t in (spread, levels, self.weights, step, sums, bias)]

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if x.dtype not in (torch.float32, torch.bfloat16):
            x = x.float()
        x = x if x.stride(1) == 1 else x.contiguous()
        dtype = self.dtype
        if residual is not None:
            dtype, residual = torch.float32, residual.float().contiguous()
        y = torch.empty(len(x), self.outputs, dtype=dtype)
        curve = _CURVES[self.activation]
        slope = -math.log2(math.e)  # the kernel computes y / (1 + 2^…)
        arguments = _Arguments(
            *(x.data_ptr(), *self._constants, _address(residual), y.data_ptr()),
            *(x.stride(0), self.outputs, self.outputs),
            *(len(x), self.inputs, self.outputs, len(self.bias)),
            *(x.dtype == torch.bfloat16, y.dtype == torch.bfloat16, self.activation != "none", self.gated),
            *(curve.a * slope, curve.b * slope, curve.c * slope, curve.limit),
        )
        if self._library.sie_linear(ctypes.byref(arguments), self._level):
            raise MemoryError("no memory for a linear layer")
        return y


def lay_in_panels(module: nn.Module, int8: bool) -> None:
    """Put a `PanelLinear` in the place of every `Linear` under `module`."""
    for name, child in module.named_children():
        if isinstance(child, Linear):
            setattr(module, name, PanelLinear(child, int8))
        else:
            lay_in_panels(child, int8)


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _panels(x: Tensor, size: int) -> Tensor:
    """`x` `[n, ...]` → `[panels, size, ...]`, the last one filled up with zeros."""
    missing = x.new_zeros(-len(x) % size, *x.shape[1:])
    return torch.cat((x, missing)).view(-1, size, *x.shape[1:])


def _interleaved(x: Tensor, gate_first: bool) -> Tensor:
    """Half of each panel from the gate's rows and half from the value's."""
    gate, value = x.chunk(2) if gate_first else x.chunk(2)[::-1]
    return torch.cat([_panels(half, _COLUMNS // 2) for half in (gate, value)], dim=1)


def _cells(x: Tensor, numbers: int) -> Tensor:
    """`[panels, columns, n]` → `[panels, n / numbers, columns, numbers]`."""
    return _aligned(F.pad(x, (0, -x.shape[2] % numbers)).view(*x.shape[:2], -1, numbers).transpose(1, 2))


def _outlier_weights(x: Tensor) -> Tensor:
    """`[panels, columns, n]` → `[panels, n, 16, 2]`, two columns half a panel apart beside each other."""
    return _aligned(x.view(len(x), 2, _COLUMNS // 2, -1).permute(0, 3, 2, 1))


def _aligned(x: Tensor) -> Tensor:
    """A contiguous copy from the beginning of a cache line on."""
    spare = _ALIGNMENT // x.element_size()
    memory = torch.empty(x.numel() + spare, dtype=x.dtype)
    begin = -memory.data_ptr() % _ALIGNMENT // x.element_size()
    return memory[begin : begin + x.numel()].view(x.shape).copy_(x)
