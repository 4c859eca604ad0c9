"""DeBERTa's disentangled attention, by content and relative position (He et al. 2021, section 3)."""

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor

from sie_server.nn.attention_bias import distances
from sie_server.nn.config import Disentangled


class PositionTables(NamedTuple):
    """One layer's projections of relative positions: `[heads, 2 · span, head_dim]`, in the weights' dtype.

    key: for the term content to position; query: for position to content. None: the model does not have the term.
    """

    key: Tensor | None
    query: Tensor | None


class Columns(NamedTuple):
    """Indices that pick the logit of each (query, key) pair from products with a position table.

    rows: range of the table's rows that any pair needs.
    by_query, by_key: int64 `[queries · length]`, indices into the flattened products `[queries, rows]` and
        `[length, rows]`.
    """

    rows: slice
    by_query: Tensor
    by_key: Tensor


# (position of the first query, queries, length of the sequence) → columns
FindColumns = Callable[[int, int, int], Columns]


class DisentangledBias:
    """Content-to-position and position-to-content terms of one layer (equation 4), in the weights' precision.

    Each term is a product with at most `2 · span` rows of a table; each pair takes the entry of its distance.
    """

    def __init__(self, tables: PositionTables, columns: FindColumns, scale: float) -> None:
        self.scale = scale
        self._tables = tables
        self._columns = columns

    def __call__(self, q: Tensor, k: Tensor, heads: slice, first: int) -> Tensor:
        head_count, queries, _ = q.shape
        columns = self._columns(first, queries, k.shape[1])
        pairs = (q, self._tables.key, columns.by_query), (k, self._tables.query, columns.by_key)
        terms = []
        for content, table, index in pairs:
            if table is not None:
                products = torch.bmm(content, table[heads, columns.rows].transpose(1, 2)).float().flatten(1)
                terms.append(products.gather(1, index.expand(head_count, -1)))
        total, *others = terms
        for term in others:
            total += term
        return total.mul_(self.scale).view(head_count, queries, -1)


def cached_columns(config: Disentangled, device: torch.device) -> FindColumns:
    """Make a function that computes columns once per shape, for all layers and heads of one batch."""
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

    Computed in float32 and in the reference's order of operations, as a logarithm is rounded up to an integer.
    """
    half = buckets // 2
    far = distance.abs().clamp(min=half)
    steps = torch.ceil(torch.log(far / half) / torch.log(torch.tensor((max_distance - 1) / half)) * (half - 1))
    return torch.where(distance.abs() <= half, distance, distance.sign() * (steps.long() + half))
