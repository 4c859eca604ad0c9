"""Gauges computed only when /metrics is scraped."""

from collections import Counter
from typing import get_args

import torch

from sie_server.engine.admission import Admission
from sie_server.engine.scheduler import Scheduler
from sie_server.metrics import Metrics
from sie_server.options import State
from sie_server.residency.residency import Residency


class Gauges:
    """Sets the gauges of an engine's queue, models, tokenizers and device to their current values."""

    def __init__(
        self,
        metrics: Metrics,
        scheduler: Scheduler,
        admission: Admission,
        residency: Residency,
        device: torch.device,
    ) -> None:
        self._metrics = metrics
        self._scheduler = scheduler
        self._admission = admission
        self._residency = residency
        self._device = device
        metrics.queue_depth.set_function(lambda: scheduler.tokens)
        metrics.batch_budget.set(scheduler.budget)
        metrics.device_threads.labels(str(device)).set(scheduler.workers)

    def refresh(self) -> None:
        """Set the gauges. Called on the event loop, before the metrics are rendered."""
        metrics, waiting = self._metrics, self._scheduler.waiting()
        seconds = self._admission.queue_seconds()
        slots = self._residency.slots.values()
        states = Counter(slot.state for slot in slots)
        for state in get_args(State):
            metrics.models.labels(state).set(states[state])
        # Gauges of unloaded models must not remain.
        metrics.queue_tokens.clear()
        metrics.queue_seconds.clear()
        metrics.words_known.clear()
        for model in [slot.model for slot in slots if slot.model is not None]:
            queued = waiting.get(model.id)
            metrics.queue_tokens.labels(model.id).set(queued.tokens if queued else 0)
            metrics.queue_seconds.labels(model.id).set(seconds.get(model.id, 0.0))
            words = model.tokenizer.words
            if words.enabled:
                hits, misses = words.take_counts()
                metrics.words.labels(model.id, "hit").inc(hits)
                metrics.words.labels(model.id, "miss").inc(misses)
                metrics.words_known.labels(model.id).set(words.size)
        if self._device.type == "cuda":
            free, total = torch.cuda.mem_get_info(self._device)
            metrics.device_memory.labels(str(self._device), "used").set(total - free)
            metrics.device_memory.labels(str(self._device), "total").set(total)
