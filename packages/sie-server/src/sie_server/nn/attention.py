"""Self-attention over packed sequences, one interface for every device."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from sie_server.nn.kernels.attention import installed_kernel
from sie_server.nn.packed import Packed

# Queries that a causal block takes at a time: it bounds the mask, and skips the keys behind the block.
_CAUSAL_BLOCK = 256

Block = tuple[slice, slice, Tensor | None]


def attention(
    q: Tensor, k: Tensor, v: Tensor, packed: Packed, window: int | None = None, causal: bool = False
) -> Tensor:
    """Softmax attention inside each packed sequence, scaled by 1/√head_dim (Vaswani et al. 2017, eq. 1).

    `window`: a token attends to those at most so many positions away; None: to all. With a window q has every token.
    `causal`: a token attends to itself and those before it, its prefix included.
    Tokens that `packed` has as not attended to are left out of the keys. With a window, there are at most so many of
    them in a sequence; `causal` does not go with them.

    Shapes: k, v `[key_tokens, kv_heads, head_dim]` (any stride over the first two), prefixes included; q
    `[tokens, heads, head_dim]` with `heads` a multiple of `kv_heads`, or one row per sequence
    `[sequences, heads, head_dim]` where only first tokens (`causal`: last tokens) are asked for → the shape of q, the
    dtype of v. Rotated q and k may still be float32.
    CUDA half precision takes the variable-length flash kernel, a CPU the one that was compiled at installation;
    everything else `scaled_dot_product_attention` once per run of equally long sequences. The result for a sequence
    is bit-identical to that sequence alone.
    """
    if packed.attended is not None:
        k, v = k[packed.attended], v[packed.attended]
    kernel = installed_kernel() if v.device.type == "cpu" else None
    if kernel is not None and kernel.takes(q, v):
        starts, _ = _queries(q, packed)
        return kernel(q, k, v, starts, packed.key_cu_seqlens, window, causal)
    # Flash attention would count a window from the last key, not from the query's position.
    moved = window is not None and packed.attended is not None
    if v.is_cuda and v.dtype in (torch.bfloat16, torch.float16) and not moved:
        return _flash_varlen(q.to(v.dtype), k.to(v.dtype), v, packed, window, causal)
    return _sdpa_per_run(q, k, v, packed, window, causal)


def attention_dtype(v: Tensor) -> torch.dtype:
    """What SDPA computes in: float32 on a CPU without AMX, whose bfloat16 is no faster, only less exact.

    PyTorch held to other instructions than AVX-512 has none for AMX.
    """
    amx = torch.cpu._is_amx_tile_supported() and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return torch.float32 if v.device.type == "cpu" and not amx else v.dtype


def _queries(q: Tensor, packed: Packed) -> tuple[Tensor, int]:
    """Where the queries of each sequence begin, int32 `[sequences + 1]`, and the most that one has."""
    if len(q) == len(packed.ids):
        return packed.cu_seqlens, packed.max_length
    return torch.arange(len(q) + 1, dtype=torch.int32, device=q.device), 1


def _flash_varlen(q: Tensor, k: Tensor, v: Tensor, packed: Packed, window: int | None, causal: bool) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    starts, most = _queries(q, packed)
    left = -1 if window is None else window
    # One split: with more, the order of a sum would depend on the longest sequence of the batch.
    out = varlen_attn(
        q,
        k,
        v,
        starts,
        packed.key_cu_seqlens,
        most,
        packed.max_keys,
        window_size=(left, 0 if causal else left),
        enable_gqa=q.shape[1] != k.shape[1],
        num_splits=1,
    )
    assert isinstance(out, Tensor)
    return out


def _sdpa_per_run(q: Tensor, k: Tensor, v: Tensor, packed: Packed, window: int | None, causal: bool) -> Tensor:
    _, heads, head_dim = q.shape
    kv_heads = k.shape[1]
    out = torch.empty(q.shape, dtype=v.dtype, device=q.device)
    dtype = attention_dtype(v)
    q, k, v = (x.to(dtype) for x in (q, k, v))
    every = len(q) == len(packed.ids)
    asked = seen = 0
    for _, count, length, visible in packed.runs:
        queries = length if every else 1
        rows, keys = slice(asked, asked + count * queries), slice(seen, seen + count * visible)
        asked, seen = rows.stop, keys.stop
        # [count, heads, length, head_dim], all views
        one = q[rows].view(count, queries, heads, head_dim).transpose(1, 2)
        two, three = (x[keys].view(count, visible, kv_heads, head_dim).transpose(1, 2) for x in (k, v))
        target = out[rows].view(count, queries, heads, head_dim)
        for block, near, mask in _blocks(visible, queries, window, causal, q.device):
            attended = F.scaled_dot_product_attention(
                one[:, :, block], two[:, :, near], three[:, :, near], attn_mask=mask, enable_gqa=heads != kv_heads
            )
            target[:, block] = attended.transpose(1, 2)
    return out


def _blocks(visible: int, queries: int, window: int | None, causal: bool, device: torch.device) -> Iterator[Block]:
    """Queries, the keys they can see, and which of those each one sees: all at once, or block by block."""
    if causal and queries > 1:
        return _causal_blocks(visible, queries, device)
    if window is None or max(queries, visible) <= window + 1:
        return iter([(slice(0, queries), slice(0, visible), None)])
    return _windows(visible, queries, window, device)


def _causal_blocks(visible: int, queries: int, device: torch.device) -> Iterator[Block]:
    prefix = visible - queries
    for first in range(0, queries, _CAUSAL_BLOCK):
        block = slice(first, min(first + _CAUSAL_BLOCK, queries))
        keys = prefix + block.stop
        # Added to the logits: a float mask costs nothing, a boolean one is converted in every call.
        mask = torch.full((block.stop - first, keys), float("-inf"), device=device).triu_(prefix + first + 1)
        yield block, slice(0, keys), mask


def _windows(visible: int, queries: int, window: int, device: torch.device) -> Iterator[Block]:
    size = 2 * window
    for first in range(0, queries, size):
        block = slice(first, min(first + size, queries))
        near = slice(max(first - window, 0), min(block.stop + window, visible))
        rows, columns = (torch.arange(part.start, part.stop, device=device) for part in (block, near))
        yield block, near, (rows[:, None] - columns).abs() <= window
