"""What became of many requests, counted."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from traffic import Outcome
from truth import Truth, tokens

from sie_server.cli.bench.through_server import percentiles


@dataclass
class Tally:
    """right: 200 and every bit as alone. wrong: 200 and not. said: errors by status and code. lost: no answer, by why.

    unsure: refusals for a full queue that do not say when to come back. documents, tokens: of right answers in time;
    all_tokens: of all right answers.
    """

    requests: int = 0
    right: int = 0
    wrong: list[str] = field(default_factory=list)
    said: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    unsure: int = 0
    documents: int = 0
    tokens: int = 0
    all_tokens: int = 0
    seconds: list[float] = field(default_factory=list)

    def count(self, outcomes: Iterable[Outcome], truth: Truth, until: float = float("inf")) -> "Tally":
        """Count these as well; documents and tokens only of what was answered until then."""
        for outcome in outcomes:
            self.requests += 1
            if outcome.status == 0:
                self.lost[outcome.code] += 1
                continue
            if not outcome.echoed:
                self.wrong.append("an answer to another request")
            elif outcome.status != 200:
                self.said[f"{outcome.status} {outcome.code}"] += 1
                self.unsure += outcome.code == "QUEUE_FULL" and not outcome.retry_after
            elif (fault := truth.fault(outcome.request, outcome.body)) is not None:
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
        """For JSON; latencies in milliseconds."""
        return {
            "requests": self.requests,
            "right": self.right,
            "wrong": len(self.wrong),
            "wrong_examples": self.wrong[:3],
            "said": dict(self.said),
            "lost": dict(self.lost),
            "latency_ms": percentiles(self.seconds) if self.seconds else {},
        }


def counted(counter: Counter[str]) -> str:
    """`12 × 503 QUEUE_FULL, 1 × ...`, or 0."""
    return ", ".join(f"{count:,} × {name}" for name, count in counter.most_common()) or "0"
