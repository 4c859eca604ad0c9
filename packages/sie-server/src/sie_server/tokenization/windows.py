"""What of a document goes into one sequence, and where the windows of a long one begin."""

from collections.abc import Sequence as Items
from dataclasses import dataclass

from sie_server.errors import Code, SIEError
from sie_server.options import LongDocuments
from sie_server.tokenization.config import LengthLimits
from sie_server.tokenization.special_tokens import Ids


@dataclass(frozen=True, slots=True)
class Piece:
    """What of a document goes into one sequence: ids int32 `[length]`, no special tokens, from its token `first` on.

    The rest is as in `Sequence`.
    """

    document: int
    ids: Ids
    first: int = 0
    span: tuple[int, int] | None = None
    truncated: bool = False


def room_for(limit: int, special: int, query: int, long_documents: LongDocuments) -> int:
    """Tokens left for a document beside the query and the special tokens."""
    room = limit - special - query
    if room <= 0:
        fault = "no room for a document"
    elif long_documents == "chunk_max" and room * 4 < limit:
        # The query is computed with every window, and a long one would multiply the work.
        fault = f"room for {room} of a document, where 'chunk_max' needs a quarter of the limit"
    else:
        return room
    raise SIEError(
        Code.INPUT_TOO_LONG,
        f"Field 'query' has {query} tokens and leaves {fault}; "
        f"the limit for a pair is {limit} tokens, {special} of them special",
    )


def starts(tokens: int, room: int) -> list[int]:
    """Where the windows of a document start: every 3/4 of the room, and the last so that it ends with the document."""
    last = max(tokens - room, 0)
    return [*range(0, last, max(room * 3 // 4, 1)), last]


def check_windows(lengths: Items[int], room: int, beside: int, limits: LengthLimits) -> None:
    """For texts of so many tokens in windows of `room`, each with `beside` tokens more around it.

    Raises:
        SIEError: INVALID_INPUT, more windows than `limits.windows`; INPUT_TOO_LONG, more tokens than `limits.total`.
    """
    over = [tokens for tokens in lengths if tokens > room]
    # As many as `starts` gives.
    counts = [-(-(tokens - room) // max(room * 3 // 4, 1)) + 1 for tokens in over]
    windows = sum(counts) + len(lengths) - len(over)
    if limits.windows is not None and windows > limits.windows:
        raise SIEError(
            Code.INVALID_INPUT,
            f"Field 'options.long_documents' makes {windows:,} windows of {room} tokens of a document each; the limit "
            f"is {limits.windows:,} (--max-windows)",
            param="options.long_documents",
        )
    check_total(windows * (beside + room) - sum(room - tokens for tokens in lengths if tokens < room), limits)


def check_total(tokens: int, limits: LengthLimits) -> None:
    """Raises SIEError: INPUT_TOO_LONG, more tokens than `limits.total`."""
    if limits.total is not None and tokens > limits.total:
        raise SIEError(
            Code.INPUT_TOO_LONG,
            f"Field 'items' has {tokens:,} tokens, the query counted with each text that it is read with; "
            f"the limit for a request is {limits.total:,} (--max-request-tokens)",
            param="items",
        )
