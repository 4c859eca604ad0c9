"""How long the texts of a request may be."""

from dataclasses import dataclass

from sie_server.options import LongDocuments


@dataclass(frozen=True, slots=True)
class Limits:
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
