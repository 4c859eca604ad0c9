"""Attention with a bias on its logits, as for relative positions."""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from sie_server.nn.attention import attention_dtype
from sie_server.nn.packed import Packed

# Logits computed together, by device. On a CPU, larger allocations are mapped anew every time, and their page faults
# cost more than the products.
_TILE_LOGITS = {"cpu": 1 << 18, "cuda": 1 << 25}
# Queries of a sequence computed together; bounds the memory of long sequences.
_TILE_QUERIES = 512


class AttentionBias(Protocol):
    """A bias on the logits of attention.

    scale: factor of the logits before the bias is added; None: 1/√head_dim.
    """

    @property
    def scale(self) -> float | None: ...

    def __call__(self, q: Tensor, k: Tensor, heads: slice, first: int) -> Tensor:
        """Compute the bias of some heads of one sequence, for its queries from position `first` on.

        Shapes: q `[heads, queries, head_dim]`, k `[heads, length, head_dim]` → float32 `[heads, queries, length]`.
        """
        ...


def biased_attention(q: Tensor, k: Tensor, v: Tensor, packed: Packed, bias: AttentionBias) -> Tensor:
    """Bidirectional softmax attention inside each packed sequence, with a bias on its logits.

    Computed one sequence at a time, even if neighbours are equally long: a bias comes from batched products of small
    matrices, whose bits depend on the batch size. Each sequence is copied, so that layout and alignment depend on its
    length alone.

    Shapes: k, v `[tokens, heads, head_dim]`, with any stride over the first two dimensions; q the same, or
    `[sequences, heads, head_dim]` for first tokens only → the shape of q.
    """
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    dtype = attention_dtype(v)  # a bias computes its products in the weights' precision
    _, heads, _ = q.shape
    query_row = key_row = 0
    for length in packed.lengths:
        queries = length if len(q) == len(k) else 1
        rows, keys = slice(query_row, query_row + queries), slice(key_row, key_row + length)
        query_row, key_row = rows.stop, keys.stop
        # [heads, length, head_dim]
        copies = [x.transpose(0, 1).clone(memory_format=torch.contiguous_format) for x in (q[rows], k[keys], v[keys])]
        bias_q, bias_k, _ = copies
        seq_q, seq_k, seq_v = (x.to(dtype) for x in copies)
        target = out[rows].transpose(0, 1)
        for head_slice, block in _tiles(heads, queries, length, q.device.type):
            mask = bias(bias_q[head_slice, block], bias_k[head_slice], head_slice, block.start).to(dtype)
            target[head_slice, block] = F.scaled_dot_product_attention(
                seq_q[None, head_slice, block],
                seq_k[None, head_slice],
                seq_v[None, head_slice],
                attn_mask=mask[None],
                scale=bias.scale,
            )[0]
    return out


def _tiles(heads: int, queries: int, length: int, device: str) -> list[tuple[slice, slice]]:
    """Split the heads and queries of a sequence into tiles, by its length alone."""
    heads_per_tile = max(_TILE_LOGITS[device] // (min(queries, _TILE_QUERIES) * length), 1)
    return [
        (slice(head, head + heads_per_tile), slice(first, first + _TILE_QUERIES))
        for head in range(0, heads, heads_per_tile)
        for first in range(0, queries, _TILE_QUERIES)
    ]


class BucketedBias:
    """Bias by bucket of relative positions, shared by all layers (Raffel et al. 2020, section 2.1).

    Caches biases, and is made for one batch. table: float32 `[buckets, heads]`.
    """

    scale = None

    def __init__(self, table: Tensor) -> None:
        self._all_heads: Callable[[int, int, int], Tensor] = cache(partial(_look_up_biases, table))

    def __call__(self, q: Tensor, k: Tensor, heads: slice, first: int) -> Tensor:
        return self._all_heads(first, q.shape[1], k.shape[1])[heads]


def _look_up_biases(table: Tensor, first: int, queries: int, length: int) -> Tensor:
    buckets = t5_buckets(distances(first, queries, length), len(table)).to(table.device)
    return table.T[:, buckets]  # [heads, queries, length]


def distances(first: int, queries: int, length: int) -> Tensor:
    """Positions of queries, from `first` on, minus positions of keys: int64 `[queries, length]`, on the CPU."""
    return torch.arange(first, first + queries)[:, None] - torch.arange(length)


def t5_buckets(distance: Tensor, buckets: int, max_distance: int = 128) -> Tensor:
    """T5's buckets, `[0, buckets)`: the lower half for keys before the query, the upper half for keys after it.

    Computed in float32 and in the reference's order of operations, as a logarithm is rounded down to an integer.
    """
    side = buckets // 2
    near = side // 2
    far = distance.abs().clamp(min=near)
    steps = torch.log(far.float() / near) / math.log(max_distance / near) * (side - near)
    bucket = torch.where(distance.abs() < near, distance.abs(), (near + steps.long()).clamp(max=side - 1))
    return bucket + side * (distance < 0)
