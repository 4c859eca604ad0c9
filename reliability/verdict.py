"""What a fault did: how often it was tried, what was answered rightly, what was refused and said so, what was lost."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tally import Tally, counted

COLUMNS = ("fault", "tries", "right answers", "refused or failed, and said so", "wrong", "lost", "what was seen")


@dataclass
class Verdict:
    """One fault. `promises` that were not kept are named in `broken`; `skipped` says why it was not tried."""

    fault: str
    tries: int = 0
    right: int = 0
    said: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    note: str = ""
    skipped: str = ""

    def count(self, tally: Tally) -> None:
        """Add what became of these requests."""
        self.right += tally.right
        self.said += tally.said
        self.wrong += tally.wrong
        self.lost += tally.lost

    def expect(self, kept: object, promise: str) -> None:
        """Note a promise, if it was not kept."""
        if not kept and promise not in self.broken:
            self.broken.append(promise)

    @property
    def passed(self) -> bool:
        """Nothing wrong, nothing lost, every promise kept."""
        return not (self.wrong or self.lost or self.broken)

    @property
    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()}

    @property
    def row(self) -> tuple[str, ...]:
        """For a table with COLUMNS."""
        if self.skipped:
            return (self.fault, "skipped", "", "", "", "", self.skipped)
        seen = "; ".join(part for part in (self.note, *(f"NOT KEPT: {promise}" for promise in self.broken)) if part)
        wrong = str(len(self.wrong)) + (f" ({self.wrong[0]})" if self.wrong else "")
        return self.fault, str(self.tries), f"{self.right:,}", counted(self.said), wrong, counted(self.lost), seen


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, ("---",) * len(columns), *rows))
