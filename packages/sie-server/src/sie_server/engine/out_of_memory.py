"""Running out of the device's memory: how it shows, and how a batch is computed all the same."""

import gc
from collections.abc import Callable
from typing import Any

import torch

from sie_server.engine.request import Batch
from sie_server.engine.scheduler import Scheduler
from sie_server.errors import Code, SIEError
from sie_server.machine.malloc import trim_and_tune
from sie_server.metrics import Metrics

_MOST_SPLITS = 4

Answer = Callable[[Batch, int], list[Any]]


class OutOfMemoryRecovery:
    """Runs a batch that did not fit in halves, and teaches the scheduler what fits."""

    def __init__(self, scheduler: Scheduler, metrics: Metrics) -> None:
        self._scheduler = scheduler
        self._metrics = metrics

    def retry(self, batch: Batch, splits: int, answer: Answer) -> list[Any]:
        """Answers to a batch that came out of so many splits and did not fit.

        It is split up to four times, one sequence tried once more; what does not fit then is RESOURCE_EXHAUSTED.
        `answer(batch, splits)` runs one. To be called when no exception holds on to a forward's tensors any more.
        """
        model, tokens, count = batch.model, batch.tokens, len(batch)
        if splits == 0:
            self._metrics.oom_recoveries_attempted.inc()
        _clear_cache(model.device)
        self._metrics.oom_cache_clears.inc()
        if splits == _MOST_SPLITS:
            self._metrics.oom_terminal_failures.inc()
            message = f"a batch of {tokens} tokens of model '{model.id}' does not fit into memory"
            return [SIEError(Code.RESOURCE_EXHAUSTED, message)] * count
        if count == 1:
            answers = answer(batch, _MOST_SPLITS)
        else:
            self._scheduler.shrink(model.id, tokens)
            self._metrics.oom_batch_splits.inc()
            answers = [each for half in _halves(batch) for each in answer(half, splits + 1)]
        if splits == 0 and not any(isinstance(each, SIEError) for each in answers):
            self._metrics.oom_recoveries_succeeded.inc()
        return answers


def _halves(batch: Batch) -> tuple[Batch, Batch]:
    """Of about as many tokens; none is empty."""
    half = batch.tokens // 2
    count = counted = 0
    for entry in batch.scheduled[:-1]:
        if count and counted + len(entry.sequence) > half:
            break
        counted += len(entry.sequence)
        count += 1
    return Batch(batch.model, batch.scheduled[:count]), Batch(batch.model, batch.scheduled[count:])


def _clear_cache(device: torch.device) -> None:
    """Give back what is held in reserve."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    else:
        trim_and_tune()
