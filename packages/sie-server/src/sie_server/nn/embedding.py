"""Input embeddings."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Embedding(nn.Module):
    """Lookup table. Shapes: ids int32 `[tokens]` → float32 `[tokens, hidden]`."""

    def __init__(self, rows: int, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, hidden))

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight).float()
