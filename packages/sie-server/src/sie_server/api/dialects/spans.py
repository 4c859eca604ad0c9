"""Cohere's relevant spans: the parts of a document that its score is due to."""

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Items
from typing import Annotated, Literal

from msgspec import Meta, Struct

from sie_server.engine.highlights import Highlight
from sie_server.engine.results import Ranking
from sie_server.wire import Positive

Scored = tuple[int, int, float]


class RelevantSpans(Struct):
    """`threshold`: the least score of a span. `max_spans`: of a document; null: all."""

    mode: Literal["enabled", "disabled"] = "enabled"
    threshold: Annotated[float, Meta(ge=0, le=1)] = 0.1
    max_spans: Positive | None = None


class RelevantSpan(Struct, gc=False):
    """`start`, `end`: in code points of the document, half-open. `score`: between 0 and 1."""

    start: int
    end: int
    score: float


def matched(highlights: Iterable[Highlight]) -> list[Scored]:
    """The tokens of a document that highlights name, in order, each with the best of its cosines."""
    best: dict[tuple[int, int], float] = {}
    for highlight in highlights:
        if highlight.document is not None:
            best[highlight.document] = max(best.get(highlight.document, 0.0), highlight.score)
    return [(start, end, min(score, 1.0)) for (start, end), score in sorted(best.items())]


def spans_of(
    ranking: Ranking, documents: Items[str], scores: Items[float], wanted: RelevantSpans
) -> Callable[[int], list[RelevantSpan]] | None:
    """A function from the index of a ranked document to its spans; None if the ranking has none.

    They are the matched tokens with late interaction, or else the best window of a document that was divided. scores:
    of the documents, between 0 and 1.
    """
    if ranking.highlights:
        tokens = dict(zip(ranking.order, ranking.highlights, strict=True))
        return lambda index: relevant_spans(tokens[index], documents[index], wanted)
    if None in ranking.spans:
        return None

    def window(index: int) -> list[RelevantSpan]:
        span = ranking.spans[index]
        return [] if span is None or scores[index] < wanted.threshold else [RelevantSpan(*span, scores[index])]

    return window


def relevant_spans(tokens: Iterable[Scored], document: str, wanted: RelevantSpans) -> list[RelevantSpan]:
    """The spans of a document, best first. Tokens with nothing but spaces between them are one span."""
    spans: list[RelevantSpan] = []
    for start, end, score in tokens:
        if score < wanted.threshold or start == end:
            continue
        last = spans[-1] if spans else None
        if last is not None and not document[last.end : start].strip():
            last.end, last.score = max(last.end, end), max(last.score, score)
        else:
            spans.append(RelevantSpan(start, end, score))
    # Stable: of spans with the same score, the first in the document comes first.
    return sorted(spans, key=lambda span: -span.score)[: wanted.max_spans]
