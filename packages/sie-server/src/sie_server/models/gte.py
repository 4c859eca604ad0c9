"""mGTE (Zhang et al. 2024) and the GTE v1.5 encoders: BERT with rotary positions and a gated MLP.

See `ModelConfig.rotary_layers` and `gated_mlp`. The model type is "new" in the authors' code and "gte" in transformers.
"""

from typing import ClassVar

from sie_server.models.bert import Bert


class Gte(Bert):
    renames: ClassVar[dict[str, str]] = {
        "new.": "",
        "gte.": "",
        "embeddings.word_embeddings.": "embeddings.word.",
        "embeddings.token_type_embeddings.": "embeddings.token_type.",
        "embeddings.LayerNorm.": "embeddings.norm.",
        "encoder.layer.": "layers.",
        "attention.qkv_proj.": "qkv.",
        "attention.q_proj.": "qkv[0].",
        "attention.k_proj.": "qkv[1].",
        "attention.v_proj.": "qkv[2].",
        "attention.o_proj.": "attention_out.",
        "attn_ln.": "attention_norm.",
        "mlp.up_gate_proj.": "up.",
        "mlp.down_proj.": "down.",
        "mlp_ln.": "mlp_norm.",
    }
    # Checkpoints of embedding models have a token classifier for sparse vectors.
    ignored: ClassVar[tuple[str, ...]] = ("pooler.", "lm_head.", "classifier.")
