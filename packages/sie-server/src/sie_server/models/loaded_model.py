"""A loaded model, and the heads its answers are read off with."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from sie_server.catalog.catalog import Entry
from sie_server.errors import Code, SIEError
from sie_server.models.encoder import Encoder
from sie_server.nn.heads import Dense, Head, Multivector
from sie_server.nn.similarity import Cosine, Hybrid, LexicalMatch, Matches, MaxSim, Similarity
from sie_server.options import Pooling, Score, ScoreMode
from sie_server.tokenization.sequence import Sequence
from sie_server.tokenization.tokenizer import TextTokenizer

# Weights of the parts of a "hybrid" score (Chen et al. 2024, M3-Embedding, section 4.1).
HYBRID_WEIGHTS: Mapping[ScoreMode, float] = {"dense": 0.4, "sparse": 0.2, "colbert": 0.4}


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a query's embeddings are compared with a document's.

    Only a "similarity" model has modes. weights: of the parts of "hybrid", one at least above zero. matches: which
    tokens of the document are nearest to those of the query is wanted too.
    """

    mode: ScoreMode = "dense"
    weights: Mapping[ScoreMode, float] = field(default_factory=lambda: HYBRID_WEIGHTS)
    matches: bool = False


@dataclass(frozen=True)
class LoadedModel:
    """A model that answers: weights on `device`, tokenizer, and a complete entry.

    bytes: of the weights, and of what a batch of any size takes. token_bytes: of the tensors of a batch at their peak,
    for each token.
    few_sizes: its products over the tokens of a batch are compiled for each number of them, so that it should have few.
    """

    entry: Entry
    tokenizer: TextTokenizer
    encoder: Encoder
    device: torch.device
    dtype: torch.dtype
    parameters: int
    bytes: int
    few_sizes: bool
    token_bytes: int = 0

    @property
    def id(self) -> str:
        return self.entry.id

    @property
    def max_length(self) -> int:
        return self.tokenizer.max_length

    @property
    def pooling(self) -> Pooling:
        return self.entry.pooling or "mean"

    @property
    def score(self) -> Score | None:
        return self.entry.score

    def embedders(self, pooling: Pooling | None = None, normalize: bool = True) -> dict[str, Head]:
        """The heads that embed a text, by what they give."""
        heads: dict[str, Head] = {
            "dense": Dense(pooling or self.pooling, normalize, self.encoder.pooled),
            "multivector": Multivector(self.encoder.projections, normalize),
        }
        return heads if self.encoder.lexical is None else {**heads, "sparse": self.encoder.lexical}

    def similarity(self, query: Sequence, comparison: Comparison) -> Similarity:
        """The head that scores by comparing embeddings with the query's.

        Raises:
            SIEError: INVALID_INPUT, matches are wanted of a score that is not made of token vectors.
        """
        maxsim = self.score == "maxsim"
        if comparison.matches:
            if not maxsim and comparison.mode != "colbert":
                raise no_matches(self.entry)
            return Matches(query, self.encoder.projections, mean=not maxsim)
        if maxsim:
            return MaxSim(query, self.encoder.projections)
        if comparison.mode != "hybrid":
            return self._compared(query, comparison.mode)
        weights = comparison.weights.items()
        return Hybrid({self._compared(query, part): weight for part, weight in weights if weight > 0})

    def _compared(self, query: Sequence, mode: ScoreMode) -> Similarity:
        match mode:
            case "dense":
                return Cosine(query, self.pooling)
            case "sparse":
                assert self.encoder.lexical is not None
                return LexicalMatch(query, self.encoder.lexical)
            case _:
                return MaxSim(query, self.encoder.projections, mean=True)


def no_matches(entry: Entry) -> SIEError:
    """The answer to a request for highlights that the score of a model can't give."""
    return SIEError(
        Code.INVALID_INPUT,
        f"Field 'options.return_highlights' needs a score from token vectors; '{entry.id}' has another kind of score",
        param="options.return_highlights",
    )
