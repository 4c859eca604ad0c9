"""A model in memory, and the heads that compute its answers."""

import secrets
from collections.abc import Container
from dataclasses import dataclass, field

import torch

from sie_server.catalog.catalog import Entry
from sie_server.errors import Code, SIEError
from sie_server.models.encoder import Encoder
from sie_server.nn.heads import Dense, Head, Multivector
from sie_server.nn.muvera import FixedDimensional
from sie_server.nn.similarity import Cosine, Hybrid, Matches, MaxSim, Similarity, SparseSimilarity
from sie_server.options import MODES, Comparison, Muvera, Pooling, Score, ScoreMode
from sie_server.tokenization.sequence import Sequence
from sie_server.tokenization.tokenizer import TextTokenizer


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory: weights on `device`, tokenizer, and a complete entry.

    bytes: of the weights, and of what a batch of any size takes. token_bytes: peak size of a batch's tensors per
    token. few_sizes: whether its products are compiled for each number of tokens in a batch, so that few should occur.
    fingerprint: the same only for models of one process that compute the same bits. modes: the ways to compare its
    embeddings, its own one first; none if it reads pairs.
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
    fingerprint: str = field(default_factory=secrets.token_hex)
    modes: tuple[ScoreMode, ...] = field(init=False)

    def __post_init__(self) -> None:
        outputs = self.entry.outputs or ()
        modes = [mode for output, mode in MODES.items() if output in outputs and self.encoder.head is None]
        if self.score == "maxsim":
            modes.sort(key=lambda mode: mode != "colbert")
        object.__setattr__(self, "modes", tuple(modes))

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

    def mode(self, comparison: Comparison) -> ScoreMode | None:
        """The mode of a comparison, in place of None the model's own; None if it reads pairs.

        Raises:
            SIEError: INVALID_INPUT, the model does not have the embeddings for it.
        """
        if not self.modes:
            return None
        mode = comparison.mode or self.modes[0]
        parts = [part for part, weight in comparison.weights.items() if weight > 0] if mode == "hybrid" else [mode]
        if missing := [output for output, part in MODES.items() if part in parts and part not in self.modes]:
            raise SIEError(
                Code.INVALID_INPUT,
                f"Model '{self.id}' can't score by '{mode}', because it has no {missing[0]} embeddings; "
                f"it can score by {', '.join(self.modes)}",
                param="options.score_mode",
            )
        return mode

    def embedders(
        self,
        outputs: Container[str],
        pooling: Pooling | None = None,
        *,
        normalize: bool = True,
        muvera: Muvera | None = None,
        is_query: bool = False,
    ) -> dict[str, Head]:
        """The heads that compute these outputs of a text, by output, as far as the model has them.

        muvera: settings of the fixed dimensional encoding that "dense" is then, of a query if `is_query`.
        """
        heads: dict[str, Head] = {}
        if "dense" in outputs and muvera is None:
            heads["dense"] = Dense(pooling or self.pooling, normalize, self.encoder.pooled)
        elif "dense" in outputs and muvera is not None:
            heads["dense"] = FixedDimensional(self._multivector(normalize), muvera, is_query=is_query)
        if "multivector" in outputs:
            heads["multivector"] = self._multivector(normalize)
        if "sparse" in outputs and self.encoder.sparse is not None:
            heads["sparse"] = self.encoder.sparse
        return heads

    def similarity(self, query: Sequence, comparison: Comparison, *, matches: bool = False) -> Similarity:
        """The head that scores a document by comparing its embeddings with the query's.

        matches: give the token matches behind each score instead of the score.

        Raises:
            SIEError: as `mode`; INVALID_INPUT, matches are wanted of a score that does not compare token vectors.
        """
        mode, maxsim = self.mode(comparison), self.score == "maxsim"
        if matches:
            if mode != "colbert":
                raise NoMatchesError(self.entry)
            return Matches(query, self.encoder.projections, mean=not maxsim)
        if mode == "colbert" and maxsim:
            return MaxSim(query, self.encoder.projections)
        assert mode is not None
        if mode != "hybrid":
            return self._compared(query, mode)
        weights = comparison.weights.items()
        return Hybrid({self._compared(query, part): weight for part, weight in weights if weight > 0})

    def _multivector(self, normalize: bool) -> Multivector:
        return Multivector(self.encoder.projections, normalize)

    def _compared(self, query: Sequence, mode: ScoreMode) -> Similarity:
        match mode:
            case "dense":
                return Cosine(query, self.pooling, self.encoder.pooled)
            case "sparse":
                assert self.encoder.sparse is not None
                return SparseSimilarity(query, self.encoder.sparse)
            case _:
                return MaxSim(query, self.encoder.projections, mean=True)


class NoMatchesError(SIEError):
    """Highlights are wanted of a model whose score does not compare token vectors."""

    def __init__(self, entry: Entry) -> None:
        field = "options.return_highlights"
        super().__init__(
            Code.INVALID_INPUT,
            f"Field '{field}' needs a score from token vectors; '{entry.id}' has another kind of score",
            param=field,
        )
