"""BERT (Devlin et al. 2019) and its cross-encoders."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import repeat
from typing import ClassVar

import torch
from torch import Tensor, nn

from sie_server.models.encoder import Encoder
from sie_server.models.model_config import ModelConfig
from sie_server.nn.attention import attention
from sie_server.nn.attention_bias import AttentionBias, biased_attention
from sie_server.nn.embedding import Embedding, sum_of_embeddings
from sie_server.nn.kernels.post_norm_layers import Norm, PostNormLayer, PostNormLayers, SummedEmbeddings
from sie_server.nn.linear import GatedLinear, Linear
from sie_server.nn.norm import LayerNorm
from sie_server.nn.packed import Packed
from sie_server.nn.rotary import rotate

Angles = tuple[Tensor, Tensor]


class BertLayer(nn.Module):
    """Post-norm transformer layer. The residual stream is float32; products run in the weights' precision.

    angles: cos and sin of rotary positions, `[tokens, 1, head_dim]` each; None: the model has none.
    first_only: whether to compute the sequences' first tokens only.

    Shapes: x `[tokens, hidden]` → the same, or `[sequences, hidden]` with `first_only`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.heads, self.head_dim = config.heads, config.head_dim
        self.qkv = Linear(hidden, hidden, hidden, hidden)
        self.attention_out = Linear(hidden, hidden)
        self.attention_norm = LayerNorm(hidden, config.norm_eps)
        width = config.intermediate_size
        self.up: Linear = (
            GatedLinear(hidden, width, config.activation, gate_first=False, bias=False)
            if config.gated_mlp
            else Linear(hidden, width, activation=config.activation)
        )
        self.down = Linear(width, hidden)
        self.mlp_norm = LayerNorm(hidden, config.norm_eps)

    def forward(
        self, x: Tensor, packed: Packed, angles: Angles | None, bias: AttentionBias | None, first_only: bool = False
    ) -> Tensor:
        q, k, v = self.qkv(x).view(-1, 3, self.heads, self.head_dim).unbind(1)
        if angles is not None:
            q, k = rotate(q, *angles), rotate(k, *angles)
        if first_only:
            q, x = q[packed.starts], x[packed.starts]
        attended = attention(q, k, v, packed) if bias is None else biased_attention(q, k, v, packed, bias)
        x = self.attention_norm(self.attention_out(attended.flatten(1), x))
        y: Tensor = self.mlp_norm(self.down(self.up(x), x))
        return y

    @property
    def parts(self) -> PostNormLayer:
        """The parts that the kernel for all layers computes, if there is neither a bias nor a rotation."""
        norms = [_norm(norm) for norm in (self.attention_norm, self.mlp_norm)]
        return PostNormLayer(self.qkv, self.attention_out, norms[0], self.up, self.down, norms[1])


class Bert(Encoder):
    """BERT. has_attention_biases: whether `biases` gives any."""

    layer: ClassVar[type[BertLayer]] = BertLayer
    renames: ClassVar[dict[str, str]] = {
        "bert.": "",
        "embeddings.word_embeddings.": "embeddings.word.",
        "embeddings.position_embeddings.": "embeddings.position.",
        "embeddings.token_type_embeddings.": "embeddings.token_type.",
        "embeddings.LayerNorm.": "embeddings.norm.",
        "encoder.layer.": "layers.",
        "attention.self.query.": "qkv[0].",
        "attention.self.key.": "qkv[1].",
        "attention.self.value.": "qkv[2].",
        "attention.output.dense.": "attention_out.",
        "attention.output.LayerNorm.": "attention_norm.",
        "intermediate.dense.": "up.",
        ".output.dense.": ".down.",
        ".output.LayerNorm.": ".mlp_norm.",
    }
    ignored: ClassVar[tuple[str, ...]] = ("pooler.", "cls.", "lm_head.")
    head_renames: ClassVar[dict[str, str]] = {"pooler.dense.": "head.dense.", "classifier.": "head.out."}
    sparse_renames: ClassVar[dict[str, str]] = {
        "cls.predictions.transform.dense.": "sparse.dense.",
        "cls.predictions.transform.LayerNorm.": "sparse.norm.",
        "cls.predictions.decoder.weight": "sparse.decoder.weight",
        "cls.predictions.bias": "sparse.decoder.bias",
    }
    ties: Mapping[str, str] = {"sparse.decoder.weight": "embeddings.word.weight"}
    has_attention_biases: ClassVar[bool] = False

    def __init__(self, config: ModelConfig, outputs: int) -> None:
        super().__init__(config, outputs)
        self.embeddings = BertEmbeddings(config)
        self.layers = nn.ModuleList(self.layer(config) for _ in range(config.layers))
        # All layers of such an encoder share their rotary parameters.
        self.rotary_layer = config.rotary_layers[0] if config.rotary_layers else None

    def biases(self, packed: Packed) -> Iterable[AttentionBias | None]:
        """Biases on the attention logits, one per layer."""
        return repeat(None, len(self.layers))

    def encode(self, packed: Packed) -> Tensor:
        kernel = self.kernel
        if kernel is None or packed.attended is not None or not all(packed.lengths):
            return self.encode_by_layer(self.embeddings(packed), packed)
        if kernel.embeds:
            return kernel.encode(self.embeddings.rows(packed), packed, self.first_only)
        return kernel(self.embeddings(packed), packed, self.first_only)

    def encode_by_layer(self, x: Tensor, packed: Packed) -> Tensor:
        """The layers one by one; the kernel's result has the same bits. x: `[tokens, hidden]`, the embeddings."""
        angles = self._angles(packed)
        *layers, (last, last_bias) = zip(self.layers, self.biases(packed), strict=True)
        for layer, bias in layers:
            x = layer(x, packed, angles, bias)
        y: Tensor = last(x, packed, angles, last_bias, self.first_only)
        return y

    @cached_property
    def kernel(self) -> PostNormLayers | None:
        """Computes the layers in one call; None: what they have, or where they are, it does not support."""
        if self.has_attention_biases or self.rotary_layer is not None:
            return None
        layers = [layer.parts for layer in self.layers if isinstance(layer, BertLayer)]
        first = self.layers[0]
        assert isinstance(first, BertLayer)
        if not PostNormLayers.supports(layers):
            return None
        return PostNormLayers(layers, first.heads, first.head_dim, self.embeddings.summed)

    def _angles(self, packed: Packed) -> Angles | None:
        layer = self.rotary_layer
        return None if layer is None else self.rotary(packed, layer.theta, layer.scale)


