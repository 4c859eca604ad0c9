"""Heads: what maps the hidden states of an encoder to one result per sequence.

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

from sie_server.nn.activations import HEAD_ACTIVATIONS
from sie_server.nn.config import HeadConfig, Norm, Projection, UnitLength
from sie_server.nn.linear import Linear
from sie_server.nn.norm import LayerNorm
from sie_server.options import Pooling
from sie_server.tokenization.sequence import Lead, Sequence

Vectors = NDArray[np.float32]


class Head(Protocol):
    """Shapes: hidden float32 `[rows, hidden]`, `lengths` of them for each sequence → one result per sequence.

    The rows are those of a sequence's tokens, or one of them if the encoder computes no more. `lead`: a sequence that
    the head compares the others with; its rows go to `observe_lead`, before any others.
    """

    @property
    def lead(self) -> Lead | None: ...

    def observe_lead(self, hidden: Tensor) -> None: ...

    def __call__(self, hidden: Tensor, lengths: Items[int], sequences: Items[Sequence]) -> list[Any]: ...


class StatelessHead:
    """A head without a lead, which keeps nothing of one batch for the next."""

    lead: ClassVar[None] = None

    def observe_lead(self, hidden: Tensor) -> None:
        pass


class _Projection(Linear):
    """A linear layer followed by torch's activation: a head is too small a part of the work for fusing to pay."""

    def __init__(self, inputs: int, config: Projection) -> None:
        super().__init__(inputs, config.width, bias=config.bias)
        self.function = HEAD_ACTIVATIONS[config.activation]
        self.add_input = config.residual
        self.residual = Linear(inputs, config.width, bias=False) if config.residual and inputs != config.width else None

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        y = self.function(super().forward(x, residual))
        if not self.add_input:
            return y
        return y + (x if self.residual is None else self.residual(x))


class Projections(nn.Module):
    """Projections of token vectors, applied in order; the identity if there are none.

    Shapes: hidden float32 `[tokens, hidden]` → `[tokens, width of the last]`.
    """

    def __init__(self, hidden: int, projections: Mapping[str, Projection]) -> None:
        super().__init__()
        for name, projection in projections.items():
            self.add_module(name, _Projection(hidden, projection))
            hidden = projection.width

    def forward(self, hidden: Tensor) -> Tensor:
        for projection in self.children():
            hidden = projection(hidden)
        return hidden


class _Unit(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1)


