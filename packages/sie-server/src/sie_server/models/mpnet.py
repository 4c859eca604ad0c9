"""MPNet (Song et al. 2020): BERT with a bias by relative position, shared by all layers."""

from collections.abc import Iterable
from itertools import repeat
from typing import ClassVar

from sie_server.models.bert import Bert
from sie_server.models.model_config import ModelConfig
from sie_server.nn.attention_bias import AttentionBias, BucketedBias
from sie_server.nn.embedding import Embedding
from sie_server.nn.packed import Packed

# The reference ignores `relative_attention_num_buckets`.
_BUCKETS = 32


class MPNet(Bert):
    renames: ClassVar[dict[str, str]] = {
        "mpnet.": "",
        "encoder.relative_attention_bias.": "distances.",
        "attention.attn.q.": "qkv[0].",
        "attention.attn.k.": "qkv[1].",
        "attention.attn.v.": "qkv[2].",
        "attention.attn.o.": "attention_out.",
        "attention.LayerNorm.": "attention_norm.",
        **Bert.renames,
    }
    head_renames: ClassVar[dict[str, str]] = {"classifier.dense.": "head.dense.", "classifier.out_proj.": "head.out."}

    has_attention_biases: ClassVar[bool] = True

    def __init__(self, config: ModelConfig, outputs: int) -> None:
        super().__init__(config, outputs)
        self.distances = Embedding(_BUCKETS, config.heads)

    def biases(self, packed: Packed) -> Iterable[AttentionBias | None]:
        return repeat(BucketedBias(self.distances.weight.float()), len(self.layers))
