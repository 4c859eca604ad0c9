"""Calls to the engine: what to compute, its scheduling parameters, and the checks of the caller."""

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any

from sie_server.catalog.catalog import Entry
from sie_server.engine.highlights import Highlight
from sie_server.engine.scheduling_params import SchedulingParams
from sie_server.options import Comparison, LongDocuments, Muvera, Pooling
from sie_server.tokenization.config import LengthLimits


class Checks:
    """Checks by a caller, each made as soon as it can be. Each may raise the SIEError that refuses the call.

    This one accepts everything.
    """

    def model(self, entry: Entry) -> None:
        """Check the model, which is loaded, so that its entry is complete."""

    def rendered(self, texts: list[str]) -> list[str]:
        """Check the texts in their templates; returns those, in a list that may account for their memory."""
        return texts

    def token_vectors(self, count: int) -> None:
        """Check the number of token vectors: of the query in a score, of all texts in an encoding."""

    def embedding(self, vectors: Mapping[str, Any]) -> None:
        """Check the vectors of one text by output, if "sparse" is among those: its size is not known before."""


_NO_CHECKS, _NO_LIMITS, _DENSE, _ANYTIME = Checks(), LengthLimits(), Comparison(), SchedulingParams()


@dataclass(frozen=True, slots=True)
class ScoreCall:
    """A query, and the documents to rank by their relevance to it.

    model_id: of a model, without a profile. query, documents: None for a text that is missing, which is refused.
    long_documents: in place of the one in `limits`; None: the model's. comparison: of embeddings, for a model that
    scores by them. top_k: number of documents in the ranking; None: all. encode_highlights: encodes the
    highlights of one document; None: no highlights.
    """

    model_id: str
    query: str | None
    documents: Items[str | None]
    instruction: str | None = None
    limits: LengthLimits = _NO_LIMITS
    long_documents: LongDocuments | None = None
    comparison: Comparison = _DENSE
    top_k: int | None = None
    encode_highlights: Callable[[list[Highlight]], Any] | None = None
    scheduling: SchedulingParams = _ANYTIME
    checks: Checks = _NO_CHECKS


@dataclass(frozen=True, slots=True)
class EncodeCall:
    """Texts, or lists of token ids, to embed.

    model_id, None among the texts: as in `ScoreCall`. outputs: "dense", "sparse", "multivector". pooling, template,
    default_instruction: None for the model's own. is_query: the texts are queries, which have a template of their own,
    and which late interaction reads in another way. muvera: settings of the fixed dimensional encoding that "dense" is.
    """

    model_id: str
    texts: Items[str | None] | Items[list[int]]
    outputs: Items[str] = ("dense",)
    is_query: bool = False
    template: str | None = None
    instruction: str | None = None
    default_instruction: str | None = None
    limits: LengthLimits = _NO_LIMITS
    pooling: Pooling | None = None
    normalize: bool = True
    muvera: Muvera | None = None
    scheduling: SchedulingParams = _ANYTIME
    checks: Checks = _NO_CHECKS

    @property
    def required(self) -> Items[str]:
        """The outputs that the model must have."""
        if self.muvera is None:
            return self.outputs
        return ["multivector", *(output for output in self.outputs if output != "dense")]
