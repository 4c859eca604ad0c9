"""ModernBERT (Warner et al. 2024): pre-norm, rotary positions, gated MLP, local attention in most layers."""

from typing import ClassVar

from torch import Tensor, nn

from sie_server.models.encoder import Encoder
from sie_server.models.model_config import ModelConfig, RotaryLayer
from sie_server.nn.attention import attention
from sie_server.nn.embedding import Embedding
from sie_server.nn.linear import GatedLinear, Linear
from sie_server.nn.norm import LayerNorm
from sie_server.nn.packed import Packed
from sie_server.nn.rotary import rotate

Angles = dict[float, tuple[Tensor, Tensor]]  # base → cos, sin of every token's position


class ModernBertLayer(nn.Module):
    """Pre-norm transformer layer; the first one has no attention norm, as embeddings are normalized."""

    def __init__(self, config: ModelConfig, rotary_layer: RotaryLayer, first: bool) -> None:
        super().__init__()
        hidden, bias = config.hidden_size, config.bias
        self.heads, self.head_dim = config.heads, config.head_dim
        self.theta, self.window = rotary_layer.theta, rotary_layer.window
        self.attention_norm = None if first else LayerNorm(hidden, config.norm_eps, bias.norm)
        self.qkv = Linear(hidden, hidden, hidden, hidden, bias=bias.attention)
        self.attention_out = Linear(hidden, hidden, bias=bias.attention)
        self.mlp_norm = LayerNorm(hidden, config.norm_eps, bias.norm)
        self.up = GatedLinear(hidden, config.intermediate_size, config.activation, bias=bias.mlp)
        self.down = Linear(config.intermediate_size, hidden, bias=bias.mlp)

    def forward(self, x: Tensor, packed: Packed, angles: Angles, first_only: bool = False) -> Tensor:
        normed = x if self.attention_norm is None else self.attention_norm(x)
        q, k, v = self.qkv(normed).view(-1, 3, self.heads, self.head_dim).unbind(1)
        cos, sin = angles[self.theta]
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if first_only:
            q, x = q[packed.starts], x[packed.starts]
        x = self.attention_out(attention(q, k, v, packed, self.window).flatten(1), x)
        y: Tensor = self.down(self.up(self.mlp_norm(x)), x)
        return y


class ModernBert(Encoder):
    renames: ClassVar[dict[str, str]] = {
        "model.": "",
        "embeddings.tok_embeddings.": "embeddings.",
        "embeddings.norm.": "embedding_norm.",
        "attn.Wqkv.": "qkv.",
        "attn.Wo.": "attention_out.",
        "attn_norm.": "attention_norm.",
        "mlp.Wi.": "up.",
        "mlp.Wo.": "down.",
    }
    head_renames: ClassVar[dict[str, str]] = {"classifier.": "head.out."}
    ignored: ClassVar[tuple[str, ...]] = ("head.", "decoder.")

    def __init__(self, config: ModelConfig, outputs: int) -> None:
        super().__init__(config, outputs)
        self.windows = [layer.window for layer in config.rotary_layers]
        self.thetas = {layer.theta for layer in config.rotary_layers}
        self.embeddings = Embedding(config.vocab_size, config.hidden_size)
        self.embedding_norm = LayerNorm(config.hidden_size, config.norm_eps, config.bias.norm)
        self.layers = nn.ModuleList(
            ModernBertLayer(config, layer, first=i == 0) for i, layer in enumerate(config.rotary_layers)
        )
        self.final_norm = LayerNorm(config.hidden_size, config.norm_eps, config.bias.norm)

    @property
    def first_only(self) -> bool:
        # Attention with a window needs the queries of all tokens.
        return super().first_only and self.windows[-1] is None

    def encode(self, packed: Packed) -> Tensor:
        angles = {theta: self.rotary(packed, theta) for theta in self.thetas}
        x: Tensor = self.embedding_norm(self.embeddings(packed.ids))
        *layers, last = self.layers
        for layer in layers:
            x = layer(x, packed, angles)
        y: Tensor = self.final_norm(last(x, packed, angles, self.first_only))
        return y
