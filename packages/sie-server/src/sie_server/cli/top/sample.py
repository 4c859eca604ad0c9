"""State of a server at one moment, and the difference between two."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Sample:
    """A frame of /ws/status and the values of /metrics, read at `moment` of `time.monotonic()`."""

    moment: float
    frame: Mapping[str, Any]
    values: Mapping[str, Mapping[Labels, float]]

    @classmethod
    def of(cls, moment: float, frame: Mapping[str, Any], metrics: str) -> "Sample":
        """metrics: in Prometheus' text format."""
        values: dict[str, dict[Labels, float]] = defaultdict(dict)
        for family in text_string_to_metric_families(metrics):
            for one in family.samples:
                values[one.name][frozenset(one.labels.items())] = one.value
        return cls(moment, frame, values)

    def total(self, name: str, **labels: str) -> float:
        """The sum of a metric over all series with these labels."""
        wanted = labels.items()
        return sum(value for found, value in self.values.get(name, {}).items() if wanted <= found)


@dataclass(frozen=True, slots=True)
class Between:
    """Changes from one sample to a later one of the same process."""

    before: Sample
    after: Sample

    @property
    def seconds(self) -> float:
        return max(self.after.moment - self.before.moment, 1e-9)

    def count(self, name: str, **labels: str) -> float:
        """Increase of a counter."""
        return self.after.total(name, **labels) - self.before.total(name, **labels)

    def rate(self, name: str, **labels: str) -> float:
        """Increase of a counter per second."""
        return self.count(name, **labels) / self.seconds

    @property
    def busy(self) -> float:
        """Share of the time in which the device threads computed."""
        threads = self.after.total("sie_device_threads")
        return min(self.rate("sie_device_busy_seconds_total") / max(threads, 1), 1.0)

    def by(self, name: str, label: str) -> dict[str, float]:
        """Increase of a counter per second by the values of a label, without zeros."""
        values = {dict(found)[label] for found in self.after.values.get(name, {})}
        rates = {value: self.rate(name, **{label: value}) for value in values}
        return {value: rate for value, rate in sorted(rates.items()) if rate > 0}

    def quantile(self, share: float, name: str, **labels: str) -> float | None:
        """Quantile of a histogram's new observations, as by `histogram_quantile`; None without observations."""
        counts: dict[float, float] = defaultdict(float)
        for sign, sample in ((1, self.after), (-1, self.before)):
            for found, value in sample.values.get(f"{name}_bucket", {}).items():
                if labels.items() <= found:
                    counts[float(dict(found)["le"])] += sign * value
        bounds = sorted(counts)
        if not bounds or counts[bounds[-1]] <= 0:
            return None
        rank = share * counts[bounds[-1]]
        lower, below = 0.0, 0.0
        for bound in bounds[:-1]:
            if counts[bound] >= rank:
                return lower + (bound - lower) * (rank - below) / max(counts[bound] - below, 1e-9)
            lower, below = bound, counts[bound]
        return lower  # over the last bound: all that is known
