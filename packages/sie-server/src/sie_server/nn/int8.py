"""Linear layers in 8-bit integers on a CPU: each row of the activations and each output channel has its own scale."""

import ctypes
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sie_server.choices import Activation
from sie_server.nn.library import installed_library
from sie_server.nn.linear import GatedLinear, Linear

_COLUMNS = 64  # of a panel, kColumns of int8.h
_ALIGNMENT = 64
_TINY = torch.finfo(torch.float32).tiny


class _Curve(NamedTuple):
    """An activation function as `y · sigmoid(y · (a + b y² + c y⁴))`, with y² at most `limit`."""

    a: float
    b: float
    c: float
    limit: float


# GELU by erf: the coefficients with the least largest error, 2.5e-5, a hundredth of what int8 rounds by. The others
# have this form exactly.
_CURVES: dict[Activation, _Curve] = {
    "none": _Curve(0, 0, 0, 0),
    "gelu": _Curve(1.59501568, 0.0740113657, -0.000703040609, 25),
    "gelu_tanh": _Curve(2 * math.sqrt(2 / math.pi), 2 * math.sqrt(2 / math.pi) * 0.044715, 0, math.inf),
    "silu": _Curve(1, 0, 0, math.inf),
}


class _Arguments(ctypes.Structure):
    """`LinearArguments` of int8.h, field by field."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "spread", "levels", "weights", "step", "sums", "bias", "y")),
        *((name, ctypes.c_int64) for name in ("x_row", "y_row")),
        *((name, ctypes.c_int32) for name in ("rows", "inputs", "outputs", "panels")),
        *((name, ctypes.c_int32) for name in ("x_bfloat16", "y_bfloat16", "activated", "gated")),
        *((name, ctypes.c_float) for name in ("a", "b", "c", "limit")),
    )


def int8_level() -> int:
    """0 where the kernel is not installed or this processor has no AVX512-VNNI; 1 with it, 2 with AVX512-BF16 too."""
    library = installed_library()
    return 0 if library is None else int(library.sie_int8_level())


class Int8Linear(nn.Module):
    """What a `Linear` or a `GatedLinear` computes, in 8-bit integers.

    The columns of the weight are scaled to the same size, which the activations take over: so no column is rounded
    away beside a larger one. A row of activations gets 256 levels between its least and its greatest value, except for
    its few largest values, which are multiplied in higher precision: they would stretch the levels of all others
    (Dettmers et al. 2022, LLM.int8()). A channel of the weight gets 255 levels around zero. Nothing is calibrated, and
    rows have nothing in common.

    Shapes: x float32 or bfloat16 `[rows, in_features]` → `[rows, out_features]`, in the dtype the weight had.
    """

    spread: Tensor
    levels: Tensor
    weights: Tensor
    step: Tensor
    sums: Tensor
    bias: Tensor

    def __init__(self, linear: Linear) -> None:
        super().__init__()
        library = installed_library()
        assert library is not None
        self._library, self._level = library, int8_level()
        self.dtype = linear.weight.dtype
        self.activation, self.gated = linear.activation, isinstance(linear, GatedLinear)
        self.outputs, self.inputs = linear.weight.shape
        weight = linear.weight.detach().float()
        spread = weight.pow(2).mean(0).sqrt()
        weight = weight / spread.clamp_min(_TINY)
        bias = torch.zeros(len(weight)) if linear.bias is None else linear.bias.detach().float()
        if isinstance(linear, GatedLinear):
            self.outputs //= 2
            weight, bias = (_interleaved(x, linear.gate_first) for x in (weight, bias))
        else:
            weight, bias = _panels(weight, _COLUMNS), _panels(bias, _COLUMNS)
        step = weight.abs().amax(2).div_(127).clamp_min_(_TINY)
        levels = weight.div(step[:, :, None]).round_().to(torch.int8)
        self.register_buffer("spread", spread)
        self.register_buffer("step", step)
        self.register_buffer("bias", bias)
        self.register_buffer("sums", levels.sum(2).float())
        pairs = weight.to(torch.bfloat16).view(len(weight), _COLUMNS // 32, 2, 16, self.inputs).permute(0, 4, 1, 3, 2)
        self.register_buffer("weights", pairs.contiguous())
        levels = F.pad(levels, (0, -self.inputs % 4))
        levels = levels.view(len(levels), _COLUMNS, -1, 4).transpose(1, 2)
        self.register_buffer("levels", _aligned(levels))

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype not in (torch.float32, torch.bfloat16):
            x = x.float()
        x = x if x.stride(1) == 1 else x.contiguous()
        y = torch.empty(len(x), self.outputs, dtype=self.dtype)
        curve = _CURVES[self.activation]
        slope = -math.log2(math.e)  # the kernel computes y / (1 + 2^…)
        arguments = _Arguments(
            *(t.data_ptr() for t in (x, self.spread, self.levels, self.weights, self.step, self.sums, self.bias, y)),
            *(x.stride(0), y.stride(0), len(x), self.inputs, self.outputs, len(self.step)),
            *(x.dtype == torch.bfloat16, y.dtype == torch.bfloat16, self.activation != "none", self.gated),
            *(curve.a * slope, curve.b * slope, curve.c * slope, curve.limit),
        )
        if self._library.sie_int8_linear(ctypes.byref(arguments), self._level):
            raise MemoryError("no memory for a linear layer in int8")
        return y


def quantize_linears(module: nn.Module) -> None:
    """Put an `Int8Linear` in the place of every `Linear` under `module`."""
    for name, child in module.named_children():
        if isinstance(child, Linear):
            setattr(module, name, Int8Linear(child))
        else:
            quantize_linears(child)


def _panels(x: Tensor, size: int) -> Tensor:
    """`x` `[n, ...]` → `[panels, size, ...]`, the last one filled up with zeros."""
    missing = x.new_zeros(-len(x) % size, *x.shape[1:])
    return torch.cat((x, missing)).view(-1, size, *x.shape[1:])


def _interleaved(x: Tensor, gate_first: bool) -> Tensor:
    """Half of each panel from the gate's rows and half from the value's."""
    gate, value = x.chunk(2) if gate_first else x.chunk(2)[::-1]
    return torch.cat([_panels(half, _COLUMNS // 2) for half in (gate, value)], dim=1)


def _aligned(x: Tensor) -> Tensor:
    """A contiguous int8 copy that begins at a cache line."""
    memory = torch.empty(x.numel() + _ALIGNMENT, dtype=torch.int8)
    begin = -memory.data_ptr() % _ALIGNMENT
    return memory[begin : begin + x.numel()].view(x.shape).copy_(x)
