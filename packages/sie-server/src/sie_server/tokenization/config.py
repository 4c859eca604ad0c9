"""Length limits of a request, and how a late-interaction model reads queries and documents."""

from dataclasses import dataclass

from sie_server.options import LongDocuments, Side


@dataclass(frozen=True, slots=True)
class LengthLimits:
    """Per-request limits on text lengths, and what happens to documents that exceed them.

    sequence: tokens per sequence; None: the model's limit. A request can lower the model's limit, not raise it.
    query: tokens to which a query is cut; None: never cut. Late-interaction models have a length limit of their own for
        queries; there `query` replaces it and includes special tokens.
    long_documents: cut, split into windows, or refuse documents that do not fit.
    windows: limit on the number of sequences made from the texts; None: unlimited.
    total: limit on the tokens of all sequences together, counting a query once per sequence it is part of;
        None: unlimited.
    document: limit on the tokens of a document, before it is divided into windows; None: none but that of what fits.
    side: end at which a document, or a text to embed, is cut.
    """

    sequence: int | None = None
    query: int | None = None
    long_documents: LongDocuments = "truncate"
    windows: int | None = None
    total: int | None = None
    document: int | None = None
    side: Side = "right"

    def capped(self, budget: int) -> int:
        """Tokens of a document, of the `budget` that fit."""
        return budget if self.document is None else min(budget, self.document)


@dataclass(frozen=True, slots=True)
class LateInteraction:
    """Treatment of queries and documents by a late-interaction model (Khattab and Zaharia 2020, section 3.2).

    query_marker, document_marker: token inserted after the first special token; empty: none.
    query_length, document_length: limits in tokens, including special tokens and marker; longer texts are cut.
        None: the model's limit applies, and a query that exceeds it is refused.
    expansion: whether queries are padded to their length with mask tokens.
    attend: whether query tokens attend to those mask tokens; mask tokens always attend to query tokens.
    skip: document tokens that get no vector.
    first: number of tokens at the start of a sequence that get no vector.
    """

    query_marker: str = ""
    document_marker: str = ""
    query_length: int | None = None
    document_length: int | None = None
    expansion: bool = False
    attend: bool = False
    skip: tuple[str, ...] = ()
    first: int = 0


# Mask tokens by their names in transformers' tokenizers.
MASKS = ("[MASK]", "<mask>")
