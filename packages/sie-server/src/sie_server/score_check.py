"""Self-check: compares the scores of a loaded model with published ones."""

import asyncio
import logging
import math
from collections.abc import Sequence as Items
from dataclasses import dataclass
from itertools import permutations

import torch

from sie_server.catalog.catalog import Entry, Example
from sie_server.checkpoints.load import Encoders, Weighed, load
from sie_server.engine.calls import ScoreCall
from sie_server.engine.engine import Engine
from sie_server.errors import LoadClass, LoadError, SIEError
from sie_server.metrics import Metrics
from sie_server.models.loaded_model import LoadedModel
from sie_server.nn.linear_backends import RowCountTrials
from sie_server.nn.precision import dtype_name
from sie_server.options import Precision, Score
from sie_server.settings import Settings

_LOG = logging.getLogger(__name__)

# Largest difference that counts as rounding, as a share of the logit. The tests of sentence-transformers have the
# scores of 17 rerankers in float32 and in bfloat16, which differ by up to 5.4 %. The value for int8 is a guess from one
# model (benchmarks/LOG.md).
_RATE = {"float32": 0.005, "float16": 0.01, "bfloat16": 0.06, "int8": 0.15}
# Scores are published with five digits.
_DIGITS = 1e-5


@dataclass(frozen=True, slots=True)
class Compared:
    """A document's score and the published one."""

    document: str
    expected: float
    got: float
    tolerance: float

    @property
    def difference(self) -> float:
        return self.got - self.expected

    @property
    def passed(self) -> bool:
        return abs(self.difference) <= self.tolerance


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one example. ordered: whether the documents rank as published."""

    query: str
    source: str
    compared: tuple[Compared, ...]
    ordered: bool

    @property
    def passed(self) -> bool:
        return self.ordered and all(pair.passed for pair in self.compared)


def verify(model: LoadedModel) -> list[Outcome]:
    """Score the model's examples as the server does, in an engine of their own on the model's device.

    Must not be called on a thread that runs an event loop.

    Raises:
        SIEError: an example could not be scored.
    """
    dtype = dtype_name(model.dtype)
    got = asyncio.run(_scores(model, model.entry.examples))
    return [
        compare(example, scores, model.score, dtype) for example, scores in zip(model.entry.examples, got, strict=True)
    ]


def load_verified(
    entry: Entry,
    device: torch.device,
    precision: Precision = "auto",
    *,
    trials: RowCountTrials | None = None,
    weighed: Weighed | None = None,
    encoders: Encoders | None = None,
) -> LoadedModel:
    """`load`, and refuse a model that does not give its published scores. A model without any passes.

    Raises:
        LoadError: as `load`, or SCORES with the expected and the actual scores.
    """
    model = load(entry, device, precision, trials=trials, weighed=weighed, encoders=encoders)
    if not model.entry.examples:
        _LOG.info("%s: no published scores to compare with", model.id)
        return model
    try:
        outcomes = verify(model)
    except SIEError as error:
        raise LoadError(LoadClass.SCORES, f"{model.entry.source} can't score its examples: {error}") from error
    if failed := [outcome for outcome in outcomes if not outcome.passed]:
        pairs = failed[0].compared
        raise LoadError(
            LoadClass.SCORES,
            f"the scores of {model.entry.source} for {failed[0].query!r} differ from the published ones: expected "
            f"{[pair.expected for pair in pairs]}, got {[round(pair.got, 5) for pair in pairs]} in {model.dtype}",
        )
    _LOG.info("%s: gives its %d published scores", model.id, sum(len(outcome.compared) for outcome in outcomes))
    return model


def compare(example: Example, got: Items[float], score: Score | None, dtype: str) -> Outcome:
    """Compare scores computed in `dtype` with those of an example.

    Both sides round, so the coarser precision sets the tolerance. Two documents must rank as published unless their
    published scores are closer than that.
    """
    rate = max(_RATE[example.precision], _RATE[dtype])
    compared = tuple(
        Compared(document, expected, score_, _tolerance(expected, score, rate))
        for document, expected, score_ in zip(example.documents, example.scores, got, strict=True)
    )
    ordered = all(
        a.got > b.got for a, b in permutations(compared, 2) if a.expected - b.expected > max(a.tolerance, b.tolerance)
    )
    return Outcome(example.query, example.source, compared, ordered)


def _tolerance(expected: float, score: Score | None, rate: float) -> float:
    """Largest difference from `expected` in the same unit. A difference of logits scales by a probability's slope."""
    if score == "maxsim":
        return rate + _DIGITS  # a sum of cosines, each at most one, whose errors cancel
    if score != "probability":
        return rate * max(1.0, abs(expected)) + _DIGITS
    slope = expected * (1 - expected)
    return rate * max(1.0, abs(math.log(expected / (1 - expected)))) * slope + _DIGITS


async def _scores(model: LoadedModel, examples: Items[Example]) -> list[list[float]]:
    settings = Settings(device=str(model.device), workers=1)
    engine = Engine(settings, {model.id: model.entry}, Metrics(), lambda *_, **__: model)
    engine.start()
    try:
        calls = [ScoreCall(model.id, each.query, each.documents) for each in examples]
        return [(await engine.score_with(model, call)).scores for call in calls]
    finally:
        await engine.close()
