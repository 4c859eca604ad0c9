"""Tokenization of texts to sequences.

Queries and documents are tokenized separately and joined by id; the result equals that of tokenizing the pair.
"""

from collections.abc import Iterable
from collections.abc import Sequence as Items
from dataclasses import replace
from functools import partial
from typing import cast

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from sie_server.errors import Code, FieldError, SIEError
from sie_server.stepwise import Steps, build_in_steps, in_steps, stepwise
from sie_server.tokenization.chat_template import ChatTemplate
from sie_server.tokenization.config import LateInteraction, LengthLimits
from sie_server.tokenization.embedded_tokens import EmbeddedTokens
from sie_server.tokenization.late_interaction import LateInteractionTokens
from sie_server.tokenization.prompt import Prompt, instructed
from sie_server.tokenization.sequence import Lead, Sequence
from sie_server.tokenization.special_tokens import Ids, Joiner, SpecialTokens, int32, token_id
from sie_server.tokenization.split_chat_template import SplitChatTemplate, split_chat_template
from sie_server.tokenization.token_list import TokenLists
from sie_server.tokenization.truncation import (
    Chunk,
    char_span,
    check_total,
    divided,
    document_budget,
    ends_that_fit,
    refuse_truncation,
    truncate,
)
from sie_server.tokenization.word_cache import WordCache, encodings

# Cached words of this many characters in all are looked up in about 0.2 ms, and this many sequences built in a few ms.
_CHEAP_CHARACTERS = 2**13
_CHEAP_TEXTS = 2**8


