"""Table of the metrics, from their declarations."""

from collections.abc import Iterator
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


def parts() -> dict[str, str]:
    """The generated part of docs/metrics.md."""
    rows = [
        f"| `{metric.name}` | {metric.kind} | {', '.join(f'`{label}`' for label in metric.labels) or '–'} "
        f"| {metric.meaning} |"
        for metric in all_metrics()
    ]
    return {"metrics": "\n".join(["| Metric | Type | Labels | |", "|---|---|---|---|", *rows])}


def _info(family: Metric, labels: tuple[str, ...]) -> MetricInfo:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return MetricInfo(name, family.type, labels, family.documentation.removesuffix("."))
