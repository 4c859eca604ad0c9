"""DeBERTa-v2 and v3 (He et al. 2021, He et al. 2023): BERT's layers with disentangled attention."""

from collections.abc import Iterable
from functools import cached_property
from typing import ClassVar

from torch import Tensor

from sie_server.models.bert import Bert, BertLayer
from sie_server.models.model_config import ModelConfig
from sie_server.nn.attention_bias import AttentionBias
from sie_server.nn.disentangled import DisentangledBias, PositionTables, cached_columns
from sie_server.nn.embedding import Embedding
from sie_server.nn.linear import Linear
from sie_server.nn.norm import LayerNorm
from sie_server.nn.packed import Packed


class DebertaLayer(BertLayer):
    """BERT's layer with projections of relative positions, unless the model shares those of the content."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        assert config.disentangled is not None
        hidden = config.hidden_size
        self.terms = config.disentangled.terms
        separate = self.terms if config.disentangled.separate_projections else ()
        self.position_key = Linear(hidden, hidden) if "c2p" in separate else None
        self.position_query = Linear(hidden, hidden) if "p2c" in separate else None

    def position_tables(self, positions: Tensor) -> PositionTables:
        """Project the relative positions. Shapes: positions float32 `[2 · span, hidden]`."""
        query, key, _ = self.qkv(positions).chunk(3, dim=-1)
        key = key if self.position_key is None else self.position_key(positions)
        query = query if self.position_query is None else self.position_query(positions)
        key, query = (x.unflatten(1, (self.heads, self.head_dim)).transpose(0, 1).contiguous() for x in (key, query))
        return PositionTables(key if "c2p" in self.terms else None, query if "p2c" in self.terms else None)


class Deberta(Bert):
    layer: ClassVar[type[BertLayer]] = DebertaLayer
    renames: ClassVar[dict[str, str]] = {
        "deberta.": "",
        "embeddings.embed_proj.": "embeddings.project.",
        "encoder.rel_embeddings.": "positions.",
        "encoder.LayerNorm.": "position_norm.",
        "attention.self.query_proj.": "qkv[0].",
        "attention.self.key_proj.": "qkv[1].",
        "attention.self.value_proj.": "qkv[2].",
        "attention.self.pos_key_proj.": "position_key.",
        "attention.self.pos_query_proj.": "position_query.",
        **Bert.renames,
    }
    # Checkpoints may have a table of absolute positions even if the model does not use it.
    ignored: ClassVar[tuple[str, ...]] = (*Bert.ignored, "lm_predictions.", "mask_predictions.", "embeddings.position.")

    has_attention_biases: ClassVar[bool] = True

    def __init__(self, config: ModelConfig, outputs: int) -> None:
        super().__init__(config, outputs)
        assert config.disentangled is not None
        self.disentangled = config.disentangled
        self.scale = (config.head_dim * (1 + len(self.disentangled.terms))) ** -0.5
        self.positions = Embedding(2 * self.disentangled.span, config.hidden_size)
        self.position_norm = LayerNorm(config.hidden_size, config.norm_eps) if self.disentangled.norm else None

    @cached_property
    def position_tables(self) -> list[PositionTables]:
        # One per layer. Two threads may compute them at the same time, with bit-identical results.
        positions: Tensor = self.positions.weight.float()
        positions = positions if self.position_norm is None else self.position_norm(positions)
        return [layer.position_tables(positions) for layer in self.layers if isinstance(layer, DebertaLayer)]

    def biases(self, packed: Packed) -> Iterable[AttentionBias | None]:
        columns = cached_columns(self.disentangled, packed.ids.device)
        return [DisentangledBias(tables, columns, self.scale) for tables in self.position_tables]
