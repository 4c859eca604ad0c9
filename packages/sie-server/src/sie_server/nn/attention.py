"""Self-attention over packed sequences, one interface for every device."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from sie_server.engine.packed import Packed


def attention(q: Tensor, k: Tensor, v: Tensor, packed: Packed, window: int | None = None) -> Tensor:
    """Bidirectional softmax attention inside each packed sequence, scaled by 1/√head_dim (Vaswani et al. 2017, eq. 1).

    `window`: a token attends to those at most so many positions away; None: to all. With a window q has every token.

    Shapes: k, v `[tokens, heads, head_dim]` (any stride over the first two); q the same, or one row per sequence
    `[sequences, heads, head_dim]` where only first tokens are asked for → the shape of q.
    CUDA half precision takes the variable-length flash kernel; everything else `scaled_dot_product_attention` once
    per run of equally long sequences, whose result for a sequence is bit-identical to that sequence alone.
    """
    if q.is_cuda and q.dtype in (torch.bfloat16, torch.float16):
        return _flash_varlen(q, k, v, packed, window)
    return _sdpa_per_run(q, k, v, packed, window)


def _flash_varlen(q: Tensor, k: Tensor, v: Tensor, packed: Packed, window: int | None) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    longest = packed.max_length
    starts, most = packed.cu_seqlens, longest
    if len(q) != len(k):
        starts, most = torch.arange(len(q) + 1, dtype=torch.int32, device=q.device), 1
    sides = (-1, -1) if window is None else (window, window)
    # One split: with more, the order of a sum would depend on the longest sequence of the batch.
    out = varlen_attn(q, k, v, starts, packed.cu_seqlens, most, longest, window_size=sides, num_splits=1)
    assert isinstance(out, Tensor)
    return out


def _sdpa_per_run(q: Tensor, k: Tensor, v: Tensor, packed: Packed, window: int | None) -> Tensor:
    _, heads, head_dim = q.shape
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    # Without AMX the CPU's bfloat16 attention is no faster than float32, only less exact.
    exact = q.device.type == "cpu" and not torch.cpu._is_amx_tile_supported()
    q, k, v = (x.float() if exact else x for x in (q, k, v))
    asked = 0
    for start, count, length in packed.runs:
        queries = length if len(q) == len(k) else 1
        rows, keys = slice(asked, asked + count * queries), slice(start, start + count * length)
        asked = rows.stop
        # [count, heads, length, head_dim], all views
        one = q[rows].view(count, queries, heads, head_dim).transpose(1, 2)
        two, three = (x[keys].view(count, length, heads, head_dim).transpose(1, 2) for x in (k, v))
        target = out[rows].view(count, queries, heads, head_dim)
        for block, near, mask in _blocks(length, queries, window, q.device):
            attended = F.scaled_dot_product_attention(
                one[:, :, block], two[:, :, near], three[:, :, near], attn_mask=mask
            )
            target[:, block] = attended.transpose(1, 2)
    return out


def _blocks(
    length: int, queries: int, window: int | None, device: torch.device
) -> Iterator[tuple[slice, slice, Tensor | None]]:
    """Queries, the keys they can see, and which of those each one sees: all at once, or in blocks of a window."""
    if window is None or length <= window + 1:
        yield slice(0, queries), slice(0, length), None
        return
    size = 2 * window
    for first in range(0, length, size):
        block = slice(first, min(first + size, length))
        near = slice(max(first - window, 0), min(block.stop + window, length))
        rows, columns = (torch.arange(part.start, part.stop, device=device) for part in (block, near))
        yield block, near, (rows[:, None] - columns).abs() <= window