class TextTokenizer:
    """A model's tokenizer, with the model's prompts, markers and length limits. Thread-safe.

    Queries are never cut unless a limit asks for it; for documents that are too long see `LengthLimits`.

    max_length: limit per sequence in tokens, including special tokens.
    token_types: whether the model tells queries and documents apart by type ids; otherwise all type ids are zero.
    prompt: prompt or chat template of a decoder reranker.
    instruction: replaces the default instruction of `prompt`.
    late: how a late-interaction model reads queries and documents.
    window: smallest attention window of the model's layers, in tokens; None: no layer has one.
    rows: number of token embeddings of the model, which may be smaller than the vocabulary; None: as many.
    query_prompt: text that a cross-encoder without `prompt` expects in front of a query; an instruction replaces it.

    Raises:
        UnsupportedModelError: the tokenizer lacks a token that one of these needs, or the model has no embedding for a
            special token.
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
        # Checkpoints may configure padding and truncation; both are handled here.
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self.words = WordCache(tokenizer)
        self._single = SpecialTokens.read(tokenizer, parts=1)
        self._pair = SpecialTokens.read(tokenizer, parts=2)
        self._token_types = token_types
        self.max_length = max_length
        self.prompt = split_chat_template(tokenizer, prompt) if isinstance(prompt, ChatTemplate) else prompt
        self._instruction = instruction
        self._late = LateInteractionTokens(late, tokenizer, window)
        self._query = self._late.with_marker(self._single, late.query_marker)
        self._single = self._late.with_marker(self._single, late.document_marker)
        self._query_prompt = query_prompt
        self.lists = TokenLists(tokenizer, self._single)
        self._zeros = np.zeros(max_length, np.int32)
        self._zeros.flags.writeable = False
        self._after = int32([])
        if isinstance(self.prompt, SplitChatTemplate):
            self._after = int32([*self.prompt.after])
        elif self.prompt is not None:
            self._after = np.concatenate(self.words.encode(self.prompt.after))
        self.embedded = EmbeddedTokens(tokenizer, rows)
        templates = (*self._single.ids, *self._pair.ids, *self._query.ids)
        self.embedded.check_special(np.concatenate((*templates, self._late.expansion(1), self._after)))

    def special_ids(self) -> list[int]:
        """Ids of the tokens around a text, the padding token and the unknown token."""
        ids = map(self._tokenizer.token_to_id, ("<pad>", "[PAD]", "<unk>", "[UNK]"))
        return [*np.concatenate(self._single.ids).tolist(), *(token for token in ids if token is not None)]

    def token_id(self, token: str) -> int:
        """Look up the id of a token.

        Raises:
            UnsupportedModelError: the vocabulary does not have it.
        """
        return token_id(self._tokenizer, token)

    @stepwise
    def encode_pairs(
        self, query: str, documents: Items[str], limits: LengthLimits = LengthLimits(), instruction: str | None = None
    ) -> Steps[list[Sequence]]:
        """Tokenize (query, document) pairs: `[CLS] query [SEP] document [SEP]`, or the model's prompt.

        Returns one sequence per document or window. With a prompt, the tokens in front of the documents are the
        sequences' common prefix; without one, an instruction is prepended to the query. There is no step at all if the
        texts take less time than handing them to another thread.

        Raises:
            SIEError: INPUT_TOO_LONG, the query leaves no room for a document, or with windows less than a quarter of
                the limit; a document does not fit and `long_documents` is "error"; more tokens than `limits.total`.
                INVALID_INPUT, more windows than `limits.windows`.
        """
        yield from self._unless_cheap(query, documents, instruction)
        if self.prompt is not None:
            return (yield from self._prompted(self.prompt, query, documents, limits, instruction or self._instruction))
        query_ids = yield from self._query_ids(
            instructed(query, instruction) if instruction else self._query_prompt + query, limits
        )
        budget = document_budget(self._limit(limits), self._pair.tokens, len(query_ids), limits.long_documents)
        chunks = yield from self._chunks(documents, budget, self._pair.tokens + len(query_ids), limits)
        join = self._pair.joiner(query_ids, max((len(chunk.ids) for chunk in chunks), default=0))
        return (yield from in_steps(chunks, partial(self._pairs, join)))

    @stepwise
    def encode_apart(
        self, query: str, documents: Items[str], limits: LengthLimits = LengthLimits(), instruction: str | None = None
    ) -> Steps[tuple[Sequence, list[Sequence]]]:
        """Tokenize a query, and documents on their own: one sequence per document or window.

        There is no step at all if the texts take less time than handing them to another thread.

        Raises:
            SIEError: as `encode_query` and `encode_documents`.
        """
        yield from self._unless_cheap(query, documents, instruction)
        lead = yield from self.encode_query.steps(query, limits, instruction)
        return lead, (yield from self.encode_documents.steps(documents, limits))

    @stepwise
    def encode_query(
        self, text: str, limits: LengthLimits = LengthLimits(), instruction: str | None = None
    ) -> Steps[Sequence]:
        """Tokenize a query on its own.

        Raises:
            SIEError: INPUT_TOO_LONG, the query does not fit, or a document of one token would not.
        """
        text = instructed(text, instruction)
        limit = self._limit(limits)
        if self._late.rules.query_length is not None:
            if limit <= self._single.tokens:
                raise SIEError(
                    Code.INPUT_TOO_LONG,
                    f"A limit of {limit} tokens leaves no room for a document: {self._single.tokens} are special",
                )
            # What is said of long documents is not said of the query, whose length is fixed.
            cut = replace(limits, long_documents="truncate")
            return (yield from self.encode_queries.steps([text], cut))[0]
        ids = yield from self._query_ids(text, limits)
        if max(len(ids), 1) + self._single.tokens > limit:
            raise FieldError(
                Code.INPUT_TOO_LONG,
                "query",
                f"has {len(ids)} tokens; the limit is {limit}, {self._single.tokens} of them special",
            )
        return self._sequence_with_vectors(*self._query.join(ids), Chunk(0, ids), query=True)

    def text_positions(self, sequence: Sequence, rows: NDArray[np.int64], query: bool = False) -> NDArray[np.int64]:
        """Map rows of a query or document tokenized on its own to tokens of its text.

        rows, result: int64 `[n]`; -1 for special tokens.
        """
        template = self._query if query else self._single
        positions = rows - len(template.ids[0])
        return np.where((positions >= 0) & (positions < len(sequence.tokens)), positions + sequence.tokens.start, -1)

    def spans(self, text: str, tokens: Iterable[int]) -> dict[int, tuple[int, int]]:
        """Spans of the given tokens of a text, in code points, half-open."""
        [encoding] = encodings(self._tokenizer, [text], offsets=True)
        return {token: char_span(encoding, token, token) for token in tokens}

    @stepwise
    def encode_queries(
        self, texts: Items[str] | Items[list[int]], limits: LengthLimits = LengthLimits()
    ) -> Steps[list[Sequence]]:
        """Tokenize queries to be encoded, one sequence each. Late-interaction queries are marked, cut and expanded.

        Texts given as token ids are treated as in `encode_documents`.

        Raises:
            SIEError: INVALID_INPUT, `limits.query` leaves no room for a query; otherwise as `encode_documents`.
        """
        if self._late.rules.query_length is None or not isinstance(texts[0], str):
            return (yield from self.encode_documents.steps(texts, limits))
        length = min(limits.query or self._late.rules.query_length, self.max_length)
        budget = length - self._query.tokens
        if budget < 1:
            raise FieldError(
                Code.INVALID_INPUT,
                "options.query_max_length",
                f"is {length} and leaves no room for a query, which has {self._query.tokens} special tokens",
            )
        check_total(length * len(texts), limits)
        uncut = limits.long_documents == "error"
        wanted = budget + 1 if limits.side == "right" and not uncut else None
        encoded = self.embedded.check((yield from self.words.encode.steps(cast(Items[str], texts), wanted)))
        if uncut and max(map(len, encoded)) > budget:
            refuse_truncation(encoded, budget)
        chunks = truncate(encoded, budget, limits.side)
        return (yield from build_in_steps(chunks, lambda chunk: self._expanded_query(chunk, length)))

    @stepwise
    def encode_documents(
        self, texts: Items[str] | Items[list[int]], limits: LengthLimits = LengthLimits()
    ) -> Steps[list[Sequence]]:
        """Tokenize texts on their own: one sequence per text or window.

        texts: at least one. All may be given as token ids, with or without the special tokens around them; such texts
            are never divided into windows.
        limits: windows need a limit that `encode_query` accepts.

        Raises:
            SIEError: INPUT_TOO_LONG, a text does not fit and `long_documents` is "error"; INVALID_INPUT, a token id
                outside of the vocabulary.
        """
        default = self._late.rules.document_length or self.max_length
        budget = max(min(limits.sequence or default, self.max_length) - self._single.tokens, 0)
        if isinstance(texts[0], str):
            chunks = yield from self._chunks(cast(Items[str], texts), budget, self._single.tokens, limits)
        else:
            token_ids = yield from build_in_steps(
                cast(Items[list[int]], texts), lambda ids: self.embedded.check_own(ids, self._single.ids)
            )
            if limits.long_documents == "error" and max(map(len, token_ids)) > budget:
                refuse_truncation(token_ids, budget)
            check_total(sum(min(len(ids), budget) + self._single.tokens for ids in token_ids), limits)
            chunks = truncate(token_ids, budget, limits.side)
        return (
            yield from build_in_steps(
                chunks, lambda chunk: self._sequence_with_vectors(*self._single.join(chunk.ids), chunk)
            )
        )

    def _unless_cheap(self, query: str, documents: Items[str], instruction: str | None) -> Steps[None]:
        """A step, unless these texts take less time than handing them to another thread.

        If most of their words are cached, no other step follows then.
        """
        characters = len(query) + len(instruction or "") + sum(map(len, documents))
        if not self.words.enabled or characters > _CHEAP_CHARACTERS or len(documents) > _CHEAP_TEXTS:
            yield 0

    def _prompted(
        self,
        prompt: Prompt | SplitChatTemplate,
        query: str,
        documents: Items[str],
        limits: LengthLimits,
        instruction: str | None,
    ) -> Steps[list[Sequence]]:
        yield len(query)
        [encoding] = encodings(self._tokenizer, [query], offsets=True)
        tokens = len(encoding)
        if limits.query is not None and tokens > limits.query:
            query, tokens = query[: char_span(encoding, 0, limits.query - 1)[1]], limits.query
        del encoding
        yield len(query)
        shared = yield from self.words.encode.steps(prompt.shared(query, instruction))
        front = np.concatenate(self.embedded.check(shared, "query"))
        special = len(front) - tokens + len(self._after)
        budget = document_budget(self._limit(limits), special, tokens, limits.long_documents)
        prefix = Lead(Sequence(front, np.zeros_like(front)))
        kept = int32([*prompt.kept])
        if windows := limits.long_documents == "chunk_max":
            budget = max(budget - len(kept), 1)
        else:
            budget = limits.capped(budget)
        given = documents
        if limits.side == "left" and limits.long_documents != "error":
            most = limits.document if windows else budget
            documents = yield from ends_that_fit(self._tokenizer, self.words, prompt, documents, most)
        texts = [prompt.piece(document) for document in documents]
        chunks = yield from self._chunks(texts, budget, len(self._after), limits)

        def build(chunk: Chunk) -> Sequence:
            text, document = texts[chunk.document], documents[chunk.document]
            ids = chunk.ids
            if windows and chunk.span is not None and chunk.span[1] < len(text):
                ids = np.concatenate((ids, kept))
            elif chunk.truncated:
                ids = np.concatenate((ids[: budget - len(kept)], kept))
            ids = np.concatenate((ids, self._after))
            sequence = self._sequence(ids, np.zeros_like(ids), chunk)
            sequence.prefix = prefix
            before = len(given[chunk.document]) - len(document)
            sequence.truncated = sequence.truncated or before > 0
            if sequence.span is not None:
                origin = prompt.origin(document)
                start, end = (before + min(max(at + origin, 0), len(document)) for at in sequence.span)
                sequence.span = start, end
            return sequence

        return (yield from build_in_steps(chunks, build))

    def _query_ids(self, text: str, limits: LengthLimits) -> Steps[Ids]:
        limit = self._limit(limits)
        whole = len(text) <= _CHEAP_CHARACTERS
        [ids] = yield from self.words.encode.steps([text], None if whole else limits.query or limit + 1)
        if limits.query is None and len(ids) > limit and not whole:
            raise FieldError(
                Code.INPUT_TOO_LONG,
                "query",
                f"has more than {limit} tokens, which is the limit for a query and a document together",
            )
        [ids] = self.embedded.check([ids], "query")
        return ids[: limits.query]

    def _limit(self, limits: LengthLimits) -> int:
        return min(limits.sequence or self.max_length, self.max_length)

    def _chunks(self, texts: Items[str], budget: int, overhead: int, limits: LengthLimits) -> Steps[list[Chunk]]:
        """Cut or split the texts into chunks, in order.

        budget: limit on the tokens of a chunk. overhead: tokens added around each chunk.
        """
        windows = limits.long_documents == "chunk_max"
        budget = budget if windows else limits.capped(budget)
        most = limits.document if windows else budget
        wanted = None if most is None or limits.side == "left" or limits.long_documents == "error" else most + 1
        encoded = self.embedded.check((yield from self.words.encode.steps(texts, wanted)))
        limit = limits.capped(budget)
        fits = all(len(ids) <= limit for ids in encoded)
        if not fits and limits.long_documents == "error":
            refuse_truncation(encoded, budget)
        if not fits and windows:
            return (yield from divided(self._tokenizer, texts, encoded, budget, overhead, limits))
        if limits.total is not None and (budget + overhead) * len(texts) > limits.total:
            check_total(sum(min(len(ids), budget) for ids in encoded) + overhead * len(texts), limits)
        if not windows:
            return truncate(encoded, budget, limits.side)
        spans = [(0, len(text)) for text in texts]
        return [Chunk(document, ids, 0, span) for document, (ids, span) in enumerate(zip(encoded, spans, strict=True))]

    def _pairs(self, join: Joiner, chunks: Items[Chunk]) -> list[Sequence]:
        joined = join([chunk.ids for chunk in chunks])
        if not self._token_types:
            return [self._sequence(ids, types, chunk) for (ids, types), chunk in zip(joined, chunks, strict=True)]
        return [
            Sequence(ids, types, document, range(first, first + len(own)), span, truncated)
            for (ids, types), (document, own, first, span, truncated) in zip(joined, chunks, strict=True)
        ]

    def _expanded_query(self, chunk: Chunk, length: int) -> Sequence:
        ids, types = self._query.join(chunk.ids)
        masks = self._late.expansion(length - len(ids))
        ids, types = np.concatenate((ids, masks)), np.concatenate((types, np.zeros_like(masks)))
        sequence = self._sequence_with_vectors(ids, types, chunk, query=True)
        sequence.unattended = 0 if self._late.rules.attend else len(masks)
        return sequence

    def _sequence_with_vectors(self, ids: Ids, types: Ids, chunk: Chunk, query: bool = False) -> Sequence:
        """Build a sequence of a model whose tokens have vectors of their own."""
        sequence = self._sequence(ids, types, chunk)
        sequence.keep = self._late.keep_mask(ids, query)
        return sequence

    def _one_type(self, length: int) -> Ids:
        """Type ids of a model with one type: read-only int32 `[length]`."""
        if length > len(self._zeros):
            return np.zeros(length, np.int32)
        return self._zeros[:length]

    def _sequence(self, ids: Ids, types: Ids, chunk: Chunk) -> Sequence:
        types = types if self._token_types else self._one_type(len(types))
        tokens = range(chunk.first, chunk.first + len(chunk.ids))
        return Sequence(ids, types, chunk.document, tokens, chunk.span, chunk.truncated)
