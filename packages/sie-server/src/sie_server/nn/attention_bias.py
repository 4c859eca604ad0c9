"""Attention that knows how far tokens stand apart: a bias on its logits."""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from sie_server.nn.attention import attention_dtype
from sie_server.nn.packed import Packed

# Logits that are computed together, by device. On CPU a larger allocation is fresh memory every time, whose first
# touch costs more than the products.
_TILE_LOGITS = {"cpu": 1 << 18, "cuda": 1 << 25}
# Queries of a sequence that are computed together: bounds the memory of long sequences.
_TILE_QUERIES = 512


class Bias(Protocol):
    """What is added to the logits of attention, and what these are multiplied by before (None: 1/√head_dim)."""

    @property
    def scale(self) -> float | None: ...

    def __call__(self, q: Tensor, k: Tensor, heads: slice, first: int) -> Tensor:
        """The bias of some heads of one sequence, for its queries from position `first` on.

        Shapes: q `[heads, queries, head_dim]`, k `[heads, length, head_dim]` → float32 `[heads, queries, length]`.
        """
        ...


def biased_attention(q: Tensor, k: Tensor, v: Tensor, packed: Packed, bias: Bias) -> Tensor:
    """Bidirectional softmax attention inside each packed sequence, with a bias on its logits.

    Shapes: k, v `[tokens, heads, head_dim]` (any stride over the first two); q the same, or one row per sequence
    `[sequences, heads, head_dim]` where only first tokens are asked for → the shape of q.
    Computed sequence by sequence, also where equally long ones are neighbours: a bias comes from batched products of
    small matrices, and such a product's bits depend on how many stand beside it. Each works on copies, whose layout
    and alignment its length alone decides.
    """
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    dtype = attention_dtype(v)  # a bias has its own products, in the weights' precision
    _, heads, _ = q.shape
    row = asked = 0
    for length in packed.lengths:
        queries = length if len(q) == len(k) else 1
        mine, keys = slice(asked, asked + queries), slice(row, row + length)
        asked, row = mine.stop, keys.stop
        # [heads, length, head_dim]
        own_q, own_k = (x.transpose(0, 1).clone(memory_format=torch.contiguous_format) for x in (q[mine], k[keys]))
        target = out[mine].transpose(0, 1)
        one, two, three = (own_q, own_k, v[keys].transpose(0, 1).clone(memory_format=torch.contiguous_format))
        one, two, three = (x.to(dtype) for x in (one, two, three))
        for some, block in _tiles(heads, queries, length, q.device.type):
            mask = bias(own_q[some, block], own_k[some], some, block.start).to(one.dtype)
            target[some, block] = F.scaled_dot_product_attention(
                one[None, some, block], two[None, some], three[None, some], attn_mask=mask[None], scale=bias.scale
            )[0]
    return out


def _tiles(heads: int, queries: int, length: int, device: str) -> list[tuple[slice, slice]]:
    """Heads and queries of one sequence that are computed together; nothing but its length decides."""
    together = max(_TILE_LOGITS[device] // (min(queries, _TILE_QUERIES) * length), 1)
    return [
        (slice(head, head + together), slice(first, first + _TILE_QUERIES))
        for head in range(0, heads, together)
        for first in range(0, queries, _TILE_QUERIES)
    ]


class SharedBias:
    """A learned number per head and bucket of distances, the same in all layers (Raffel et al. 2020, section 2.1).

    `table`: float32 `[buckets, heads]`. For one batch, whose layers all ask for the same.
    """

    scale = None

    def __init__(self, table: Tensor) -> None:
        self._of_all_heads: Callable[[int, int, int], Tensor] = cache(partial(_looked_up, table))

    def __call__(self, q: Tensor, k: Tensor, heads: slice, first: int) -> Tensor:
        return self._of_all_heads(first, q.shape[1], k.shape[1])[heads]


def _looked_up(table: Tensor, first: int, queries: int, length: int) -> Tensor:
    buckets = t5_buckets(distances(first, queries, length), len(table)).to(table.device)
    return table.T[:, buckets]  # [heads, queries, length]


def distances(first: int, queries: int, length: int) -> Tensor:
    """How far each query, from position `first` on, stands behind each key: int64 `[queries, length]`, on the CPU."""
    return torch.arange(first, first + queries)[:, None] - torch.arange(length)


def t5_buckets(distance: Tensor, buckets: int, max_distance: int = 128) -> Tensor:
    """T5's buckets, `[0, buckets)`: the lower half for keys before the query, the upper half for those after it.

    In float32 and in the reference's order of operations, because a logarithm is rounded down to an integer.
    """
    side = buckets // 2
    near = side // 2
    far = distance.abs().clamp(min=near)
    steps = torch.log(far.float() / near) / math.log(max_distance / near) * (side - near)
    bucket = torch.where(distance.abs() < near, distance.abs(), (near + steps.long()).clamp(max=side - 1))
    return bucket + side * (distance < 0)
