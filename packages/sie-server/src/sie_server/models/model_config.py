"""Shape and numerics of a model: the arguments of its layers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sie_server.nn.config import Disentangled, HeadConfig, Norm, Projection, UnitLength
from sie_server.options import Activation
from sie_server.tokenization.config import LateInteraction


@dataclass(frozen=True, slots=True)
class Biases:
    """Which layers have a bias."""

    attention: bool = True
    mlp: bool = True
    norm: bool = True


@dataclass(frozen=True, slots=True)
class RotaryLayer:
    """One layer's positions: base of the angles, how far a token sees to either side (None: everywhere), and what all
    angles are divided by.
    """

    theta: float
    window: int | None = None
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """What one decoder has that another has not.

    theta, rotary_scale: of its positions, as `RotaryLayer` has them. causal: a token sees those before it alone.
    qk_norm: RMSNorm of every query and key head. norm_offset: what is added to a norm's weight. embedding_scale: what
    embeddings are multiplied by. tied: the output projection is the embedding table.
    """

    kv_heads: int
    activation: Activation
    theta: float
    rotary_scale: float
    causal: bool
    qkv_bias: bool
    out_bias: bool
    qk_norm: bool
    norm_offset: float
    embedding_scale: float
    tied: bool


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Shape and numerics of a model, plus what its files say about its scores and its token vectors.

    head: the one an architecture with a classifier has. modular_head: sentence-transformers put this one behind an
    architecture without; each of its layers has a sub-folder of its name. positions_in_input: there is a table of
    absolute positions. project_before_norm: where embeddings are narrower than the layers. late: where the checkpoint
    was trained for late interaction. projections: what its token vectors go through, in order, each by the name of its
    weights; pooled: what its pooled vector goes through, likewise. stanford: the projections are in the file of the
    layers. token_weights: it weighs its tokens for sparse vectors (BGE-M3).
    """

    architecture: str
    vocab_size: int
    embedding_size: int
    hidden_size: int
    layers: int
    heads: int
    head_dim: int
    intermediate_size: int
    norm_eps: float
    activation: Activation
    token_types: int
    position_rows: int
    position_offset: int
    labels: int
    score_activation: str | None
    head: HeadConfig
    bias: Biases
    rotary_layers: tuple[RotaryLayer, ...] = ()
    gated_mlp: bool = False
    positions_in_input: bool = True
    project_before_norm: bool = False
    disentangled: Disentangled | None = None
    modular_head: bool = False
    decoder: DecoderConfig | None = None
    late: LateInteraction | None = None
    projections: Mapping[str, Projection] = field(default_factory=dict)
    pooled: Mapping[str, Projection | Norm | UnitLength] = field(default_factory=dict)
    stanford: bool = False
    token_weights: bool = False

    @property
    def max_positions(self) -> int:
        """Longest sequence the position table allows, in tokens."""
        return self.position_rows - self.position_offset
