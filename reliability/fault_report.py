"""Report on one fault: tries, right answers, errors, wrong answers, lost requests, broken promises."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from outcome_counts import OutcomeCounts, format_counts

COLUMNS = ("fault", "tries", "right answers", "errors", "wrong", "lost", "observations")


@dataclass
class FaultReport:
    """Results of one fault. broken: promises that were not kept. skipped: reason for which it was not tried."""

    fault: str
    tries: int = 0
    right: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    note: str = ""
    skipped: str = ""

    def count(self, counts: OutcomeCounts) -> None:
        """Add the outcomes of requests."""
        self.right += counts.right
        self.errors += counts.errors
        self.wrong += counts.wrong
        self.lost += counts.lost

    def expect(self, kept: object, promise: str) -> None:
        """Record a promise as broken if it was not kept."""
        if not kept and promise not in self.broken:
            self.broken.append(promise)

    @property
    def passed(self) -> bool:
        """Whether nothing was wrong or lost, and every promise was kept."""
        return not (self.wrong or self.lost or self.broken)

    @property
    def figures(self) -> dict[str, Any]:
        """Results for JSON."""
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()}

    @property
    def row(self) -> tuple[str, ...]:
        """Row of a table with COLUMNS."""
        if self.skipped:
            return (self.fault, "skipped", "", "", "", "", self.skipped)
        notes = "; ".join(part for part in (self.note, *(f"NOT KEPT: {promise}" for promise in self.broken)) if part)
        wrong = str(len(self.wrong)) + (f" ({self.wrong[0]})" if self.wrong else "")
        return (
            self.fault,
            str(self.tries),
            f"{self.right:,}",
            format_counts(self.errors),
            wrong,
            format_counts(self.lost),
            notes,
        )


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, ("---",) * len(columns), *rows))
