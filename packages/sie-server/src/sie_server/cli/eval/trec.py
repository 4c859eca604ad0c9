"""Judgments in a TSV of BEIR's, and runs in TREC's format."""

import math
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from sie_server.cli.eval.dataset import Line, Lines, words
from sie_server.cli.eval.ranking import order
from sie_server.cli.streaming.lines import FaultError

_QRELS = ("query-id", "corpus-id", "score")
_RUN = ("query", "Q0", "document", "rank", "score", "name")


@dataclass(frozen=True, slots=True)
class Run:
    """The documents and scores of each query, the best first, as trec_eval orders them: by score, and then by id.

    contradictory: how many queries have ranks that contradict the scores, which count. lines: where a document is first
    named.
    """

    documents: dict[str, tuple[list[str], list[float]]]
    contradictory: int
    lines: dict[str, int]
    digest: str


def read_qrels(path: Path) -> tuple[dict[str, dict[str, int]], str]:
    """Grades by query and document, and the SHA-256 of the file.

    The file has three columns, separated by tabs, with or without BEIR's header. Raises FaultError.
    """
    lines, grades = Lines(path), dict[str, dict[str, int]]()
    for line in lines:
        query, document, grade = words(lines, line, _QRELS, b"\t")
        if (query, document, grade) == _QRELS:
            continue
        try:
            value = int(grade)
        except ValueError:
            raise lines.fault(line.number, f"the score '{grade}' is not a whole number.") from None
        judged = grades.setdefault(query, {})
        if judged.setdefault(document, value) != value:
            raise lines.fault(line.number, f"document '{document}' has two different scores for query '{query}'.")
    if not grades:
        raise FaultError(f"{path} has no judgments.")
    return grades, lines.digest


def read_run(path: Path, queries: Container[str], depth: int) -> Run:
    """The first `depth` documents of the given queries; other queries are left out. Raises FaultError."""
    lines = Lines(path)
    found: dict[str, dict[str, tuple[float, int, int]]] = {}
    for line in lines:
        query, _, document, rank, score, _ = words(lines, line, _RUN)
        entry = (_number(lines, line, "score", score), int(_number(lines, line, "rank", rank)), line.number)
        if query not in queries:
            continue
        if document in found.setdefault(query, {}):
            raise lines.fault(line.number, f"document '{document}' is there twice for query '{query}'.")
        found[query][document] = entry
    if not found:
        raise FaultError(f"{path} has none of the judged queries.")
    run: dict[str, tuple[list[str], list[float]]] = {}
    named: dict[str, int] = {}
    contradictory = 0
    for query, entries in found.items():
        ids, values = list(entries), [score for score, _, _ in entries.values()]
        best = order(ids, values)
        by_rank = [score for score, _, _ in sorted(entries.values(), key=lambda entry: entry[1])]
        contradictory += by_rank != sorted(values, reverse=True)
        run[query] = [ids[at] for at in best[:depth]], [values[at] for at in best[:depth]]
        for document in run[query][0]:
            named.setdefault(document, entries[document][2])
    return Run(run, contradictory, named, lines.digest)


def _number(lines: Lines, line: Line, column: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise lines.fault(line.number, f"the {column} '{value}' is not a number.")
    return number
