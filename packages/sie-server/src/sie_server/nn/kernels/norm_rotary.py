"""CPU kernels that process rows one by one: norms and rotary positions, in float32."""

import ctypes
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from sie_server.nn.kernels.library import installed_library, vector_isa_level

_DTYPES = (torch.float32, torch.bfloat16)
# Level from which on the attention kernel rounds queries and keys to bfloat16.
_BFLOAT16_ATTENTION = 4


class NormRotaryArguments(ctypes.Structure):
    """`NormRotaryArguments` of norm_rotary.h, field by field."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "y")),
        *((name, ctypes.c_int64) for name in ("x_row", "x_head")),
        *((name, ctypes.c_int32) for name in ("rows", "heads", "width", "x_bfloat16", "y_bfloat16")),
        *((name, ctypes.c_void_p) for name in ("weight", "bias")),
        ("eps", ctypes.c_float),
        ("rms", ctypes.c_int32),
        *((name, ctypes.c_void_p) for name in ("cos", "sin")),
    )


@dataclass(frozen=True)
class NormRotaryKernels:
    """Norms and rotation by the kernel. Calls release the GIL. level: as `vector_isa_level`."""

    library: ctypes.CDLL
    level: int

    def norm(self, x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, rms: bool) -> Tensor:
        """Apply LayerNorm or RMSNorm over the last dimension.

        Shapes: x `[rows, width]` or `[rows, heads, width]`; weight, bias float32 `[width]` → the shape of x, float32.
        """
        x = x if x.stride(-1) == 1 else x.contiguous()
        y = torch.empty(x.shape, dtype=torch.float32)
        bias_address = None if bias is None else bias.data_ptr()
        self._run(x, y, weight.data_ptr(), bias_address, eps, rms, None, None)
        return y

    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Rotate as `sie_server.nn.rotary.rotate` does.

        Shapes: x `[tokens, heads, head_dim]`; cos, sin float32 `[tokens, 1, head_dim]` → the shape of x, float32; or
        bfloat16 if x is and the attention kernel would round to it.
        """
        x = x if x.stride(-1) == 1 else x.contiguous()
        rounded = x.dtype == torch.bfloat16 and self.level >= _BFLOAT16_ATTENTION
        y = torch.empty(x.shape, dtype=torch.bfloat16 if rounded else torch.float32)
        self._run(x, y, None, None, 0, False, cos.data_ptr(), sin.data_ptr())
        return y

    def _run(self, x: Tensor, y: Tensor, *rest: float | None) -> None:
        heads, head_stride = (x.shape[1], x.stride(1)) if x.dim() == 3 else (1, 0)
        sizes = (len(x), heads, x.shape[-1], x.dtype == torch.bfloat16, y.dtype == torch.bfloat16)
        arguments = NormRotaryArguments(x.data_ptr(), y.data_ptr(), x.stride(0), head_stride, *sizes, *rest)
        if self.library.sie_norm_rotary(ctypes.byref(arguments), self.level):
            raise MemoryError("can't allocate memory for a row")


def norm_rotary_kernels(x: Tensor) -> NormRotaryKernels | None:
    """The kernels, or None if they are not installed or do not support x."""
    return _installed() if x.device.type == "cpu" and x.dtype in _DTYPES else None


@cache
def _installed() -> NormRotaryKernels | None:
    library = installed_library()
    return None if library is None else NormRotaryKernels(library, vector_isa_level())
