"""Configuration of layers and heads. Does not import torch, which commands that only list models do not need."""

from collections.abc import Mapping
from dataclasses import dataclass

from sie_server.options import HeadActivation, Pooling


@dataclass(frozen=True, slots=True)
class Projection:
    """Projection to `width` features: `activation(x Wᵀ + b)`.

    residual: whether the input is added to the result, through a projection of its own if its width differs.
    """

    width: int
    activation: HeadActivation = "identity"
    bias: bool = True
    residual: bool = False


@dataclass(frozen=True, slots=True)
class Norm:
    """LayerNorm, with a bias or without."""

    eps: float
    bias: bool = True


@dataclass(frozen=True, slots=True)
class UnitLength:
    """Scaling to unit length."""


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """Classification head: pooling, then `layers` in order, the last of which has one feature per label."""

    layers: Mapping[str, Projection | Norm]
    pooling: Pooling = "cls"


@dataclass(frozen=True, slots=True)
class Disentangled:
    """DeBERTa's disentangled attention, by content and by relative position.

    buckets: number of logarithmic buckets of distances per direction; 0: every distance has a row of its own.
    max_distance: largest distance that is told apart from larger ones, in tokens.
    terms: which of "c2p" (content to position) and "p2c" (position to content) are added to the logits.
    separate_projections: whether positions have projections of their own; otherwise they share those of the content.
    norm: whether the table of relative positions goes through a LayerNorm.
    """

    buckets: int
    max_distance: int
    terms: frozenset[str]
    separate_projections: bool
    norm: bool

    @property
    def span(self) -> int:
        """Half the number of rows of the table of relative positions."""
        return self.buckets or self.max_distance
