"""Disentangled attention: its logits are sums over content and relative position (He et al. 2021, section 3)."""

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor

from sie_server.nn.attention_bias import distances
from sie_server.nn.config import Disentangled


class PositionTables(NamedTuple):
    """One layer's projections of the relative positions, `[heads, 2 · span, head_dim]` in the precision of products.

    None where the model has no such term. They depend on the weights alone.
    """

    key: Tensor | None
    query: Tensor | None


class Columns(NamedTuple):
    """Where the logits of all pairs (query, key) are found in products with a position table.

    rows: those of the table that a pair can need. by_query, by_key: int64 `[queries · length]`, into the flattened
    products `[queries, rows]` and `[length, rows]`.
    """

    rows: slice
    by_query: Tensor
    by_key: Tensor


# First query's position, queries, length of the sequence → where they are.
ColumnsOf = Callable[[int, int, int], Columns]


class DisentangledBias:
    """Content to position and position to content, of one layer (equation 4); both products in the weights' precision.

    Either is a product with at most `2 · span` rows of a table, of which each pair then takes the one of its distance.
    """

    def __init__(self, tables: PositionTables, columns: ColumnsOf, scale: float) -> None:
        self.scale = scale
        self._tables = tables
        self._columns = columns

    def __call__(self, q: Tensor, k: Tensor, heads: slice, first: int) -> Tensor:
        some, queries, _ = q.shape
        columns = self._columns(first, queries, k.shape[1])
        pairs = (q, self._tables.key, columns.by_query), (k, self._tables.query, columns.by_key)
        terms = []
        for content, table, index in pairs:
            if table is not None:
                products = torch.bmm(content, table[heads, columns.rows].transpose(1, 2)).float().flatten(1)
                terms.append(products.gather(1, index.expand(some, -1)))
        total, *others = terms
        for term in others:
            total += term
        return total.mul_(self.scale).view(some, queries, -1)


def columns_of(config: Disentangled, device: torch.device) -> ColumnsOf:
    """Computed once per shape, for one batch: its layers and heads all ask for the same."""
    return cache(partial(_columns, config, device))


def _columns(config: Disentangled, device: torch.device, first: int, queries: int, length: int) -> Columns:
    row = distances(first, queries, length)
    row = log_buckets(row, config.buckets, config.max_distance) if config.buckets else row
    row = (row + config.span).clamp(0, 2 * config.span - 1)
    low, high = int(row.min()), int(row.max()) + 1
    row, width = row - low, high - low
    by_query, by_key = torch.arange(queries)[:, None] * width + row, torch.arange(length) * width + row
    return Columns(slice(low, high), by_query.flatten().to(device), by_key.flatten().to(device))


def log_buckets(distance: Tensor, buckets: int, max_distance: int) -> Tensor:
    """DeBERTa's buckets: half of them one distance wide, the others logarithmically wider up to `max_distance`.

    In float32 and in the reference's order of operations, because a logarithm is rounded up to an integer.
    """
    half = buckets // 2
    far = distance.abs().clamp(min=half)
    steps = torch.ceil(torch.log(far / half) / torch.log(torch.tensor((max_distance - 1) / half)) * (half - 1))
    return torch.where(distance.abs() <= half, distance, distance.sign() * (steps.long() + half))
