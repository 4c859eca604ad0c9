"""The self-check: does a loaded model give the scores that were published for it?"""

import asyncio
import logging
import math
from collections.abc import Sequence as Items
from dataclasses import dataclass
from itertools import permutations

import torch

from sie_server.catalog.catalog import Entry, Example
from sie_server.checkpoints.load import load
from sie_server.engine.calls import ScoreCall
from sie_server.engine.engine import Engine
from sie_server.errors import LoadClass, LoadError, SIEError
from sie_server.metrics import Metrics
from sie_server.models.loaded_model import LoadedModel
from sie_server.options import Precision, Score
from sie_server.settings import Settings

_LOG = logging.getLogger(__name__)

# Largest difference that is rounding and not another model, as a share of the logit. sentence-transformers' own tests
# hold the scores of 17 rerankers in float32 and in bfloat16, and these differ by up to 5.4 %. What
# int8 may differ by is a guess from one model (benchmarks/LOG.md).
_RATE = {"float32": 0.005, "float16": 0.01, "bfloat16": 0.06, "int8": 0.15}
# Scores are published with five digits.
_DIGITS = 1e-5


@dataclass(frozen=True, slots=True)
class Compared:
    """One document's score beside the published one."""

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
    """The result of one example. `ordered`: the documents rank as published."""

    query: str
    source: str
    compared: tuple[Compared, ...]
    ordered: bool

    @property
    def passed(self) -> bool:
        return self.ordered and all(pair.passed for pair in self.compared)


def verify(model: LoadedModel) -> list[Outcome]:
    """Score the model's examples the way the server does: an engine of their own, on the model's device.

    Not to be called on a thread that runs an event loop.

    Raises:
        SIEError: an example could not be scored.
    """
    dtype = str(model.dtype).removeprefix("torch.")
    got = asyncio.run(_scores(model, model.entry.examples))
    return [
        compare(example, scores, model.score, dtype) for example, scores in zip(model.entry.examples, got, strict=True)
    ]


def load_verified(entry: Entry, device: torch.device, precision: Precision = "auto") -> LoadedModel:
    """`load`, and refuse what does not give its published scores. A model without any passes.

    Raises:
        LoadError: as `load` does, or SCORES with what was expected and what came.
    """
    model = load(entry, device, precision)
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
            f"{model.entry.source} does not give its published scores for {failed[0].query!r}: expected "
            f"{[pair.expected for pair in pairs]}, got {[round(pair.got, 5) for pair in pairs]} in {model.dtype}",
        )
    _LOG.info("%s: gives its %d published scores", model.id, sum(len(outcome.compared) for outcome in outcomes))
    return model


def compare(example: Example, got: Items[float], score: Score | None, dtype: str) -> Outcome:
    """Hold scores against an example's, computed in `dtype`.

    Both sides round, so the coarser of the two precisions sets the tolerance. Two documents have to rank as published
    unless their published scores are closer than that.
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
    """Largest difference from `expected`, in its own unit: a probability moves by its slope when its logit does."""
    if score == "maxsim":
        return rate + _DIGITS  # the errors of many cosines, none over one, cancel
    if score != "probability":
        return rate * max(1.0, abs(expected)) + _DIGITS
    slope = expected * (1 - expected)
    return rate * max(1.0, abs(math.log(expected / (1 - expected)))) * slope + _DIGITS


async def _scores(model: LoadedModel, examples: Items[Example]) -> list[list[float]]:
    settings = Settings(device=str(model.device), workers=1)
    engine = Engine(settings, {model.id: model.entry}, Metrics(), lambda *_: model)
    engine.start()
    try:
        calls = [ScoreCall(model.id, each.query, each.documents) for each in examples]
        return [(await engine.score_with(model, call)).scores for call in calls]
    finally:
        await engine.close()
