"""The queries that gain and lose most between two rankings, and the documents that moved."""

import math
from collections.abc import Mapping, Sequence

from sie_server.cli.eval.dataset import Dataset, Query
from sie_server.cli.eval.figures import Change, Changes, Movement, Row

SHOWN = 10
_MOVEMENTS = 3
_EXCERPT = 240

Rankings = Mapping[str, Sequence[str]]


def changes(
    dataset: Dataset, measure: str, before: Row, after: Row, rankings_before: Rankings, rankings_after: Rankings
) -> Changes:
    """The ten queries that gain most by a measure, and the ten that lose most.

    rankings_before, rankings_after: of all queries, the ids of the best documents first. Raises FaultError.
    """
    pairs = list(zip(before.values[measure], after.values[measure], strict=True))
    by_change = sorted(range(len(pairs)), key=lambda at: pairs[at][1] - pairs[at][0])
    gained = [at for at in reversed(by_change) if pairs[at][1] > pairs[at][0]]
    lost = [at for at in by_change if pairs[at][1] < pairs[at][0]]

    def change(at: int, direction: int) -> Change:
        query = dataset.queries[at]
        moved = _movements(dataset, query, rankings_before[query.id], rankings_after[query.id], direction)
        return Change(query.id, query.text, *pairs[at], moved)

    return Changes(
        before=before.letter,
        after=after.letter,
        measure=measure,
        gained=len(gained),
        lost=len(lost),
        best=[change(at, 1) for at in gained[:SHOWN]],
        worst=[change(at, -1) for at in lost[:SHOWN]],
    )


def _movements(
    dataset: Dataset, query: Query, before: Sequence[str], after: Sequence[str], direction: int
) -> list[Movement]:
    """The relevant documents whose discounted gain (Järvelin and Kekäläinen 2002) changed most in a direction."""
    old = {document: rank for rank, document in enumerate(before, 1)}
    new = {document: rank for rank, document in enumerate(after, 1)}
    weights = {
        document: grade * (1 / math.log2(1 + new[document]) - 1 / math.log2(1 + old[document])) * direction
        for document, grade in query.grades.items()
        if grade > 0 and document in new
    }
    chosen = sorted((each for each in weights if weights[each] > 0), key=weights.__getitem__, reverse=True)[:_MOVEMENTS]
    if not chosen:
        return []
    texts = dict(zip(query.candidates.ids, dataset.texts(query), strict=True))
    return [Movement(each, query.grades[each], old[each], new[each], excerpt(texts[each])) for each in chosen]


def excerpt(text: str, characters: int = _EXCERPT) -> str:
    """The beginning of a text in one line."""
    line = " ".join(text.split())
    return line if len(line) <= characters else f"{line[: characters - 1].rstrip()}…"
