"""Generate docs/metrics.md from the declarations of the metrics (`make docs`)."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from prometheus_client import ProcessCollector
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from sie_server.metrics import Histogram, Metrics


class MetricInfo(NamedTuple):
    """A metric as Prometheus sees it; `name` includes a counter's suffix."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str

    @property
    def series(self) -> tuple[str, ...]:
        """Names of its time series in queries."""
        if self.kind == "histogram":
            return tuple(f"{self.name}_{suffix}" for suffix in ("bucket", "sum", "count"))
        return (self.name,)


def all_metrics() -> Iterator[MetricInfo]:
    """All metrics, in the order of declaration."""
    for collector in vars(Metrics()).values():
        if isinstance(collector, MetricWrapperBase):
            [family], labels = list(collector.describe()), tuple(collector._labelnames)
        elif isinstance(collector, Histogram):
            [family], labels = list(collector.describe()), tuple(collector.label_names)
        elif isinstance(collector, ProcessCollector):
            yield from (_info(family, ()) for family in collector.collect())
            continue
        else:
            continue
        yield _info(family, labels)


def page() -> str:
    """Render docs/metrics.md."""
    rows = [
        f"| `{metric.name}` | {metric.kind} | {', '.join(f'`{label}`' for label in metric.labels) or '–'} "
        f"| {metric.meaning} |"
        for metric in all_metrics()
    ]
    return _PAGE.format(rows="\n".join(rows))


def _info(family: Metric, labels: tuple[str, ...]) -> MetricInfo:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return MetricInfo(name, family.type, labels, family.documentation.removesuffix("."))


_PAGE = """\
# Metrics

<!-- Generated from the declarations by `make docs`. Edit packages/sie-server/src/sie_server/metrics.py. -->

`GET /metrics` returns these metrics in Prometheus' text format. [operations.md](operations.md) shows how to use them.

| Metric | Type | Labels | |
|---|---|---|---|
{rows}

A histogram has `_bucket`, `_sum` and `_count`. Times are in seconds, sizes in bytes or tokens.

**Labels** take few values, whatever clients send. `model` is the id of a model that this server has, a profile's
requests being those of its model, or `unknown`; `endpoint` is `score`, `encode`, `extract`, `rerank`, `embeddings`,
`tei` (TEI's other routes), or `unknown` for an error that no such route gave, such as a path that is none.
"""


if __name__ == "__main__":
    Path("docs/metrics.md").write_text(page())
