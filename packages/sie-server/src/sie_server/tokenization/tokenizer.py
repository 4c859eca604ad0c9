"""Text → token ids. Queries and documents are tokenized apart and joined by id, exactly as a pair would be."""

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Items
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from sie_server.cooperative import Steps, stepwise
from sie_server.errors import Code, SIEError, UnsupportedModelError
from sie_server.tokenization.chat_template import ChatTemplate
from sie_server.tokenization.config import LateInteraction, LengthLimits
from sie_server.tokenization.late_interaction import LateTokens
from sie_server.tokenization.prompt import Prompt, instructed
from sie_server.tokenization.sequence import Lead, Sequence
from sie_server.tokenization.special_tokens import Ids, Template, int32, token_id
from sie_server.tokenization.split_points import Parted, parted
from sie_server.tokenization.windows import Piece, check_total, check_windows, room_for, starts
from sie_server.tokenization.word_cache import Words, encodings

P = TypeVar("P")
T = TypeVar("T")

# Words of so many characters are looked up in some 0.2 ms, and so many sequences made in a few.
_QUICK_CHARACTERS = 2**13
_QUICK_TEXTS = 2**8
# Sequences that are made in a step.
_SEQUENCES = 2**9


class TextTokenizer:
    """A model's tokenizer with its policy for what is too long: a query is kept whole, a document is `LongDocuments`.

    Thread-safe. `max_length` counts tokens, special ones included. Without `token_types` all type ids are zero,
    also for a model that has one type and adds its row to every token. `prompt`: what a decoder reranker wants around
    query and document; `instruction` replaces the prompt's default. `late`: how a late-interaction model reads them;
    `window`: the least one of its layers, where one has a window. `rows`: how many tokens the model has embeddings for,
    where that may be fewer than the tokenizer has. `query_prompt`: what a cross-encoder without a prompt of either kind
    wants in front of a query; an instruction takes its place.

    Raises UnsupportedModelError where the tokenizer lacks a token that these need, or the model one that stands in
    every text.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        max_length: int,
        token_types: bool,
        prompt: Prompt | ChatTemplate | None = None,
        instruction: str | None = None,
        late: LateInteraction = LateInteraction(),
        window: int | None = None,
        rows: int | None = None,
        query_prompt: str = "",
    ) -> None:
        # A checkpoint may carry padding and truncation of its own; both are decided here.
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self.words = Words(tokenizer)
        self._single = Template.read(tokenizer, parts=1)
        self._pair = Template.read(tokenizer, parts=2)
        self._token_types = token_types
        self.max_length = max_length
        self.prompt = parted(tokenizer, prompt) if isinstance(prompt, ChatTemplate) else prompt
        self._instruction = instruction
        self._late = LateTokens(late, tokenizer, window)
        self._query = self._late.marked(self._single, late.query_marker)
        self._single = self._late.marked(self._single, late.document_marker)
        self._query_prompt = query_prompt
        self._after = int32([])
        if isinstance(self.prompt, Parted):
            self._after = int32([*self.prompt.after])
        elif self.prompt is not None:
            self._after = np.concatenate(self.words.encode(self.prompt.after))
        self._rows = rows
        self.beyond = [] if rows is None else _beyond(tokenizer, rows)
        self._check_own()

    def is_quick(self, texts: Items[str], *others: str | None) -> bool:
        """Whether the first step with these texts takes less than handing them to another thread.

        It is the last one where their words are mostly known.
        """
        characters = sum(map(len, texts)) + sum(len(other) for other in others if other)
        return self.words.apart and characters <= _QUICK_CHARACTERS and len(texts) <= _QUICK_TEXTS

    def special_ids(self) -> list[int]:
        """Ids of the tokens that stand for no text: those around it, for padding, and for what is unknown."""
        ids = map(self._tokenizer.token_to_id, ("<pad>", "[PAD]", "<unk>", "[UNK]"))
        return [*np.concatenate(self._single.ids).tolist(), *(token for token in ids if token is not None)]

    def token_id(self, token: str) -> int:
        """Id of a token of the vocabulary.

        Raises:
            UnsupportedModelError: there is none.
        """
        return token_id(self._tokenizer, token)

    @stepwise
    def pairs(
        self, query: str, documents: Items[str], limits: LengthLimits = LengthLimits(), instruction: str | None = None
    ) -> Steps[list[Sequence]]:
        """One sequence per document or window: `[CLS] query [SEP] document [SEP]` or what the model's template says.

        With a prompt, what stands in front of the documents is the sequences' common prefix. Without one, an
        instruction goes in front of the query.

        Raises:
            SIEError: INPUT_TOO_LONG, the query leaves no room for a document, or, with windows, less than a quarter of
                the limit; a document does not fit and `long_documents` is "error"; over `limits.total` tokens.
                INVALID_INPUT, over `limits.windows` windows.
        """
        if self.prompt is not None:
            return (yield from self._prompted(self.prompt, query, documents, limits, instruction or self._instruction))
        query_ids = yield from self._query_ids(
            instructed(query, instruction) if instruction else self._query_prompt + query, limits
        )
        room = room_for(self._limit(limits), self._pair.tokens, len(query_ids), limits.long_documents)
        pieces = yield from self._pieces(documents, room, self._pair.tokens + len(query_ids), limits)
        return (yield from made(pieces, lambda each: self._sequence(*self._pair.join(query_ids, each.ids), each)))

    @stepwise
    def apart(
        self, query: str, documents: Items[str], limits: LengthLimits = LengthLimits(), instruction: str | None = None
    ) -> Steps[tuple[Sequence, list[Sequence]]]:
        """The query, and one sequence per document or window.

        Raises:
            SIEError: as `query` and `singles`.
        """
        lead = yield from self.query.steps(query, limits, instruction)
        return lead, (yield from self.singles.steps(documents, limits))

    @stepwise
    def query(
        self, text: str, limits: LengthLimits = LengthLimits(), instruction: str | None = None
    ) -> Steps[Sequence]:
        """A query on its own.

        Raises:
            SIEError: INPUT_TOO_LONG, it does not fit, or a document of one token would not.
        """
        text = instructed(text, instruction)
        limit = self._limit(limits)
        if self._late.rules.query_length is not None:
            if limit <= self._single.tokens:
                raise SIEError(
                    Code.INPUT_TOO_LONG,
                    f"A limit of {limit} tokens leaves no room for a document; {self._single.tokens} are special",
                )
            return (yield from self.queries.steps([text], limits))[0]
        ids = yield from self._query_ids(text, limits)
        if max(len(ids), 1) + self._single.tokens > limit:
            raise SIEError(
                Code.INPUT_TOO_LONG,
                f"Field 'query' has {len(ids)} tokens; the limit is {limit}, {self._single.tokens} of them special",
            )
        return self._vectors(*self._query.join(ids), Piece(0, ids), query=True)

    def places(self, sequence: Sequence, rows: NDArray[np.int64], query: bool = False) -> NDArray[np.int64]:
        """Which token of its text stands in each of these rows of a query or document on its own; -1: none of it."""
        template = self._query if query else self._single
        places = rows - len(template.ids[0])
        return np.where((places >= 0) & (places < len(sequence.tokens)), places + sequence.tokens.start, -1)

    def spans(self, text: str, tokens: Iterable[int]) -> dict[int, tuple[int, int]]:
        """Where these tokens of a text stand in it, in code points, half-open."""
        [encoding] = encodings(self._tokenizer, [text], offsets=True)
        return {token: span(encoding, token, token) for token in tokens}

    @stepwise
    def queries(
        self, texts: Items[str] | Items[list[int]], limits: LengthLimits = LengthLimits()
    ) -> Steps[list[Sequence]]:
        """One sequence per query to be encoded. Late interaction marks them, cuts them and fills them up.

        Token ids are taken as they are, as by `singles`.

        Raises:
            SIEError: INVALID_INPUT, `limits.query` leaves no room; else as `singles`.
        """
        if self._late.rules.query_length is None or not isinstance(texts[0], str):
            return (yield from self.singles.steps(texts, limits))
        length = min(limits.query or self._late.rules.query_length, self.max_length)
        room = length - self._query.tokens
        if room < 1:
            raise SIEError(
                Code.INVALID_INPUT,
                f"Field 'options.query_max_length' is {length}; {self._query.tokens} tokens of a query are special",
                param="options.query_max_length",
            )
        check_total(length * len(texts), limits)
        encoded = self._embedded((yield from self.words.encode.steps(cast(Items[str], texts), room + 1)))
        pieces = [Piece(index, ids[:room], truncated=len(ids) > room) for index, ids in enumerate(encoded)]
        return (yield from made(pieces, lambda each: self._expanded(each, length)))

    @stepwise
    def singles(
        self, texts: Items[str] | Items[list[int]], limits: LengthLimits = LengthLimits()
    ) -> Steps[list[Sequence]]:
        """One sequence per text or window, at least one. Windows need a limit that `query` accepts.

        The texts may all come as the ids of their tokens, with the special tokens around them or without. Such a one is
        cut where it does not fit.

        Raises:
            SIEError: INPUT_TOO_LONG, a text does not fit and `long_documents` is "error"; INVALID_INPUT, an id that the
                tokenizer does not have.
        """
        own = self._late.rules.document_length or self.max_length
        room = max(min(limits.sequence or own, self.max_length) - self._single.tokens, 0)
        if isinstance(texts[0], str):
            pieces = yield from self._pieces(cast(Items[str], texts), room, self._single.tokens, limits)
        else:
            given = yield from made(cast(Items[list[int]], texts), self._given)
            check_total(sum(min(len(ids), room) + self._single.tokens for ids in given), limits)
            pieces = [Piece(document, ids[:room], truncated=len(ids) > room) for document, ids in enumerate(given)]
        return (yield from made(pieces, lambda each: self._vectors(*self._single.join(each.ids), each)))

    def _prompted(
        self, prompt: Prompt | Parted, query: str, documents: Items[str], limits: LengthLimits, instruction: str | None
    ) -> Steps[list[Sequence]]:
        yield len(query)
        [encoding] = encodings(self._tokenizer, [query], offsets=True)
        tokens = len(encoding)
        if limits.query is not None and tokens > limits.query:
            query, tokens = query[: span(encoding, 0, limits.query - 1)[1]], limits.query
        del encoding
        yield len(query)
        shared = yield from self.words.encode.steps(prompt.shared(query, instruction))
        front = np.concatenate(self._embedded(shared, "query"))
        special = len(front) - tokens + len(self._after)
        room = room_for(self._limit(limits), special, tokens, limits.long_documents)
        prefix = Lead(Sequence(front, np.zeros_like(front)))
        texts = [prompt.piece(document) for document in documents]
        kept = int32([*prompt.kept])
        if windows := limits.long_documents == "chunk_max":
            room = max(room - len(kept), 1)
        pieces = yield from self._pieces(texts, room, len(self._after), limits)

        def read(piece: Piece) -> Sequence:
            text, document = texts[piece.document], documents[piece.document]
            ids = piece.ids
            if windows and piece.span is not None and piece.span[1] < len(text):
                ids = np.concatenate((ids, kept))
            elif piece.truncated:
                ids = np.concatenate((ids[: room - len(kept)], kept))
            ids = np.concatenate((ids, self._after))
            sequence = self._sequence(ids, np.zeros_like(ids), piece)
            sequence.prefix = prefix
            if sequence.span is not None:
                origin = prompt.origin(document)
                start, end = (min(max(at + origin, 0), len(document)) for at in sequence.span)
                sequence.span = start, end
            return sequence

        return (yield from made(pieces, read))

    def _query_ids(self, text: str, limits: LengthLimits) -> Steps[Ids]:
        limit = self._limit(limits)
        whole = len(text) <= _QUICK_CHARACTERS
        [ids] = yield from self.words.encode.steps([text], None if whole else limits.query or limit + 1)
        if limits.query is None and len(ids) > limit and not whole:
            raise SIEError(
                Code.INPUT_TOO_LONG,
                f"Field 'query' has more than {limit} tokens, which is the limit for a query and a document together",
            )
        [ids] = self._embedded([ids], "query")
        return ids[: limits.query]

    def _embedded(self, encoded: list[Ids], field: str | None = None) -> list[Ids]:
        """The ids of texts, all of which have embeddings. `field`: what the texts are, if not those of the items."""
        if self._rows is not None and self.beyond:
            for index, ids in enumerate(encoded):
                if len(ids) and (largest := int(ids.max())) >= self._rows:
                    raise SIEError(
                        Code.INVALID_INPUT,
                        f"Field '{field or f'items[{index}].text'}' has the token {self._named(largest)}; "
                        f"the model has embeddings for {self._rows} tokens",
                    )
        return encoded

    def _check_own(self) -> None:
        """Refuse a model without embeddings for a token that every text has."""
        templates = (*self._single.ids, *self._pair.ids, *self._query.ids)
        own = np.concatenate((*templates, self._late.expansion(1), self._after))
        if self._rows is not None and len(own) and (largest := int(own.max())) >= self._rows:
            raise UnsupportedModelError(
                f"every text has the token {self._named(largest)}, and the model has embeddings for {self._rows} tokens"
            )

    def _named(self, token: int) -> str:
        return f"{self._tokenizer.id_to_token(token)!r} with id {token}"

    def _limit(self, limits: LengthLimits) -> int:
        return min(limits.sequence or self.max_length, self.max_length)

    def _given(self, ids: list[int]) -> Ids:
        """Ids that a client made, without special tokens around them."""
        vocabulary = self._rows or self._tokenizer.get_vocab_size()
        for token in ids:
            if not 0 <= token < vocabulary:
                raise SIEError(
                    Code.INVALID_INPUT,
                    f"token id {token} is outside of the vocabulary of {vocabulary}",
                    param="input",
                )
        before, after = (special.tolist() for special in self._single.ids)
        end = len(ids) - len(after)
        if len(before) <= end and ids[: len(before)] == before and ids[end:] == after:
            ids = ids[len(before) : end]
        return int32(ids)

    def _pieces(self, texts: Items[str], room: int, beside: int, limits: LengthLimits) -> Steps[list[Piece]]:
        """The texts' tokens in pieces of at most `room`, in order; each has `beside` tokens more around it."""
        most = room + 1 if limits.long_documents == "truncate" else None
        encoded = self._embedded((yield from self.words.encode.steps(texts, most)))
        over = [document for document, ids in enumerate(encoded) if len(ids) > room]
        if over and limits.long_documents == "error":
            raise SIEError(
                Code.INPUT_TOO_LONG,
                f"Field 'items[{over[0]}].text' has {len(encoded[over[0]])} tokens; there is room for "
                f"{room}, and the request forbids cutting it",
            )
        if not over or limits.long_documents != "chunk_max":
            if limits.total is not None and (room + beside) * len(texts) > limits.total:
                check_total(sum(min(len(ids), room) for ids in encoded) + beside * len(texts), limits)
            if limits.long_documents != "chunk_max":
                return [Piece(document, ids[:room], truncated=len(ids) > room) for document, ids in enumerate(encoded)]
            spans = [(0, len(text)) for text in texts]
            return [
                Piece(document, ids, 0, span) for document, (ids, span) in enumerate(zip(encoded, spans, strict=True))
            ]
        return (yield from self._windows(texts, encoded, room, beside, limits))

    def _windows(
        self, texts: Items[str], encoded: Items[Ids], room: int, beside: int, limits: LengthLimits
    ) -> Steps[list[Piece]]:
        check_windows(list(map(len, encoded)), room, beside, limits)
        pieces = []
        for document, (text, ids) in enumerate(zip(texts, encoded, strict=True)):
            if len(ids) <= room:
                pieces.append(Piece(document, ids, 0, (0, len(text))))
                continue
            yield len(text)
            [encoding] = encodings(self._tokenizer, [text], offsets=True)
            for start in starts(len(ids), room):
                part = span(encoding, start, start + room - 1)
                pieces.append(Piece(document, ids[start : start + room], start, part))
        return pieces

    def _expanded(self, piece: Piece, length: int) -> Sequence:
        ids, types = self._query.join(piece.ids)
        masks = self._late.expansion(length - len(ids))
        ids, types = np.concatenate((ids, masks)), np.concatenate((types, np.zeros_like(masks)))
        sequence = self._vectors(ids, types, piece, query=True)
        sequence.unattended = 0 if self._late.rules.attend else len(masks)
        return sequence

    def _vectors(self, ids: Ids, types: Ids, piece: Piece, query: bool = False) -> Sequence:
        """A sequence whose tokens may have vectors of their own."""
        sequence = self._sequence(ids, types, piece)
        sequence.keep = self._late.kept(ids, query)
        return sequence

    def _sequence(self, ids: Ids, types: Ids, piece: Piece) -> Sequence:
        types = types if self._token_types else np.zeros_like(types)
        tokens = range(piece.first, piece.first + len(piece.ids))
        return Sequence(ids, types, piece.document, tokens, piece.span, piece.truncated)


def made(parts: Items[P], make: Callable[[P], T]) -> Steps[list[T]]:
    """What is made of each part."""
    if len(parts) <= _SEQUENCES:
        return [make(part) for part in parts]
    all_made: list[T] = []
    for start in range(0, len(parts), _SEQUENCES):
        if start:
            yield 0
        all_made += map(make, parts[start : start + _SEQUENCES])
    return all_made


def span(encoding: Encoding, first: int, last: int) -> tuple[int, int]:
    """The text of tokens `first` to `last`, as `Sequence.span`."""
    start, end = encoding.token_to_chars(first), encoding.token_to_chars(last)
    assert start is not None
    assert end is not None
    return start[0], end[1]


def _beyond(tokenizer: Tokenizer, rows: int) -> list[tuple[int, str]]:
    """Tokens without an embedding, in order of their ids."""
    return sorted((index, token) for token, index in tokenizer.get_vocab().items() if index >= rows)
