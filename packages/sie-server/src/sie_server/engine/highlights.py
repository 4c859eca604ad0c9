"""Highlights of late interaction: for each token of the query, the nearest token of a document."""

from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from sie_server.nn.similarity import Matched
from sie_server.stepwise import Steps, stepwise
from sie_server.tokenization.sequence import Sequence
from sie_server.tokenization.tokenizer import TextTokenizer

Span = tuple[int, int]
T = TypeVar("T")
# Characters of documents that are highlighted in one step.
_CHARACTERS = 2**14


@dataclass(frozen=True, slots=True)
class Highlight:
    """A token of the query, and the token of a document whose vector is nearest to its own.

    query, document: spans of the two in their texts, in code points, half-open; `document` is None for a token that
    stands for no text. score: cosine of the two vectors.
    """

    query: Span
    document: Span | None
    score: float


@dataclass(frozen=True, slots=True)
class Traced:
    """Matches of one query with documents, one each, and the sequences that they are about."""

    query: Sequence
    documents: list[Sequence]
    matches: list[Matched]

    @stepwise
    def highlights(
        self,
        tokenizer: TextTokenizer,
        query: str,
        texts: Items[str],
        chosen: Items[int],
        encode: Callable[[list[Highlight]], T],
        instruction: int = 0,
    ) -> Steps[list[T]]:
        """Encode the highlights of each chosen document: one per token of the query's text, in order.

        Encoded document by document, since all at once would take ten times as much memory. query: the text that was
        tokenized, whose first `instruction` code points are not part of the query.
        """
        yield len(query)
        keep = self.query.keep
        rows = np.arange(len(self.query)) if keep is None else np.flatnonzero(keep)
        places = tokenizer.text_positions(self.query, rows, query=True).tolist()
        # Only the spans of these: the query may have been cut, and a list of all its tokens' spans holds the GIL.
        query_spans = tokenizer.spans(query, {place for place in places if place >= 0})
        encoded = []
        characters = 0
        for index in chosen:
            characters += len(texts[index]) + len(places)
            if characters > _CHARACTERS:
                yield characters
                characters = 0
            _, nearest_rows, cosines = self.matches[index]
            nearest = tokenizer.text_positions(self.documents[index], nearest_rows).tolist()
            spans = tokenizer.spans(texts[index], {token for token in nearest if token >= 0})
            highlights = [
                Highlight(_shifted(query_spans[place], -instruction), spans.get(token), cosine)
                for place, token, cosine in zip(places, nearest, cosines.tolist(), strict=True)
                if place >= 0 and query_spans[place][0] >= instruction
            ]
            encoded.append(encode(highlights))
        return encoded


def _shifted(span: Span, by: int) -> Span:
    start, end = span
    return start + by, end + by
