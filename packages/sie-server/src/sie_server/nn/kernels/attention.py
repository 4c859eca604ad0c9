"""The kernel for attention on a CPU."""

import ctypes
import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from sie_server.nn.kernels.library import installed_library, vector_level

_MAX_HEAD_DIM = 256
_DTYPES = (torch.float32, torch.bfloat16)


class _Arguments(ctypes.Structure):
    """`AttentionArguments` of attention.h, field by field."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("q", "k", "v", "out", "query_starts", "key_starts")),
        *((name, ctypes.c_int64) for name in ("q_row", "q_head", "k_row", "k_head", "v_row", "v_head", "out_row")),
        *((name, ctypes.c_int32) for name in ("sequences", "heads", "kv_heads", "head_dim")),
        *((name, ctypes.c_int32) for name in ("window", "causal", "qk_bfloat16", "v_bfloat16")),
        ("scale", ctypes.c_float),
    )


@dataclass(frozen=True)
class Kernel:
    """Softmax attention, without the interpreter's lock.

    level: instructions it may use. 0 those of every processor, 1 AVX2, 2 AVX-512, 3 AVX512-BF16 too. On level 3 the
    products are in bfloat16, summed in float32, where v is bfloat16; everything else is computed in float32.
    """

    library: ctypes.CDLL
    level: int

    @staticmethod
    def takes(q: Tensor, v: Tensor) -> bool:
        """Whether it knows these dtypes and this head size."""
        return v.device.type == "cpu" and q.dtype in _DTYPES and v.dtype in _DTYPES and q.shape[2] <= _MAX_HEAD_DIM

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, starts: Tensor, key_starts: Tensor, window: int | None, causal: bool
    ) -> Tensor:
        """As `attention`, for queries and keys whose sequences begin at `starts` and `key_starts`.

        Shapes: q `[queries, heads, head_dim]`, k, v `[keys, kv_heads, head_dim]`, starts and key_starts int32
        `[sequences + 1]`, closed by the total → the shape of q, the dtype of v.
        Raises MemoryError where there is none for a copy of the longest sequence's keys and values of one head.
        """
        q, k, v = (x if x.stride(2) == 1 else x.contiguous() for x in (q, k.to(q.dtype), v))
        _, heads, head_dim = q.shape
        out = torch.empty(q.shape, dtype=v.dtype)
        arguments = _Arguments(
            *(x.data_ptr() for x in (q, k, v, out, starts, key_starts)),
            *(stride for x in (q, k, v) for stride in x.stride()[:2]),
            out.stride(0),
            len(starts) - 1,
            heads,
            k.shape[1],
            head_dim,
            -1 if window is None else window,
            causal,
            q.dtype == torch.bfloat16,
            v.dtype == torch.bfloat16,
            1 / math.sqrt(head_dim),
        )
        if self.library.sie_attention(ctypes.byref(arguments), self.level):
            raise MemoryError("no memory for attention")
        return out


@cache
def installed_kernel() -> Kernel | None:
    """The kernel at the level of `vector_level`, or None where the library is not installed."""
    library = installed_library()
    return None if library is None else Kernel(library, vector_level())
