"""Treatment of documents that exceed the limit: the token budget of a document, the cut, and the windows."""

from collections.abc import Sequence as Items
from typing import NamedTuple, NoReturn

from sie_server.errors import Code, SIEError
from sie_server.options import LongDocuments
from sie_server.tokenization.config import LengthLimits
from sie_server.tokenization.special_tokens import Ids


class Chunk(NamedTuple):
    """The part of a document that one sequence holds.

    ids: int32 `[length]`, without special tokens.
    first: index of its first token in the document.
    document, span, truncated: as in `Sequence`.
    """

    document: int
    ids: Ids
    first: int = 0
    span: tuple[int, int] | None = None
    truncated: bool = False


def document_budget(limit: int, special: int, query: int, long_documents: LongDocuments) -> int:
    """Tokens left for a document after the query and the special tokens.

    Raises:
        SIEError: INPUT_TOO_LONG, nothing is left, or less than a quarter of the limit with windows.
    """
    budget = limit - special - query
    if budget <= 0:
        fault = "no room for a document"
    elif long_documents == "chunk_max" and budget * 4 < limit:
        # The query is computed with every window, and a long one would multiply the work.
        fault = f"room for {budget} tokens of a document, where 'chunk_max' needs a quarter of the limit"
    else:
        return budget
    raise SIEError(
        Code.INPUT_TOO_LONG,
        f"Field 'query' has {query} tokens and leaves {fault}; "
        f"the limit for a pair is {limit} tokens, {special} of them special",
    )


def cut(documents: Items[Ids], budget: int) -> list[Chunk]:
    """Cut documents at the end, to `budget` tokens each."""
    return [Chunk(document, ids[:budget], truncated=len(ids) > budget) for document, ids in enumerate(documents)]


def refuse_cut(documents: Items[Ids], budget: int) -> NoReturn:
    """Raises SIEError: INPUT_TOO_LONG, for the first document of more than `budget` tokens."""
    index, ids = next((index, ids) for index, ids in enumerate(documents) if len(ids) > budget)
    raise SIEError(
        Code.INPUT_TOO_LONG,
        f"Field 'items[{index}].text' has {len(ids)} tokens; there is room for {budget}, and the request forbids "
        "cutting it",
    )


def window_starts(tokens: int, budget: int) -> list[int]:
    """First tokens of a document's windows.

    Windows start every 3/4 of the budget; the last one ends with the document.
    """
    last = max(tokens - budget, 0)
    return [*range(0, last, max(budget * 3 // 4, 1)), last]


def check_windows(lengths: Items[int], budget: int, overhead: int, limits: LengthLimits) -> None:
    """Check the windows of texts against the request's limits.

    lengths: tokens of each text. budget: tokens of a text per window. overhead: tokens added around each window.

    Raises:
        SIEError: INVALID_INPUT, more windows than `limits.windows`; INPUT_TOO_LONG, more tokens than `limits.total`.
    """
    over = [tokens for tokens in lengths if tokens > budget]
    # len(window_starts(tokens, budget)), without the list.
    counts = [-(-(tokens - budget) // max(budget * 3 // 4, 1)) + 1 for tokens in over]
    windows = sum(counts) + len(lengths) - len(over)
    if limits.windows is not None and windows > limits.windows:
        raise SIEError(
            Code.INVALID_INPUT,
            f"Field 'options.long_documents' makes {windows:,} windows of {budget} document tokens each; the limit "
            f"is {limits.windows:,} (--max-windows)",
            param="options.long_documents",
        )
    check_total(windows * (overhead + budget) - sum(budget - tokens for tokens in lengths if tokens < budget), limits)


def check_total(tokens: int, limits: LengthLimits) -> None:
    """Check a request's tokens against its limit.

    Raises:
        SIEError: INPUT_TOO_LONG, more tokens than `limits.total`.
    """
    if limits.total is not None and tokens > limits.total:
        raise SIEError(
            Code.INPUT_TOO_LONG,
            f"Field 'items' has {tokens:,} tokens, counting the query once per text; "
            f"the limit for a request is {limits.total:,} (--max-request-tokens)",
            param="items",
        )
