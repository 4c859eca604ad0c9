"""What there is to choose from, in catalogue, settings and requests. Imports nothing heavy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from msgspec import Meta, Struct

# auto: bfloat16 where the hardware multiplies it natively, else float32. int8 is for those who ask for it.
Precision = Literal["auto", "float32", "bfloat16", "float16", "int8"]
# How token vectors become one.
Pooling = Literal["mean", "cls", "last"]
Dtype = Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"]
Output = Literal["dense", "sparse", "multivector", "score"]
# What a score is: a function of a logit (its sigmoid, itself, the logarithm of its sigmoid, its tanh, or itself and 0
# where it is below), a sum of maximal cosines, or what `ScoreMode` the request chose.
Score = Literal["probability", "logit", "log_probability", "tanh", "relu", "maxsim", "similarity"]
# What becomes of a document that does not fit: cut at its end, scored in overlapping windows, or refused.
LongDocuments = Literal["truncate", "chunk_max", "error"]
# What follows a linear layer. "gelu" is the exact erf form, "gelu_tanh" its approximation.
Activation = Literal["none", "gelu", "gelu_tanh", "silu"]
# How a model with several outputs compares a query with a document; "colbert" is late interaction.
ScoreMode = Literal["dense", "sparse", "colbert", "hybrid"]
# State of a model in memory, or of its absence.
State = Literal["available", "loading", "loaded", "unloading", "failed"]
# Who is served first; `engine/scheduler.py` says by how much.
Priority = Literal["interactive", "normal", "batch"]
HeadActivation = Literal["identity", "tanh", "gelu", "relu"]


class Muvera(Struct, frozen=True):
    """Settings of a fixed dimensional encoding (`nn/muvera.py`). Queries and documents must have the same.

    num_repetitions: independent partitions of the space. num_simhash_projections: hyperplanes that make one, k for
    2^k parts. projection_dim: what a part is projected to.
    """

    num_repetitions: Annotated[int, Meta(ge=1, le=256)] = 40
    num_simhash_projections: Annotated[int, Meta(ge=1, le=10)] = 6
    projection_dim: Annotated[int, Meta(ge=1, le=1024)] = 8
    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 42

    @property
    def dims(self) -> int:
        """Length of an encoding."""
        return self.num_repetitions * (1 << self.num_simhash_projections) * self.projection_dim


# Weights of the parts of a "hybrid" score (Chen et al. 2024, M3-Embedding, section 4.1).
HYBRID_WEIGHTS: Mapping[ScoreMode, float] = {"dense": 0.4, "sparse": 0.2, "colbert": 0.4}


@dataclass(frozen=True, slots=True)
class Comparison:
    """How the embeddings of a query and a document are compared. Only a "similarity" model has modes.

    weights: of the parts of "hybrid", at least one of them above zero.
    """

    mode: ScoreMode = "dense"
    weights: Mapping[ScoreMode, float] = field(default_factory=lambda: HYBRID_WEIGHTS)
