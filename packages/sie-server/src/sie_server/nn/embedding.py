"""Input embeddings."""

from collections.abc import Sequence as Items

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sie_server.nn.kernels.embedding_sum import embedding_sum


class Embedding(nn.Module):
    """Lookup table. Shapes: ids int32 `[tokens]` → float32 `[tokens, hidden]`."""

    def __init__(self, rows: int, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, hidden))

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight).float()


def sum_of_embeddings(tables: Items[tuple[Tensor, Tensor]]) -> Tensor:
    """Sum the rows of lookup tables in float32, in order.

    tables: each with its weights, `[rows, hidden]`, and the rows of the tokens in it, int32 `[tokens]`.

    Shapes: → float32 `[tokens, hidden]`.
    """
    x = embedding_sum(tables)
    if x is None:
        (weights, rows), *others = tables
        x = F.embedding(rows, weights).float()
        for weights, rows in others:
            x = x + F.embedding(rows, weights).float()
    return x
