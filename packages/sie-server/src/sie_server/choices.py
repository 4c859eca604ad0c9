"""What there is to choose from, in catalogue, settings and requests. Imports nothing heavy."""

from typing import Literal

# auto: bfloat16 where the hardware multiplies it natively, else float32.
Precision = Literal["auto", "float32", "bfloat16", "float16"]
# How token vectors become one.
Pooling = Literal["mean", "cls", "last"]
Dtype = Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"]
Output = Literal["dense", "sparse", "multivector", "score"]
# What a score is: a sigmoid of a logit, the logit, or a sum of maximal cosines.
Score = Literal["probability", "logit", "maxsim"]
# What becomes of a document that does not fit: cut at its end, scored in overlapping windows, or refused.
LongDocuments = Literal["truncate", "chunk_max", "error"]
# What follows a linear layer. "gelu" is the exact erf form, "gelu_tanh" its approximation.
Activation = Literal["none", "gelu", "gelu_tanh", "silu"]
HeadActivation = Literal["identity", "tanh", "gelu", "relu"]
