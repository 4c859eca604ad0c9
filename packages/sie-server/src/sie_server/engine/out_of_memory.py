"""Recovery from a batch that does not fit into the device's memory."""

import gc
from collections.abc import Callable
from typing import Any

import torch

from sie_server.engine.request import Batch
from sie_server.engine.scheduler import Scheduler
from sie_server.errors import Code, SIEError
from sie_server.machine.malloc import trim_and_tune
from sie_server.metrics import Metrics

_MAX_SPLITS = 4

Answer = Callable[[Batch, int], list[Any]]


class OutOfMemoryRecovery:
    """Runs a batch that did not fit in halves, and lowers the batch limit of its model."""

    def __init__(self, scheduler: Scheduler, metrics: Metrics) -> None:
        self._scheduler = scheduler
        self._metrics = metrics

    def retry(self, batch: Batch, splits: int, answer: Answer) -> list[Any]:
        """Return the answers to a batch that did not fit, itself the result of `splits` splits.

        A batch is split up to four times, and a single sequence is tried once more; if that does not fit either, the
        answer is RESOURCE_EXHAUSTED. `answer(batch, splits)` runs a batch. To be called once no exception holds the
        tensors of the failed forward pass.
        """
        model, tokens, count = batch.model, batch.tokens, len(batch)
        if splits == 0:
            self._metrics.oom_recoveries_attempted.inc()
        _clear_cache(model.device)
        self._metrics.oom_cache_clears.inc()
        if splits == _MAX_SPLITS:
            self._metrics.oom_terminal_failures.inc()
            message = f"a batch of {tokens} tokens of model '{model.id}' does not fit into memory"
            return [SIEError(Code.RESOURCE_EXHAUSTED, message)] * count
        if count == 1:
            answers = answer(batch, _MAX_SPLITS)
        else:
            self._scheduler.shrink(model.id, tokens)
            self._metrics.oom_batch_splits.inc()
            answers = [result for half in _halves(batch) for result in answer(half, splits + 1)]
        if splits == 0 and not any(isinstance(result, SIEError) for result in answers):
            self._metrics.oom_recoveries_succeeded.inc()
        return answers


def _halves(batch: Batch) -> tuple[Batch, Batch]:
    """Split a batch into two parts of about the same number of tokens, neither of them empty."""
    half = batch.tokens // 2
    count = counted = 0
    for entry in batch.scheduled[:-1]:
        if count and counted + entry.tokens > half:
            break
        counted += entry.tokens
        count += 1
    return Batch(batch.model, batch.scheduled[:count]), Batch(batch.model, batch.scheduled[count:])


def _clear_cache(device: torch.device) -> None:
    """Release memory that the allocator holds in reserve."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    else:
        trim_and_tune()
