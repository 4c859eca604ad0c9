"""The models that are in memory, and which of them goes when another one needs the room."""

import asyncio
import gc
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from sie_server.errors import LoadClass, LoadError
from sie_server.machine.malloc import trim_and_tune
from sie_server.metrics import Metrics
from sie_server.models.loaded_model import LoadedModel
from sie_server.residency.memory_budget import Footprint, MemoryBudget
from sie_server.residency.slot import Resident, Slot

_LOG = logging.getLogger(__name__)
_DRAIN_S = 30.0
_MB = 2**20


class ResidentModels:
    """What `slots` have in memory, within a budget. Lives on the event loop."""

    def __init__(
        self, slots: Mapping[str, Slot], memory: MemoryBudget, metrics: Metrics, clock: Callable[[], float]
    ) -> None:
        self._slots = slots
        self._memory = memory
        self._metrics = metrics
        self._clock = clock
        # By the identity of their models; those on their way out, and out of the slots, are among them.
        self._residents: dict[int, Resident] = {}
        self._going: set[asyncio.Task[None]] = set()

    @contextmanager
    def using(self, model: LoadedModel) -> Iterator[None]:
        """While the current task is in here, the model stays in memory; a drain waits for it, up to 30 s.

        A model that is not in here, or no longer, belongs to whoever still holds it.

        Raises:
            SIEError: MODEL_LOADING, the drain is over.
        """
        resident = self._residents.get(id(model))
        if resident is None:
            yield
            return
        try:
            with resident.in_use():
                yield
        finally:
            resident.used_at = self._clock()

    async def make_room(self, slot: Slot, footprint: Footprint, certain: Footprint) -> None:
        """Unload models, those first that nobody uses and that were not asked for the longest, until `footprint` fits.

        Raises:
            LoadError: OOM, not even `certain` does. Where it would not beside those that can't be unloaded, none goes.
        """
        lasting = [
            other.resident.footprint
            for other in self._slots.values()
            if other.pinned and other is not slot and other.resident is not None
        ]
        self._require(slot, certain, self._memory.excess([*lasting, certain]))
        while self._excess(footprint) > 0:
            victim = self.least_recently_used(slot)
            if victim is not None:
                _LOG.info("%s: unloading %s to make room", slot.entry.id, victim.entry.id)
            leaving = self._going if victim is None else {self.unload(victim)}
            if not leaving:
                break
            await asyncio.wait(leaving, return_when=asyncio.FIRST_COMPLETED)
        self._require(slot, certain, self._excess(certain))

    def least_recently_used(self, slot: Slot) -> Slot | None:
        """The model to unload for that of `slot`; one that is about to be replaced comes last."""
        loaded = [(other, other.resident) for other in self._slots.values() if other.resident is not None]
        ranks = {
            other: (other is slot, bool(resident.users), resident.used_at)
            for other, resident in loaded
            if other is slot or not other.pinned
        }
        return min(ranks, key=ranks.__getitem__, default=None)

    def add(self, slot: Slot, model: LoadedModel, footprint: Footprint) -> None:
        """A model that was loaded; one that was there before goes as soon as nobody uses it."""
        resident = Resident(model, footprint, self._clock())
        replaced, slot.resident = slot.resident, resident
        self._residents[id(model)] = resident
        labels = model.id, str(model.device)
        self._metrics.loaded.labels(*labels).set(1)
        self._metrics.memory.labels(*labels).set(model.bytes)
        if replaced is not None:
            self._begin(self._retire(slot, replaced))

    def unload(self, slot: Slot) -> "asyncio.Task[None]":
        """Let a model go once nobody uses it. Requests that come in between are held, and load it again."""
        if slot.unloading is None:
            slot.unloading = self._begin(self._unload(slot))
        return slot.unloading

    def close(self) -> None:
        """Drop the models."""
        for task in self._going:
            task.cancel()
        for slot in self._slots.values():
            slot.resident = None
        self._residents.clear()

    def _require(self, slot: Slot, footprint: Footprint, excess: int) -> None:
        if excess > 0:
            raise LoadError(
                LoadClass.OOM,
                f"{slot.entry.source} needs {sum(footprint) / _MB:,.1f} MB; with the models that can't be unloaded, "
                f"that is {excess / _MB:,.1f} MB over the memory budget of {self._memory.budget / _MB:,.1f} MB",
            )

    def _excess(self, footprint: Footprint) -> int:
        return self._memory.excess([*(resident.footprint for resident in self._residents.values()), footprint])

    def _begin(self, leaving: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(leaving)
        self._going.add(task)
        task.add_done_callback(self._going.discard)
        return task

    async def _unload(self, slot: Slot) -> None:
        try:
            if slot.resident is not None:
                await self._retire(slot, slot.resident)
        finally:
            slot.unloading = None

    async def _retire(self, slot: Slot, resident: Resident) -> None:
        """Wait for who uses the model, send away who still does after 30 s, and give its memory back."""
        try:
            async with asyncio.timeout(_DRAIN_S):
                await resident.drained()
        except TimeoutError:
            _LOG.warning("%s: %d requests refused to unload it", slot.entry.id, len(resident.users))
            resident.refuse()
            await resident.drained()
        del self._residents[id(resident.model)]
        if slot.resident is resident:
            slot.resident = None
        labels = resident.model.id, str(resident.model.device)
        if all(other.model.id != resident.model.id for other in self._residents.values()):
            self._metrics.loaded.labels(*labels).set(0)
            self._metrics.memory.labels(*labels).set(0)
        _LOG.info("%s: unloaded", slot.entry.id)
        del resident
        await asyncio.to_thread(give_back)


def give_back() -> None:
    """Return memory that is free now to the kernel or the device."""
    gc.collect()
    trim_and_tune()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