class Pooled(nn.Module):
    """Layers after the pooling, applied in order; the identity if there are none.

    Shapes: x float32 `[sequences, hidden]` → `[sequences, width of the last projection]`.
    """

    def __init__(self, hidden: int, layers: Mapping[str, Projection | Norm | UnitLength]) -> None:
        super().__init__()
        _append(self, hidden, layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = layer(x)
        return x


class ClassificationHead(StatelessHead, nn.Module):
    """Projections and norms of the pooled tokens, such as BERT's pooler and classifier.

    Returns one float per sequence: the raw logit.
    """

    def __init__(self, hidden: int, config: HeadConfig) -> None:
        super().__init__()
        self.pooling = config.pooling
        _append(self, hidden, config.layers)

    def forward(self, hidden: Tensor, lengths: Items[int], sequences: Items[Sequence]) -> list[float]:
        x = pool(hidden, lengths, self.pooling)
        for layer in self.children():
            x = layer(x)
        logits: list[float] = x[:, 0].tolist()
        return logits


class LogitHead(StatelessHead, nn.Module):
    """Projection of the last token: one logit, or the difference of two ("yes" minus "no").

    The sigmoid of that difference is the softmax over the two. Returns one float per sequence.
    """

    def __init__(self, hidden: int, outputs: int) -> None:
        super().__init__()
        self.out = Linear(hidden, outputs, bias=False)

    def forward(self, hidden: Tensor, lengths: Items[int], sequences: Items[Sequence]) -> list[float]:
        yes, *no = self.out(pool(hidden, lengths, "last")).unbind(1)
        logits: list[float] = (yes - no[0] if no else yes).tolist()
        return logits


class Dense(StatelessHead):
    """Pooled vector of each sequence, after the layers that follow the pooling; optionally scaled to length 1."""

    def __init__(
        self, pooling: Pooling = "mean", normalize: bool = True, pooled: Callable[[Tensor], Tensor] = lambda x: x
    ) -> None:
        self.pooling = pooling
        self.normalize = normalize
        self.pooled = pooled

    def __call__(self, hidden: Tensor, lengths: Items[int], sequences: Items[Sequence]) -> list[Vectors]:
        x = self.pooled(pool(hidden, lengths, self.pooling))
        x = F.normalize(x, dim=-1) if self.normalize else x
        return list(x.cpu().numpy())


class Multivector(StatelessHead):
    """Vectors `[tokens, width]` of each sequence's tokens, special ones included, except those that `Sequence.keep`
    leaves out; optionally scaled to length 1.
    """

    def __init__(self, projections: nn.Module, normalize: bool = True) -> None:
        self.projections = projections
        self.normalize = normalize

    def __call__(self, hidden: Tensor, lengths: Items[int], sequences: Items[Sequence]) -> list[Vectors]:
        x, counts = kept(self.projections(hidden), lengths, sequences)
        x = F.normalize(x, dim=-1) if self.normalize else x
        return [rows.numpy() for rows in torch.split(x.cpu(), counts)]


class HeadGroup(StatelessHead):
    """Several heads that read the same hidden states. Returns a dict of their results per sequence."""

    def __init__(self, heads: Mapping[str, Head]) -> None:
        self.heads = heads

    def __call__(self, hidden: Tensor, lengths: Items[int], sequences: Items[Sequence]) -> list[dict[str, Any]]:
        columns = [head(hidden, lengths, sequences) for head in self.heads.values()]
        return [dict(zip(self.heads, row, strict=True)) for row in zip(*columns, strict=True)]


def _append(module: nn.Module, width: int, layers: Mapping[str, Projection | Norm | UnitLength]) -> None:
    """Add layers by name to a module; the first one's input is `width` wide."""
    for name, layer in layers.items():
        match layer:
            case Projection():
                module.add_module(name, _Projection(width, layer))
                width = layer.width
            case Norm():
                module.add_module(name, LayerNorm(width, layer.eps, layer.bias))
            case UnitLength():
                module.add_module(name, _Unit())


def pool(hidden: Tensor, lengths: Items[int], pooling: Pooling) -> Tensor:
    """Pool the rows of each sequence into one: `[tokens, hidden]` → `[sequences, hidden]`."""
    if pooling != "mean" and len(lengths) == hidden.shape[0] and all(lengths):  # one row each
        return hidden
    match pooling:
        case "cls":
            return hidden[_starts(lengths, hidden.device)]
        case "last":
            return hidden[_starts(lengths, hidden.device) + torch.tensor(lengths, device=hidden.device) - 1]
        case "mean":
            return segments(hidden, lengths, "mean")


def kept(rows: Tensor, lengths: Items[int], sequences: Items[Sequence]) -> tuple[Tensor, list[int]]:
    """Select the rows of tokens that have a vector of their own; returns them and their number per sequence."""
    if all(sequence.keep is None for sequence in sequences):
        return rows, list(lengths)
    masks = [np.ones(len(s), np.bool_) if s.keep is None else s.keep for s in sequences]
    chosen = torch.from_numpy(np.flatnonzero(np.concatenate(masks))).to(rows.device)
    return rows[chosen], [int(mask.sum()) for mask in masks]


def _starts(lengths: Items[int], device: torch.device) -> Tensor:
    """First row of each sequence: int64 `[sequences]`."""
    return torch.tensor([0, *lengths[:-1]], device=device).cumsum(0)


def segments(x: Tensor, lengths: Items[int], reduce: Literal["mean", "max"]) -> Tensor:
    """Reduce the rows of each sequence: `[tokens, n]` → `[sequences, n]`."""
    return torch.segment_reduce(x, reduce, lengths=torch.tensor(lengths, device=x.device))