class BertEmbeddings(nn.Module):
    """Sum of word, position and token type embeddings, then LayerNorm (Devlin et al. 2019, figure 2).

    Positions start at `config.position_offset`, because RoBERTa reserves the first rows of its table for padding. A
    padding token within a text has the last of those rows and is not counted. Models without token types, or with
    positions in the attention only, omit these embeddings. Embeddings narrower than the layers are projected to
    their width, after the norm (ELECTRA), or before it and without a bias (DeBERTa).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.embedding_size
        self.word = Embedding(config.vocab_size, width)
        self.position = Embedding(config.position_rows, width) if config.positions_in_input else None
        self.token_type = Embedding(config.token_types, width) if config.token_types else None
        self.project: Linear | None = None
        if width != config.hidden_size:
            self.project = Linear(width, config.hidden_size, bias=not config.project_before_norm)
        self.project_before_norm = config.project_before_norm
        self.norm = LayerNorm(config.hidden_size if config.project_before_norm else width, config.norm_eps)
        self.position_offset = config.position_offset

    def forward(self, packed: Packed) -> Tensor:
        rows = (packed.positions if rows is None else rows for rows in self.rows(packed))
        x: Tensor = sum_of_embeddings([*zip(self._tables, rows, strict=True)])
        if self.project is not None and self.project_before_norm:
            x = self.project(x)
        x = self.norm(x)
        if self.project is not None and not self.project_before_norm:
            x = self.project(x).float()
        return x

    @property
    def summed(self) -> SummedEmbeddings | None:
        """The embeddings; None: they are more than a sum and a norm."""
        return SummedEmbeddings(self._tables, _norm(self.norm)) if self.project is None else None

    @property
    def _tables(self) -> list[Tensor]:
        """In the reference's order of addition, so that float32 sums agree to the last bit."""
        tables = (self.word, self.token_type, self.position)
        return [table.weight for table in tables if table is not None]

    def rows(self, packed: Packed) -> list[Tensor | None]:
        """Rows of the tokens in each table: int32 `[tokens]`; None: their positions."""
        rows: list[Tensor | None] = [packed.ids]
        if self.token_type is not None:
            rows.append(packed.type_ids)
        if self.position is not None:
            rows.append(self._position_rows(packed) if self.position_offset else None)
        return rows

    def _position_rows(self, packed: Packed) -> Tensor:
        """Rows of the position table, whose first ones are for padding: int32 `[tokens]`."""
        rows = packed.positions + self.position_offset
        padding = self.position_offset - 1
        if not (pads := packed.ids == padding).any():
            return rows
        seen = pads.cumsum(0, dtype=torch.int32)
        lengths = torch.tensor(packed.lengths, device=seen.device)
        before = (seen - pads.int())[packed.starts].repeat_interleave(lengths)
        return rows.sub(seen - before).masked_fill(pads, padding)


def _norm(norm: LayerNorm) -> Norm:
    return Norm(norm.weight, norm.bias, norm.eps)
