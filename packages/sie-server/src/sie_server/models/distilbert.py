"""DistilBERT (Sanh et al. 2019): BERT without token types, with ReLU in the classification head."""

from typing import ClassVar

from sie_server.models.bert import Bert


class DistilBert(Bert):
    renames: ClassVar[dict[str, str]] = {
        "distilbert.": "",
        "embeddings.word_embeddings.": "embeddings.word.",
        "embeddings.position_embeddings.": "embeddings.position.",
        "embeddings.LayerNorm.": "embeddings.norm.",
        "transformer.layer.": "layers.",
        "attention.q_lin.": "qkv[0].",
        "attention.k_lin.": "qkv[1].",
        "attention.v_lin.": "qkv[2].",
        "attention.out_lin.": "attention_out.",
        "sa_layer_norm.": "attention_norm.",
        "ffn.lin1.": "up.",
        "ffn.lin2.": "down.",
        "output_layer_norm.": "mlp_norm.",
    }
    ignored: ClassVar[tuple[str, ...]] = ("vocab_transform.", "vocab_layer_norm.", "vocab_projector.")
    head_renames: ClassVar[dict[str, str]] = {"pre_classifier.": "head.dense.", "classifier.": "head.out."}
