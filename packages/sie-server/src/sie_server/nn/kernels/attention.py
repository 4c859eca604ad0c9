"""The CPU kernel for attention."""

import ctypes
import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from sie_server.nn.kernels.library import installed_library, vector_isa_level

_MAX_HEAD_DIM = 256
_DTYPES = (torch.float32, torch.bfloat16)


class _AttentionArguments(ctypes.Structure):
    """`AttentionArguments` of attention.h, field by field."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("q", "k", "v", "out", "query_starts", "key_starts")),
        *((name, ctypes.c_int64) for name in ("q_row", "q_head", "k_row", "k_head", "v_row", "v_head", "out_row")),
        *((name, ctypes.c_int32) for name in ("sequences", "heads", "kv_heads", "head_dim")),
        *((name, ctypes.c_int32) for name in ("window", "causal", "qk_bfloat16", "v_bfloat16")),
        ("scale", ctypes.c_float),
    )


@dataclass(frozen=True)
class AttentionKernel:
    """Softmax attention by the kernel. Calls release the GIL.

    level: as `vector_isa_level`. If v is bfloat16, products are computed in integers of 16 bits at level 3, which
        rounds less than bfloat16, and from level 4 on in bfloat16, summed in float32; everything else is float32.
    """

    library: ctypes.CDLL
    level: int

    @staticmethod
    def supports(q: Tensor, v: Tensor) -> bool:
        """Whether the kernel supports these dtypes and this head size."""
        return v.device.type == "cpu" and q.dtype in _DTYPES and v.dtype in _DTYPES and q.shape[2] <= _MAX_HEAD_DIM

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, starts: Tensor, key_starts: Tensor, window: int | None, causal: bool
    ) -> Tensor:
        """Compute `attention` for sequences with the offsets `starts` (queries) and `key_starts` (keys).

        Shapes: q `[queries, heads, head_dim]`; k, v `[keys, kv_heads, head_dim]`; starts, key_starts int32
        `[sequences + 1]`, ending with the total → the shape of q, the dtype of v.

        Raises:
            MemoryError: a copy of one head's keys and values of the longest sequence can't be allocated.
        """
        q, k, v = (x if x.stride(2) == 1 else x.contiguous() for x in (q, k.to(q.dtype), v))
        _, heads, head_dim = q.shape
        out = torch.empty(q.shape, dtype=v.dtype)
        arguments = _AttentionArguments(
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
            raise MemoryError("can't allocate memory for attention")
        return out


@cache
def installed_attention_kernel() -> AttentionKernel | None:
    """The kernel, or None if the library is not installed."""
    library = installed_library()
    return None if library is None else AttentionKernel(library, vector_isa_level())
