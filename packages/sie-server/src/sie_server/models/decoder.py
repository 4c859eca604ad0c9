"""Decoders: Qwen2, Qwen3 and Gemma, as rerankers (logits of "yes" and "no") and as embedding models (pooled).

`DecoderConfig` has the differences between them.
"""

from typing import ClassVar

from torch import Tensor, nn

from sie_server.models.encoder import Encoder
from sie_server.models.model_config import DecoderConfig, ModelConfig
from sie_server.nn.attention import attention
from sie_server.nn.embedding import Embedding
from sie_server.nn.heads import LogitHead
from sie_server.nn.linear import GatedLinear, Linear
from sie_server.nn.norm import RMSNorm
from sie_server.nn.packed import Packed
from sie_server.nn.prefix_cache import PrefixCache
from sie_server.nn.rotary import rotate


class DecoderLayer(nn.Module):
    """Pre-norm transformer layer with grouped-query attention, rotary positions and a gated MLP.

    Shapes: x `[tokens, hidden]` → the same, or `[sequences, hidden]` with `last_only`.
    """

    def __init__(self, config: ModelConfig, decoder: DecoderConfig) -> None:
        super().__init__()
        hidden, inner, width, eps = config.hidden_size, config.intermediate_size, config.head_dim, config.norm_eps
        self.heads, self.kv_heads, self.head_dim = config.heads, decoder.kv_heads, width
        self.causal = decoder.causal
        queries, keys = config.heads * width, decoder.kv_heads * width
        self.attention_norm = RMSNorm(hidden, eps, decoder.norm_offset)
        self.qkv = Linear(hidden, queries, keys, keys, bias=decoder.qkv_bias)
        self.q_norm = RMSNorm(width, eps) if decoder.qk_norm else None
        self.k_norm = RMSNorm(width, eps) if decoder.qk_norm else None
        self.attention_out = Linear(queries, hidden, bias=decoder.out_bias)
        self.mlp_norm = RMSNorm(hidden, eps, decoder.norm_offset)
        self.up = GatedLinear(hidden, inner, decoder.activation, bias=False)
        self.down = Linear(inner, hidden, bias=False)

    def forward(
        self, x: Tensor, packed: Packed, angles: tuple[Tensor, Tensor], cache: PrefixCache, last_only: bool = False
    ) -> Tensor:
        heads = self.qkv(self.attention_norm(x)).view(len(x), -1, self.head_dim)
        q, k, v = heads.split([self.heads, self.kv_heads, self.kv_heads], dim=1)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        cos, sin = angles
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k, v = cache.extend(k, v)
        if last_only:
            q, x = q[packed.ends], x[packed.ends]
        x = self.attention_out(attention(q, k, v, packed, causal=self.causal).flatten(1), x)
        y: Tensor = self.down(self.up(self.mlp_norm(x)), x)
        return y


class Decoder(Encoder):
    """A decoder whose head reads the last token, the only one that attends to all others."""

    renames: ClassVar[dict[str, str]] = {
        "model.": "",
        "embed_tokens.": "embeddings.",
        "input_layernorm.": "attention_norm.",
        "post_attention_layernorm.": "mlp_norm.",
        "self_attn.q_proj.": "qkv[0].",
        "self_attn.k_proj.": "qkv[1].",
        "self_attn.v_proj.": "qkv[2].",
        "self_attn.o_proj.": "attention_out.",
        "self_attn.": "",
        "mlp.gate_proj.": "up[0].",
        "mlp.up_proj.": "up[1].",
        "mlp.down_proj.": "down.",
    }
    head_renames: ClassVar[dict[str, str]] = {"lm_head.": "head.out.", "score.": "head.out."}
    # Not needed by embedding models.
    ignored: ClassVar[tuple[str, ...]] = ("lm_head.",)

    def __init__(self, config: ModelConfig, outputs: int) -> None:
        super().__init__(config, outputs=0)
        assert config.decoder is not None
        self.head = LogitHead(config.hidden_size, outputs) if outputs else None
        self.ties = {"head.out.weight": "embeddings.weight"} if config.decoder.tied else {}
        self.theta, self.rotary_scale = config.decoder.theta, config.decoder.rotary_scale
        self.scale = config.decoder.embedding_scale
        self.embeddings = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config, config.decoder) for _ in range(config.layers))
        self.norm = RMSNorm(config.hidden_size, config.norm_eps, config.decoder.norm_offset)

    @property
    def one_row(self) -> bool:
        return self.head is not None

    def encode(self, packed: Packed) -> Tensor:
        angles = self.rotary(packed, self.theta, self.rotary_scale)
        cache = PrefixCache(packed)
        x = self.embeddings(packed.ids) * self.scale
        *layers, last = self.layers
        for layer in layers:
            x = layer(x, packed, angles, cache)
        y: Tensor = self.norm(last(x, packed, angles, cache, last_only=self.one_row))
        cache.publish()
        return y
