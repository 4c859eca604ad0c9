"""Literal types of options in catalogue, settings and requests. Imports nothing heavy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from msgspec import Meta, Struct

# auto: the fastest here of float32 and bfloat16 (`nn/precision.py`); never int8.
Precision = Literal["auto", "float32", "bfloat16", "float16", "int8"]
# Cores of a device thread: all, those of one NUMA node, or one.
Pinning = Literal["none", "node", "core"]
# Reduction of token vectors to one vector.
Pooling = Literal["mean", "cls", "last"]
Dtype = Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"]
Output = Literal["dense", "sparse", "multivector", "score"]
# Meaning of a score: a function of the logit (sigmoid, identity, log-sigmoid, tanh, ReLU), a sum of maximal cosines, or
# the similarity of the request's `ScoreMode`.
Score = Literal["probability", "logit", "log_probability", "tanh", "relu", "maxsim", "similarity"]
# Treatment of a document over the length limit: cut, scored in overlapping windows, or refused.
LongDocuments = Literal["truncate", "chunk_max", "error"]
# End at which a text that is too long loses tokens.
Side = Literal["right", "left"]
# Activation after a linear layer. "gelu" is the exact erf form, "gelu_tanh" its approximation.
Activation = Literal["none", "gelu", "gelu_tanh", "silu"]
# Comparison of the embeddings of query and document; "colbert" is late interaction.
ScoreMode = Literal["dense", "sparse", "colbert", "hybrid"]
# Token ids that a client may send in place of a text: none, those of the model's own tokenizer, or those of OpenAI's
# encoding cl100k_base, which are read as the text that they stand for.
TokenIds = Literal["refuse", "model", "cl100k"]
# State of a model.
State = Literal["available", "loading", "loaded", "unloading", "failed"]
# Priority class of a request; `engine/fair_queue.py` has their weights.
Priority = Literal["interactive", "normal", "batch"]
HeadActivation = Literal["identity", "tanh", "gelu", "relu"]


class Muvera(Struct, frozen=True):
    """Settings of a fixed dimensional encoding (`nn/muvera.py`), the same for queries and documents.

    num_repetitions: independent partitions of the space. num_simhash_projections: hyperplanes per partition; k of
    them make 2^k parts. projection_dim: dimensions of a part after projection.
    """

    num_repetitions: Annotated[int, Meta(ge=1, le=256)] = 40
    num_simhash_projections: Annotated[int, Meta(ge=1, le=10)] = 6
    projection_dim: Annotated[int, Meta(ge=1, le=1024)] = 8
    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 42

    @property
    def dims(self) -> int:
        """Length of an encoding."""
        return self.num_repetitions * (1 << self.num_simhash_projections) * self.projection_dim


# The comparison of each output's embeddings.
MODES: Mapping[Output, ScoreMode] = {"dense": "dense", "sparse": "sparse", "multivector": "colbert"}
# Weights of the parts of a "hybrid" score (Chen et al. 2024, M3-Embedding, section 4.1).
HYBRID_WEIGHTS: Mapping[ScoreMode, float] = {"dense": 0.4, "sparse": 0.2, "colbert": 0.4}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Comparison of the embeddings of a query and a document. A model that reads the two as a pair has none.

    mode: None for the model's own. weights: of the parts of "hybrid", at least one of them above zero.
    """

    mode: ScoreMode | None = None
    weights: Mapping[ScoreMode, float] = field(default_factory=lambda: HYBRID_WEIGHTS)
