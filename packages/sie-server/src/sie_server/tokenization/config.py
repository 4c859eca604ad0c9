"""How long the texts of a request may be."""

from dataclasses import dataclass

from sie_server.options import LongDocuments


@dataclass(frozen=True, slots=True)
class LengthLimits:
    """Per-request limits in tokens, where `None` is the model's own, and what becomes of a document over them.

    A request can lower the model's limit, not raise it. `query`: a query is cut to it; without it none is ever cut.
    For late interaction, which has limits of its own for queries and documents, `query` counts special tokens too.
    `windows`: most sequences that texts may become. `total`: most tokens of all of them together, the query
    counted with each that it stands in.
    """

    sequence: int | None = None
    query: int | None = None
    long_documents: LongDocuments = "truncate"
    windows: int | None = None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class LateInteraction:
    """How a late-interaction model reads queries and documents (Khattab and Zaharia 2020, section 3.2).

    query_marker, document_marker: token behind the first special one; empty for none. query_length, document_length:
    in tokens, special ones and marker included; what is longer is cut; None: the model's limit, and a query over it is
    refused. expansion: a query is filled up to its length with mask tokens; attend: whether its tokens attend to those,
    which always attend to its tokens. skip: tokens of a document that get no vector. first: so many tokens at the
    front get none.
    """

    query_marker: str = ""
    document_marker: str = ""
    query_length: int | None = None
    document_length: int | None = None
    expansion: bool = False
    attend: bool = False
    skip: tuple[str, ...] = ()
    first: int = 0


# The names of transformers' tokenizers; what a query is filled up with.
MASKS = ("[MASK]", "<mask>")
