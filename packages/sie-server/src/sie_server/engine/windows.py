"""What of a document goes into one sequence, and where the windows of a long one begin."""

from dataclasses import dataclass

from sie_server.choices import LongDocuments
from sie_server.engine.template import Ids
from sie_server.errors import Code, SIEError


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
