"""The figures of an evaluation, as `results.json` has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sie_server.cli.eval.dataset import Counts
from sie_server.cli.eval.scoring import Failure
from sie_server.cli.eval.significance import Mean

Kind = Literal["first stage", "model", "perfect order"]


@dataclass(frozen=True, slots=True)
class Speed:
    """The speed of a model. p50_ms, p95_ms: of the requests, one per query: the least value that this share of them
    does not exceed. documents_per_s: over the time in which a request was under way. tokens, truncated: sums over the
    documents; None if the ranker does not tell.
    """

    queries: int
    documents: int
    p50_ms: float
    p95_ms: float
    documents_per_s: float
    tokens: int | None
    truncated: int | None


@dataclass(frozen=True, slots=True)
class Distribution:
    """Histogram of the scores of relevant and of all other candidates, in bins of equal width."""

    low: float
    high: float
    relevant: list[int]
    others: list[int]


@dataclass(frozen=True, slots=True)
class Row:
    """A ranking of all candidates. letter: by which the tables refer to it. values: by measure, in the order of the
    queries. failures: queries that the model refused, and whose candidates keep the order of the first stage.
    """

    letter: str
    name: str
    kind: Kind
    means: Mapping[str, Mean]
    values: Mapping[str, Sequence[float]]
    settings: Mapping[str, str]
    speed: Speed | None = None
    distribution: Distribution | None = None
    failures: Sequence[Failure] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two rankings by one measure: row `one` minus row `other`, by their letters.

    p: of the two-sided paired t-test. p_holm: after Holm's correction for all comparisons by this measure.
    """

    measure: str
    one: str
    other: str
    difference: Mean
    p: float | None
    p_holm: float | None


@dataclass(frozen=True, slots=True)
class Movement:
    """A relevant document's rank before and after, from 1. text: its beginning."""

    document: str
    grade: int
    before: int
    after: int
    text: str


@dataclass(frozen=True, slots=True)
class Change:
    """A query's value before and after, and the relevant documents that moved most in that direction."""

    query: str
    text: str
    before: float
    after: float
    movements: Sequence[Movement]


@dataclass(frozen=True, slots=True)
class Changes:
    """From row `before` to row `after`, by their letters: how many queries gained and lost, and the ten largest of
    both.
    """

    before: str
    after: str
    measure: str
    gained: int
    lost: int
    best: Sequence[Change]
    worst: Sequence[Change]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The dataset. candidates: of all queries together. relevant: documents of at least the relevance level that the
    judgments have for the queries; found: those that are candidates. empty: queries without candidates.
    """

    name: str
    first_stage: str
    sources: Mapping[str, str]
    queries: int
    candidates: int
    relevant: int
    found: int
    empty: int
    counts: Counts
    relevance_level: int


@dataclass(frozen=True, slots=True)
class Results:
    """An evaluation. measures: ir-measures' names, the main one first. titles: by which people know them.

    queries: id and text, in the order of the values. finished: an ISO 8601 time in UTC.
    """

    sie_server: str
    finished: str
    dataset: Evaluated
    measures: Sequence[str]
    titles: Mapping[str, str]
    rows: Sequence[Row]
    comparisons: Sequence[Comparison]
    changes: Sequence[Changes]
    queries: Sequence[tuple[str, str]]

    def row(self, letter: str) -> Row:
        """The row with this letter."""
        return next(row for row in self.rows if row.letter == letter)

    def best(self, measure: str) -> float:
        """The largest mean of a measure, the perfect order aside."""
        return max(row.means[measure].value for row in self.rows if row.kind != "perfect order")

    @property
    def models(self) -> list[Row]:
        """The rows of models."""
        return [row for row in self.rows if row.kind == "model"]
