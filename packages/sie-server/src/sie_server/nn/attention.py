"""Self-attention over packed sequences, one interface for every device."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from sie_server.nn.kernels.attention import installed_attention_kernel
from sie_server.nn.packed import Packed

# Queries of a causal block: bounds the size of the mask, and skips keys after the block.
_CAUSAL_BLOCK = 256

Block = tuple[slice, slice, Tensor | None]


def attention(
    q: Tensor, k: Tensor, v: Tensor, packed: Packed, window: int | None = None, causal: bool = False
) -> Tensor:
    """Softmax attention inside each packed sequence, scaled by 1/√head_dim (Vaswani et al. 2017, eq. 1).

    Computed by the variable-length flash kernel on CUDA in half precision, by the installed kernel on a CPU, and
    otherwise by `scaled_dot_product_attention`, once per run of equally long sequences. The result for a sequence is
    bit-identical to that of the sequence alone.

    window: largest distance in positions at which tokens attend to each other; None: unlimited. Needs q of all tokens.
    causal: whether tokens attend to themselves and earlier tokens only, including their prefix.
    packed: its unattended tokens are left out of the keys. A sequence has at most `window` of them, and with `causal`
        none.

    Shapes: k, v `[key_tokens, kv_heads, head_dim]`, including prefixes, with any stride over the first two dimensions;
    q `[tokens, heads, head_dim]`, or `[sequences, heads, head_dim]` for first tokens only (`causal`: last tokens), with
    `heads` a multiple of `kv_heads` → the shape of q, the dtype of v. q and k may be float32 while v is not.
    """
    if packed.attended is not None:
        k, v = k[packed.attended], v[packed.attended]
    kernel = installed_attention_kernel() if v.device.type == "cpu" else None
    if kernel is not None and kernel.supports(q, v):
        starts, _ = _queries(q, packed)
        return kernel(q, k, v, starts, packed.key_cu_seqlens, window, causal)
    # Flash attention would count a window from the last key, not from the query's position.
    shifted = window is not None and packed.attended is not None
    if v.is_cuda and v.dtype in (torch.bfloat16, torch.float16) and not shifted:
        return _flash_varlen(q.to(v.dtype), k.to(v.dtype), v, packed, window, causal)
    return _sdpa_per_run(q, k, v, packed, window, causal)


def attention_dtype(v: Tensor) -> torch.dtype:
    """Dtype for SDPA: float32 on a CPU without AMX, where bfloat16 is not faster, only less exact.

    PyTorch restricted to instruction sets below AVX-512 does not use AMX.
    """
    amx = torch.cpu._is_amx_tile_supported() and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return torch.float32 if v.device.type == "cpu" and not amx else v.dtype


def _queries(q: Tensor, packed: Packed) -> tuple[Tensor, int]:
    """Offsets of the sequences' queries, int32 `[sequences + 1]`, and the largest number of queries of a sequence."""
    if len(q) == len(packed.ids):
        return packed.cu_seqlens, packed.max_length
    return torch.arange(len(q) + 1, dtype=torch.int32, device=q.device), 1


def _flash_varlen(q: Tensor, k: Tensor, v: Tensor, packed: Packed, window: int | None, causal: bool) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    starts, max_queries = _queries(q, packed)
    left = -1 if window is None else window
    # One split: with more, the order of summation would depend on the longest sequence of the batch.
    out = varlen_attn(
        q,
        k,
        v,
        starts,
        packed.key_cu_seqlens,
        max_queries,
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
    all_tokens = len(q) == len(packed.ids)
    query_row = key_row = 0
    for _, count, length, visible in packed.runs:
        queries = length if all_tokens else 1
        rows, keys = slice(query_row, query_row + count * queries), slice(key_row, key_row + count * visible)
        query_row, key_row = rows.stop, keys.stop
        # [count, heads, length, head_dim], all views
        run_q = q[rows].view(count, queries, heads, head_dim).transpose(1, 2)
        run_k, run_v = (x[keys].view(count, visible, kv_heads, head_dim).transpose(1, 2) for x in (k, v))
        target = out[rows].view(count, queries, heads, head_dim)
        for block, near, mask in _blocks(visible, queries, window, causal, q.device):
            attended = F.scaled_dot_product_attention(
                run_q[:, :, block], run_k[:, :, near], run_v[:, :, near], attn_mask=mask, enable_gqa=heads != kv_heads
            )
            target[:, block] = attended.transpose(1, 2)
    return out


def _blocks(visible: int, queries: int, window: int | None, causal: bool, device: torch.device) -> Iterator[Block]:
    """Blocks of queries, with the keys they can attend to and a mask: a single block where no mask is needed."""
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
        # A float mask, as SDPA converts boolean masks in every call.
        mask = torch.full((block.stop - first, keys), float("-inf"), device=device).triu_(prefix + first + 1)
        yield block, slice(0, keys), mask


def _windows(visible: int, queries: int, window: int, device: torch.device) -> Iterator[Block]:
    size = 2 * window
    for first in range(0, queries, size):
        block = slice(first, min(first + size, queries))
        near = slice(max(first - window, 0), min(block.stop + window, visible))
        rows, columns = (torch.arange(part.start, part.stop, device=device) for part in (block, near))
        yield block, near, (rows[:, None] - columns).abs() <= window
