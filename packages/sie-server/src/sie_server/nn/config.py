"""Arguments of layers and heads. Nothing here needs torch: what only lists models does not wait for it."""

from collections.abc import Mapping
from dataclasses import dataclass

from sie_server.options import HeadActivation, Pooling


@dataclass(frozen=True, slots=True)
class Projection:
    """`activation(x Wᵀ + b)`, `width` features wide.

    residual: the input is added to that, through a projection of its own where it has another width.
    """

    width: int
    activation: HeadActivation = "identity"
    bias: bool = True
    residual: bool = False


@dataclass(frozen=True, slots=True)
class Norm:
    """LayerNorm."""

    eps: float
    bias: bool = True


@dataclass(frozen=True, slots=True)
class Unit:
    """Scaled to length 1."""


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """How a score is read off: the pooled state goes through `layers` in order, the last of which has one feature."""

    layers: Mapping[str, Projection | Norm]
    pooling: Pooling = "cls"


@dataclass(frozen=True, slots=True)
class Disentangled:
    """DeBERTa's attention: by content and by relative position.

    span: a distance is one of `2 · span` rows of a table. max_distance: the furthest with a row of its own, or of its
    bucket where `buckets` of them are shared logarithmically (0: each distance has its own). terms: of "c2p", content
    to position, and "p2c", position to content. own_projections: positions have their own, not those of the content.
    """

    buckets: int
    max_distance: int
    terms: frozenset[str]
    own_projections: bool
    norm: bool

    @property
    def span(self) -> int:
        return self.buckets or self.max_distance
