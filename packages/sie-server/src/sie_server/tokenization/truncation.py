"""Truncation of documents that exceed the limit, or their division into windows."""

from collections.abc import Sequence as Items
from typing import NamedTuple, NoReturn

from tokenizers import Encoding, Tokenizer

from sie_server.errors import Code, FieldError
from sie_server.options import LongDocuments, Side
from sie_server.stepwise import Steps
from sie_server.tokenization.config import LengthLimits
from sie_server.tokenization.prompt import Prompt
from sie_server.tokenization.special_tokens import Ids
from sie_server.tokenization.split_chat_template import SplitChatTemplate
from sie_server.tokenization.word_cache import WordCache, encodings


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
        FieldError: INPUT_TOO_LONG, nothing is left, or less than a quarter of the limit with windows.
    """
    budget = limit - special - query
    if budget <= 0:
        fault = "no room for a document"
    elif long_documents == "chunk_max" and budget * 4 < limit:
        # The query is computed with every window, and a long one would multiply the work.
        fault = f"room for {budget} tokens of a document, where 'chunk_max' needs a quarter of the limit"
    else:
        return budget
    raise FieldError(
        Code.INPUT_TOO_LONG,
        "query",
        f"has {query} tokens and leaves {fault}; the limit for a pair is {limit} tokens, {special} of them special",
    )


def truncate(documents: Items[Ids], budget: int, side: Side) -> list[Chunk]:
    """Cut documents to `budget` tokens each, at this side."""
    if side == "right":
        return [
            Chunk(document, ids) if len(ids) <= budget else Chunk(document, ids[:budget], truncated=True)
            for document, ids in enumerate(documents)
        ]
    firsts = [max(len(ids) - budget, 0) for ids in documents]
    return [
        Chunk(document, ids[first:], first, truncated=first > 0)
        for document, (ids, first) in enumerate(zip(documents, firsts, strict=True))
    ]


def ends_that_fit(
    tokenizer: Tokenizer,
    words: WordCache,
    prompt: Prompt | SplitChatTemplate,
    documents: Items[str],
    most: int | None,
) -> Steps[list[str]]:
    """Cut documents at the left, so that their pieces of a prompt have at most `most` tokens; None: any number.

    The text around a document is kept. What is left of it may have other tokens than it had in the document.
    """
    ends = list(documents)
    if most is None:
        return ends
    encoded = yield from words.encode.steps([prompt.piece(document) for document in documents])
    for index, (document, ids) in enumerate(zip(documents, encoded, strict=True)):
        if (over := len(ids) - most) <= 0:
            continue
        yield len(document)
        [encoding] = encodings(tokenizer, [document], offsets=True)
        first = 0
        while over > 0 and first < len(encoding):
            first += over
            ends[index] = document[char_span(encoding, first, first)[0] :] if first < len(encoding) else ""
            [ids] = yield from words.encode.steps([prompt.piece(ends[index])])
            over = len(ids) - most
    return ends


def refuse_truncation(documents: Items[Ids], budget: int) -> NoReturn:
    """Raises FieldError: INPUT_TOO_LONG, for the first document of more than `budget` tokens."""
    index, ids = next((index, ids) for index, ids in enumerate(documents) if len(ids) > budget)
    raise FieldError(
        Code.INPUT_TOO_LONG,
        f"items[{index}].text",
        f"has {len(ids)} tokens; only {budget} fit, and the request forbids truncation",
    )


def window_starts(tokens: int, budget: int) -> list[int]:
    """First tokens of a document's windows.

    Windows start every 3/4 of the budget; the last one ends with the document.
    """
    last = max(tokens - budget, 0)
    return [*range(0, last, max(budget * 3 // 4, 1)), last]


def divided(
    tokenizer: Tokenizer, texts: Items[str], encoded: Items[Ids], budget: int, overhead: int, limits: LengthLimits
) -> Steps[list[Chunk]]:
    """Divide texts, cut to the limit for a document, into windows of `budget` tokens.

    Raises:
        SIEError: as `check_windows`.
    """
    most = max(map(len, encoded)) if limits.document is None else limits.document
    parts = truncate(encoded, most, limits.side)
    check_windows([len(part.ids) for part in parts], budget, overhead, limits)
    chunks: list[Chunk] = []
    for text, part in zip(texts, parts, strict=True):
        if len(part.ids) <= budget and not part.truncated:
            chunks.append(part._replace(span=(0, len(text))))
            continue
        yield len(text)
        [encoding] = encodings(tokenizer, [text], offsets=True)
        for start in window_starts(len(part.ids), budget):
            ids, first = part.ids[start : start + budget], part.first + start
            chunks.append(part._replace(ids=ids, first=first, span=char_span(encoding, first, first + len(ids) - 1)))
    return chunks


def char_span(encoding: Encoding, first: int, last: int) -> tuple[int, int]:
    """Span of the text of tokens `first` to `last`, in code points, half-open."""
    start, end = encoding.token_to_chars(first), encoding.token_to_chars(last)
    assert start is not None
    assert end is not None
    return start[0], end[1]


def check_windows(lengths: Items[int], budget: int, overhead: int, limits: LengthLimits) -> None:
    """Check the windows of texts against the request's limits.

    lengths: tokens of each text. budget: tokens of a text per window. overhead: tokens added around each window.

    Raises:
        FieldError: INVALID_INPUT, more windows than `limits.windows`; INPUT_TOO_LONG, more tokens than `limits.total`.
    """
    over = [tokens for tokens in lengths if tokens > budget]
    # len(window_starts(tokens, budget)), without the list.
    counts = [-(-(tokens - budget) // max(budget * 3 // 4, 1)) + 1 for tokens in over]
    windows = sum(counts) + len(lengths) - len(over)
    if limits.windows is not None and windows > limits.windows:
        raise FieldError(
            Code.INVALID_INPUT,
            "options.long_documents",
            f"makes {windows:,} windows of {budget} document tokens each; the limit is {limits.windows:,} "
            "(--max-windows)",
        )
    check_total(windows * (overhead + budget) - sum(budget - tokens for tokens in lengths if tokens < budget), limits)


def check_total(tokens: int, limits: LengthLimits) -> None:
    """Check a request's tokens against its limit.

    Raises:
        FieldError: INPUT_TOO_LONG, more tokens than `limits.total`.
    """
    if limits.total is not None and tokens > limits.total:
        raise FieldError(
            Code.INPUT_TOO_LONG,
            "items",
            f"has {tokens:,} tokens, counting the query once per text; the limit for a request is {limits.total:,} "
            "(--max-request-tokens)",
        )
