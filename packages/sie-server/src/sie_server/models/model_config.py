"""Configuration of a model: sizes and numerics of its layers and heads."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sie_server.nn.config import Disentangled, HeadConfig, Norm, Projection, UnitLength
from sie_server.options import Activation
from sie_server.tokenization.config import LateInteraction


@dataclass(frozen=True, slots=True)
class Biases:
    """Presence of biases, by kind of layer."""

    attention: bool = True
    mlp: bool = True
    norm: bool = True


@dataclass(frozen=True, slots=True)
class RotaryLayer:
    """Rotary positions and attention window of one layer.

    theta: base of the angles. window: largest distance of tokens that attend to each other; None: unlimited. scale:
    divisor of all angles.
    """

    theta: float
    window: int | None = None
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """Differences between decoder architectures.

    theta, rotary_scale: rotary positions, as in `RotaryLayer`.
    causal: whether tokens attend to earlier tokens only.
    qk_norm: whether query and key heads go through an RMSNorm.
    norm_offset: added to the weights of norms.
    embedding_scale: factor of embeddings.
    tied: whether the output projection is the embedding table.
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
    """Sizes and numerics of a model, and its heads.

    head: classification head.
    modular_head: whether `head` consists of sentence-transformers modules, each with a sub-folder of its name.
    positions_in_input: whether there is a table of absolute positions.
    project_before_norm: whether embeddings narrower than the layers are projected before the norm.
    late: rules for late interaction; None: not a late-interaction model.
    projections: layers that token vectors go through, in order, by the names of their weights.
    pooled: layers that the pooled vector goes through, likewise.
    stanford: whether the projections are in the same file as the layers, as in Stanford's ColBERT.
    token_weights: whether a head weighs tokens for sparse vectors (BGE-M3).
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
