"""What is read off an encoder's output. A head maps hidden states to one result per sequence.

Every head computes a sequence's result from that sequence's rows alone, with bits that do not depend on its
neighbours, and in float32.
"""

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Items
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sie_server.choices import HeadActivation, Pooling
from sie_server.engine.sequence import Sequence
from sie_server.models.shape import HeadConfig, Norm, Projection
from sie_server.nn.linear import Linear, at_least_min_rows
from sie_server.nn.norm import LayerNorm

Vectors = NDArray[np.float32]

_FUNCTIONS: dict[HeadActivation, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "relu": F.relu,
}


class Head(Protocol):
    """Shapes: hidden float32 `[tokens, hidden]`, the sequences of `lengths` end to end → one result per sequence.

    `lead`, where it is not None, has to go through the encoder in the same batch; its rows go to `read_lead` first.
    """

    @property
    def lead(self) -> Sequence | None: ...

    def read_lead(self, hidden: Tensor) -> None: ...

    def __call__(self, hidden: Tensor, lengths: Items[int]) -> list[Any]: ...


class Alone:
    """A head that reads nothing but its sequences. Where they have a prefix, the layers read that."""

    lead: ClassVar[None] = None

    def read_lead(self, hidden: Tensor) -> None:
        pass


class _Projection(Linear):
    """A linear layer and torch's own activation: a head has few rows, so nothing is won by fusing them."""

    def __init__(self, inputs: int, config: Projection) -> None:
        super().__init__(inputs, config.width, bias=config.bias)
        self.function = _FUNCTIONS[config.activation]

    def forward(self, x: Tensor) -> Tensor:
        return self.function(super().forward(x))


class ClassificationHead(Alone, nn.Module):
    """Projections and norms of the first token or the mean: BERT's pooler and classifier, say.

    Returns one float per sequence: the raw logit.
    """

    def __init__(self, hidden: int, config: HeadConfig) -> None:
        super().__init__()
        self.pooling = config.pooling
        width = hidden
        for name, layer in config.layers.items():
            match layer:
                case Projection():
                    self.add_module(name, _Projection(width, layer))
                    width = layer.width
                case Norm():
                    self.add_module(name, LayerNorm(width, layer.eps, layer.bias))

    def forward(self, hidden: Tensor, lengths: Items[int]) -> list[float]:
        x = _pool(hidden, lengths, self.pooling)
        for layer in self.children():
            x = layer(x)
        logits: list[float] = x[:, 0].tolist()
        return logits


class LogitHead(Alone, nn.Module):
    """Projection of the last token: one logit, or the first of two less the second ("yes" less "no").

    The sigmoid of that difference is the softmax over the two. Returns one float per sequence.
    """

    def __init__(self, hidden: int, outputs: int) -> None:
        super().__init__()
        self.out = Linear(hidden, outputs, bias=False)

    def forward(self, hidden: Tensor, lengths: Items[int]) -> list[float]:
        yes, *no = self.out(_pool(hidden, lengths, "last")).unbind(1)
        logits: list[float] = (yes - no[0] if no else yes).tolist()
        return logits


class Dense(Alone):
    """One vector per sequence: the mean over its tokens, its first or its last; optionally scaled to length 1."""

    def __init__(self, pooling: Pooling = "mean", normalize: bool = True) -> None:
        self.pooling = pooling
        self.normalize = normalize

    def __call__(self, hidden: Tensor, lengths: Items[int]) -> list[Vectors]:
        x = _pool(hidden, lengths, self.pooling)
        x = F.normalize(x, dim=-1) if self.normalize else x
        return list(x.cpu().numpy())


class Multivector(Alone):
    """One vector per token, special tokens included, optionally scaled to length 1: `[length, hidden]`."""

    def __init__(self, normalize: bool = True) -> None:
        self.normalize = normalize

    def __call__(self, hidden: Tensor, lengths: Items[int]) -> list[Vectors]:
        x = F.normalize(hidden, dim=-1) if self.normalize else hidden
        return [rows.numpy() for rows in torch.split(x.cpu(), list(lengths))]


class MaxSim:
    """Late interaction (Khattab and Zaharia 2020, eq. 3) of each sequence with one query.

    Σ over query tokens of the largest dot product with a document token, both normalised. Returns a float per sequence.
    The query leads the first batch and its vectors are kept for the others. Two threads may both compute them: their
    bits are the same.
    """

    def __init__(self, query: Sequence) -> None:
        self._query = query
        self._vectors: Tensor | None = None  # [query tokens, or a few rows of zeros more, hidden]

    @property
    def lead(self) -> Sequence | None:
        return self._query if self._vectors is None else None

    def read_lead(self, hidden: Tensor) -> None:
        self._vectors = at_least_min_rows(F.normalize(hidden, dim=-1))

    def __call__(self, hidden: Tensor, lengths: Items[int]) -> list[float]:
        assert self._vectors is not None
        documents = F.normalize(hidden, dim=-1)
        # One product for all documents: [tokens, query tokens].
        product = at_least_min_rows(documents) @ self._vectors.T
        similarity = product[: len(documents), : len(self._query)]
        scores: list[float] = _segments(similarity, lengths, "max").sum(dim=1).tolist()
        return scores


class Together(Alone):
    """Several heads over the same hidden states. Returns a dict of their results per sequence."""

    def __init__(self, heads: Mapping[str, Head]) -> None:
        self.heads = heads

    def __call__(self, hidden: Tensor, lengths: Items[int]) -> list[dict[str, Any]]:
        columns = [head(hidden, lengths) for head in self.heads.values()]
        return [dict(zip(self.heads, row, strict=True)) for row in zip(*columns, strict=True)]


def _pool(hidden: Tensor, lengths: Items[int], pooling: Pooling) -> Tensor:
    """One row per sequence: `[tokens, hidden]` → `[sequences, hidden]`."""
    match pooling:
        case "cls":
            return hidden[_starts(lengths, hidden.device)]
        case "last":
            return hidden[_starts(lengths, hidden.device) + torch.tensor(lengths, device=hidden.device) - 1]
        case "mean":
            return _segments(hidden, lengths, "mean")


def _starts(lengths: Items[int], device: torch.device) -> Tensor:
    """Row where each sequence starts: int64 `[sequences]`."""
    return torch.tensor([0, *lengths[:-1]], device=device).cumsum(0)


def _segments(x: Tensor, lengths: Items[int], reduce: Literal["mean", "max"]) -> Tensor:
    """Reduce the rows of each sequence: `[tokens, n]` → `[sequences, n]`."""
    return torch.segment_reduce(x, reduce, lengths=torch.tensor(lengths, device=x.device))
