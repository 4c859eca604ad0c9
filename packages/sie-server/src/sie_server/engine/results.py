"""Results of the engine, and how scores become a ranking."""

import math
from collections.abc import Sequence as Items
from dataclasses import dataclass
from itertools import groupby
from operator import add, mul
from typing import Any, NamedTuple

from sie_server.catalog.catalog import Entry
from sie_server.engine.score_activation import SCORE_ACTIVATIONS
from sie_server.errors import Code, SIEError
from sie_server.models.loaded_model import LoadedModel
from sie_server.nn.similarity import Matched
from sie_server.options import Comparison, Score, ScoreMode
from sie_server.tokenization.sequence import Sequence


@dataclass(slots=True)
class Timing:
    """Seconds a request spent in each stage, summed over its parts."""

    tokenization: float = 0.0
    queue: float = 0.0
    inference: float = 0.0


@dataclass(slots=True)
class Ranking:
    """Documents ranked by their scores. All lists but two have one entry per document, in the order of the call.

    order: indices of the ranked documents, best first; of equal scores, the first in the call. scores: activation
    applied. lengths: tokens of each document's pair, over all its windows, a shared prefix included. truncated: whether
    a document was cut. spans: the part of its text that scored best, in code points, half-open; None unless long
    documents are divided into windows. tokens: of all documents, equal ones too; a shared prefix once. highlights: what
    the call made of those of each ranked document, in the order of `order`; empty if it wants none. raw: the scores
    before the activation. score: what the scores mean. mode: how embeddings were compared; None if pairs were read.
    query_tokens: of a query that is a sequence of its own.
    """

    order: Items[int]
    scores: list[float]
    lengths: list[int]
    truncated: list[bool]
    spans: list[tuple[int, int] | None]
    tokens: int
    timing: Timing
    highlights: list[Any]
    raw: Items[float]
    score: Score | None
    mode: ScoreMode | None
    query_tokens: int


@dataclass(frozen=True, slots=True)
class Encoding:
    """Vectors of texts: for each text a dict by output. entry: of the model. tokens: of all texts."""

    vectors: list[dict[str, Any]]
    entry: Entry
    tokens: int
    timing: Timing


class DocumentScore(NamedTuple):
    """The score of a document, and what its answer says about the document.

    score: of its best window, before the model's activation. windows: number of its windows. tokens: of all of them,
    without a shared prefix. truncated: whether it was cut. span: of the best window, as in `Ranking`. prefix: tokens in
    front of each window. lead: tokens of a query that is a sequence of its own.
    """

    score: float
    windows: int
    tokens: int
    truncated: bool
    span: tuple[int, int] | None
    prefix: int
    lead: int


def score_texts(
    model: LoadedModel, query: Sequence | None, sequences: Items[Sequence], results: Items[Any]
) -> tuple[list[DocumentScore], Items[int]]:
    """Score texts by one result per sequence, a score or a `Matched`: that of the best window, the first of equal ones.

    The windows of a text follow each other. query: None if each sequence has the query in it.

    Returns the scores, and the index of each text's best sequence.

    Raises:
        SIEError: INFERENCE_ERROR, a score is not finite.
    """
    scores = [result.score for result in results] if isinstance(results[0], Matched) else results
    if not all(map(math.isfinite, scores)):
        raise SIEError(Code.INFERENCE_ERROR, f"Model '{model.id}' produced non-finite scores")
    prefix, lead = len(sequences[0].prefix or ()), len(query or ())
    if len(sequences) == sequences[-1].document + 1:  # one window each
        each = [
            DocumentScore(score, 1, len(sequence.ids), sequence.truncated, sequence.span, prefix, lead)
            for score, sequence in zip(scores, sequences, strict=True)
        ]
        return each, range(len(sequences))
    each, best = [], []
    for _, group in groupby(range(len(sequences)), key=lambda index: sequences[index].document):
        windows = list(group)
        index = max(windows, key=scores.__getitem__)
        best.append(index)
        sequence, tokens = sequences[index], sum(len(sequences[window]) for window in windows)
        each.append(DocumentScore(scores[index], len(windows), tokens, sequence.truncated, sequence.span, prefix, lead))
    return each, best


def rank(
    model: LoadedModel, scored: Items[DocumentScore], timing: Timing, comparison: Comparison, top_k: int | None
) -> Ranking:
    """Rank documents by their scores, one per document. comparison: that made the scores."""
    mode = model.mode(comparison) if model.modes else None
    activation = SCORE_ACTIVATIONS.get(model.score)
    # By columns: twenty documents have a hundred values.
    raw, windows, tokens, truncated, spans, prefixes, leads = zip(*scored, strict=True)
    scores = [*raw] if activation is None else [*map(activation, raw)]
    # sorted() is stable, and stays so in reverse.
    order = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)
    return Ranking(
        order=order if top_k is None else order[:top_k],
        scores=scores,
        lengths=[*map(add, map(mul, prefixes, windows), tokens)],
        truncated=[*truncated],
        spans=[*spans],
        tokens=sum(tokens) + prefixes[0] + leads[0],
        timing=timing,
        highlights=[],
        raw=raw,
        # MaxSim is a sum of its own; other scores of embeddings are similarities of one size.
        score="similarity" if model.score == "maxsim" and mode != "colbert" else model.score,
        mode=mode,
        query_tokens=leads[0],
    )
