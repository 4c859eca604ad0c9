"""What is read off an encoder's output. A head maps hidden states to one result per sequence.

Every head computes a sequence's result from that sequence's rows alone, with bits that do not depend on its
neighbours, and in float32.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sie_server.nn.linear import Linear, at_least_min_rows

Vectors = NDArray[np.float32]
Pooling = Literal["mean", "cls"]


class Head(Protocol):
    """Shapes: hidden float32 `[tokens, hidden]`, the sequences of `lengths` end to end → one result per sequence."""

    def __call__(self, hidden: Tensor, lengths: Sequence[int]) -> list[Any]: ...


class ClassificationHead(nn.Module):
    """dense → tanh → projection of the first token: BERT's pooler and classifier, RoBERTa's classification head.

    Returns one float per sequence: the raw logit.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.dense = Linear(hidden, hidden)
        self.out = Linear(hidden, 1)

    def forward(self, hidden: Tensor, lengths: Sequence[int]) -> list[float]:
        x = hidden[_starts(lengths, hidden.device)]  # [sequences, hidden]
        logits: list[float] = self.out(torch.tanh(self.dense(x)))[:, 0].tolist()
        return logits


class Dense:
    """One vector per sequence: the mean over its tokens, or its first token; optionally scaled to length 1."""

    def __init__(self, pooling: Pooling = "mean", normalize: bool = True) -> None:
        self.pooling = pooling
        self.normalize = normalize

    def __call__(self, hidden: Tensor, lengths: Sequence[int]) -> list[Vectors]:
        x = hidden[_starts(lengths, hidden.device)] if self.pooling == "cls" else _segments(hidden, lengths, "mean")
        x = F.normalize(x, dim=-1) if self.normalize else x
        return list(x.cpu().numpy())


class Multivector:
    """One vector per token, special tokens included, optionally scaled to length 1: `[length, hidden]`."""

    def __init__(self, normalize: bool = True) -> None:
        self.normalize = normalize

    def __call__(self, hidden: Tensor, lengths: Sequence[int]) -> list[Vectors]:
        x = F.normalize(hidden, dim=-1) if self.normalize else hidden
        return [rows.numpy() for rows in torch.split(x.cpu(), list(lengths))]


class MaxSim:
    """Late interaction (Khattab and Zaharia 2020, eq. 3) of each sequence with one query.

    Σ over query tokens of the largest dot product with a document token, both normalised. Returns a float per sequence.
    """

    def __init__(self, query: Vectors) -> None:
        self.tokens = len(query)
        self.query = at_least_min_rows(torch.from_numpy(query))  # [query tokens, hidden]

    def __call__(self, hidden: Tensor, lengths: Sequence[int]) -> list[float]:
        documents = F.normalize(hidden, dim=-1)
        # One product for all documents: [tokens, query tokens].
        product = at_least_min_rows(documents) @ self.query.to(hidden.device).T
        similarity = product[: len(documents), : self.tokens]
        scores: list[float] = _segments(similarity, lengths, "max").sum(dim=1).tolist()
        return scores


class Together:
    """Several heads over the same hidden states. Returns a dict of their results per sequence."""

    def __init__(self, heads: Mapping[str, Head]) -> None:
        self.heads = heads

    def __call__(self, hidden: Tensor, lengths: Sequence[int]) -> list[dict[str, Any]]:
        columns = [head(hidden, lengths) for head in self.heads.values()]
        return [dict(zip(self.heads, row, strict=True)) for row in zip(*columns, strict=True)]


def _starts(lengths: Sequence[int], device: torch.device) -> Tensor:
    """Row where each sequence starts: int64 `[sequences]`."""
    return torch.tensor([0, *lengths[:-1]], device=device).cumsum(0)


def _segments(x: Tensor, lengths: Sequence[int], reduce: Literal["mean", "max"]) -> Tensor:
    """Reduce the rows of each sequence: `[tokens, n]` → `[sequences, n]`."""
    return torch.segment_reduce(x, reduce, lengths=torch.tensor(lengths, device=x.device))
