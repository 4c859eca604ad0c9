"""Confidence intervals of means, and tests of differences over the same queries."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 10_000
SEED = 42
# How many resamples are in memory at once.
_BATCH = 200


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over the queries, with its 95% bootstrap interval; without one for fewer than two queries."""

    value: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Mean":
        """The mean, and the interval by the percentiles of resampled means (Efron 1979), with a fixed seed."""
        sample = np.asarray(values, np.float64)
        if len(sample) < 2:
            return cls(float(sample.mean()), None, None)
        interval = stats.bootstrap(
            (sample,),
            np.mean,
            n_resamples=RESAMPLES,
            batch=_BATCH,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(SEED),
        ).confidence_interval
        return cls(float(sample.mean()), float(interval.low), float(interval.high))


def p_value(one: Sequence[float], other: Sequence[float]) -> float | None:
    """The two-sided paired t-test: the probability of a difference this large if there is none.

    Of the usual tests, it is the one to be trusted most on such values (Urbano, Lima and Hanjalic, SIGIR 2019). None
    for fewer than two queries; 1 if no query differs, and 0 if all differ by the same.
    """
    differences: NDArray[np.float64] = np.asarray(one, np.float64) - np.asarray(other, np.float64)
    if len(differences) < 2:
        return None
    if not differences.any():
        return 1.0
    if np.ptp(differences) == 0:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nearly equal differences, whose p is nearly 0
        return float(stats.ttest_rel(one, other).pvalue)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values after the correction for several comparisons (Holm 1979), in the same order."""
    known = sorted((p, at) for at, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    least = 0.0
    for rank, (p, at) in enumerate(known):
        least = max(least, min(1.0, (len(known) - rank) * p))
        corrected[at] = least
    return corrected
