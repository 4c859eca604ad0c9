"""Why a document ranks where it does: which of its words are nearest to each word of the query."""

from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from sie_server.cooperative import Steps, stepwise
from sie_server.nn.similarity import Matched
from sie_server.tokenization.sequence import Sequence
from sie_server.tokenization.tokenizer import TextTokenizer

Span = tuple[int, int]
T = TypeVar("T")
# Of documents that are traced in a step.
_CHARACTERS = 2**14


@dataclass(frozen=True, slots=True)
class Highlight:
    """A token of the query and the token of a document that its vector is nearest to.

    query, document: their spans, in code points, half-open; `document` is None where that token stands for no text.
    score: their cosine.
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
        write: Callable[[list[Highlight]], T],
        given: int = 0,
    ) -> Steps[list[T]]:
        """For each chosen document one highlight per token of the query's text, in order: what is written of them.

        All at once they would take ten times as much memory. query: the text that was read, whose first `given` code
        points are not the query's own.
        """
        yield len(query)
        keep = self.query.keep
        rows = np.arange(len(self.query)) if keep is None else np.flatnonzero(keep)
        places = tokenizer.text_positions(self.query, rows, query=True).tolist()
        # Of these alone: the query may have been cut, and a list of all its tokens' spans holds the interpreter.
        query_spans = tokenizer.spans(query, {place for place in places if place >= 0})
        written = []
        characters = 0
        for index in chosen:
            characters += len(texts[index]) + len(places)
            if characters > _CHARACTERS:
                yield characters
                characters = 0
            _, nearest_rows, cosines = self.matches[index]
            nearest = tokenizer.text_positions(self.documents[index], nearest_rows).tolist()
            spans = tokenizer.spans(texts[index], {token for token in nearest if token >= 0})
            found = [
                Highlight(_back(query_spans[place], given), spans.get(token), cosine)
                for place, token, cosine in zip(places, nearest, cosines.tolist(), strict=True)
                if place >= 0 and query_spans[place][0] >= given
            ]
            written.append(write(found))
        return written


def _back(span: Span, by: int) -> Span:
    start, end = span
    return start - by, end - by
