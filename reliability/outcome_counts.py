"""Counts of requests by outcome."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from expected_scores import ExpectedScores, tokens
from traffic import Outcome

from sie_server.cli.bench.through_server import percentiles


@dataclass
class OutcomeCounts:
    """Counts of score requests by outcome.

    right: status 200, with the expected scores, bit for bit. wrong: faults of other answers with status 200.
    errors: error answers by status and code. lost: requests without an answer, by reason.
    without_retry_after: QUEUE_FULL errors without Retry-After.
    documents, tokens: of right answers in time. all_tokens: of all right answers.
    seconds: latencies of right answers.
    """

    requests: int = 0
    right: int = 0
    wrong: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    without_retry_after: int = 0
    documents: int = 0
    tokens: int = 0
    all_tokens: int = 0
    seconds: list[float] = field(default_factory=list)

    def count(
        self, outcomes: Iterable[Outcome], expected: ExpectedScores, until: float = float("inf")
    ) -> "OutcomeCounts":
        """Add outcomes; documents and tokens only of answers before `until`."""
        for outcome in outcomes:
            self.requests += 1
            if outcome.status == 0:
                self.lost[outcome.code] += 1
                continue
            if not outcome.echoed:
                self.wrong.append("an answer to another request")
            elif outcome.status != 200:
                self.errors[f"{outcome.status} {outcome.code}"] += 1
                self.without_retry_after += outcome.code == "QUEUE_FULL" and not outcome.retry_after
            elif (fault := expected.fault(outcome.request, outcome.body)) is not None:
                self.wrong.append(fault)
            else:
                self.right += 1
                self.seconds.append(outcome.seconds)
                answered = tokens(outcome.body)
                self.all_tokens += answered
                if outcome.ended <= until:
                    self.documents += len(outcome.request.numbers)
                    self.tokens += answered
        return self

    @property
    def figures(self) -> dict[str, Any]:
        """Results for JSON; latencies in milliseconds."""
        return {
            "requests": self.requests,
            "right": self.right,
            "wrong": len(self.wrong),
            "wrong_examples": self.wrong[:3],
            "errors": dict(self.errors),
            "lost": dict(self.lost),
            "latency_ms": percentiles(self.seconds) if self.seconds else {},
        }


def format_counts(counter: Counter[str]) -> str:
    """Format counts as `12 × 503 QUEUE_FULL, 1 × ...`, or 0."""
    return ", ".join(f"{count:,} × {name}" for name, count in counter.most_common()) or "0"
