"""RoBERTa (Liu et al. 2019) and XLM-R (Conneau et al. 2020): BERT with other parameter names.

Their positions start after the padding row; see `ModelConfig.position_offset`.
"""

from typing import ClassVar

from sie_server.models.bert import Bert


class Roberta(Bert):
    renames: ClassVar[dict[str, str]] = {
        "roberta.": "",
        # Names in flash attention's implementation of XLM-R, such as jina-reranker-v2.
        "emb_ln.": "embeddings.norm.",
        "encoder.layers.": "layers.",
        "mixer.Wqkv.": "qkv.",
        "mixer.out_proj.": "attention_out.",
        ".norm1.": ".attention_norm.",
        "mlp.fc1.": "up.",
        "mlp.fc2.": "down.",
        ".norm2.": ".mlp_norm.",
        **Bert.renames,
    }
    head_renames: ClassVar[dict[str, str]] = {"classifier.dense.": "head.dense.", "classifier.out_proj.": "head.out."}
