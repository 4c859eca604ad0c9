"""Writes docs/metrics.md from the declarations of the metrics: `make docs`."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from prometheus_client import ProcessCollector
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from sie_server.metrics import Metrics


class Declared(NamedTuple):
    """A metric as Prometheus sees it: `name` with the suffix that a counter gets."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str

    @property
    def series(self) -> tuple[str, ...]:
        """The names that a query may have."""
        if self.kind == "histogram":
            return tuple(f"{self.name}_{suffix}" for suffix in ("bucket", "sum", "count"))
        return (self.name,)


def declared() -> Iterator[Declared]:
    """Every metric, in the order of their declaration."""
    for collector in vars(Metrics()).values():
        if isinstance(collector, MetricWrapperBase):
            [family], labels = list(collector.describe()), tuple(collector._labelnames)
        elif isinstance(collector, ProcessCollector):
            yield from (_declared(family, ()) for family in collector.collect())
            continue
        else:
            continue
        yield _declared(family, labels)


def page() -> str:
    """docs/metrics.md."""
    rows = [
        f"| `{metric.name}` | {metric.kind} | {', '.join(f'`{label}`' for label in metric.labels) or '–'} "
        f"| {metric.meaning} |"
        for metric in declared()
    ]
    return _PAGE.format(rows="\n".join(rows))


def _declared(family: Metric, labels: tuple[str, ...]) -> Declared:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return Declared(name, family.type, labels, family.documentation.removesuffix("."))


_PAGE = """\
# Metrics

<!-- Generated from the declarations by `make docs`. Edit packages/sie-server/src/sie_server/metrics.py. -->

`GET /metrics` returns these metrics in Prometheus' text format. [operations.md](operations.md) shows how to use them.

| Metric | Type | Labels | |
|---|---|---|---|
{rows}

A histogram has `_bucket`, `_sum` and `_count`. Times are in seconds, sizes in bytes or tokens.

**Labels** take few values, whatever clients send. `model` is the id of a model that this server has, a profile's
requests being those of its model, or `unknown`; `endpoint` is `score`, `encode`, `extract`, `rerank`, `embeddings`, or
`unknown` for an error that no such route gave, such as a path that is none.
"""


if __name__ == "__main__":
    Path("docs/metrics.md").write_text(page())
