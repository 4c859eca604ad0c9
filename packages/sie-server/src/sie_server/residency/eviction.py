"""Models in memory, and which of them is unloaded to make room for another."""

import asyncio
import gc
import logging
from collections.abc import Callable, Iterable, Mapping

import torch

from sie_server.errors import LoadClass, LoadError
from sie_server.machine.malloc import trim_and_tune
from sie_server.metrics import Metrics
from sie_server.models.encoder import Encoder
from sie_server.models.loaded_model import LoadedModel
from sie_server.residency.memory_budget import Footprint, MemoryBudget
from sie_server.residency.slot import Resident, Slot

_LOG = logging.getLogger(__name__)
_DRAIN_S = 30.0
_MB = 2**20


class ResidentModels:
    """The models of `slots` that are in memory, within a budget. Lives on the event loop.

    Models with the same encoder share its weights: these count once, and leave memory with the last of the models.
    """

    def __init__(
        self, slots: Mapping[str, Slot], memory: MemoryBudget, metrics: Metrics, clock: Callable[[], float]
    ) -> None:
        self._slots = slots
        self._memory = memory
        self._metrics = metrics
        self._clock = clock
        # By the id() of their models; includes models being unloaded or replaced, which no slot holds any more.
        self._residents: dict[int, Resident] = {}
        self._unloading: set[asyncio.Task[None]] = set()

    async def make_room(
        self, slot: Slot, footprint: Footprint, certain: Footprint, encoder: Encoder | None = None
    ) -> None:
        """Unload models, unused and least recently used ones first, until `footprint` fits.

        encoder: of the model that needs the room, if it is in memory.

        Raises:
            LoadError: OOM, not even `certain` fits. Nothing is unloaded if it does not fit with the pinned models.
        """
        lasting = [
            other.resident
            for other in self._slots.values()
            if other.pinned and other is not slot and other.resident is not None
        ]
        self._require(slot, certain, self._excess(lasting, certain, encoder))
        while self._excess(self._residents.values(), footprint, encoder) > 0:
            victim = self.least_recently_used(slot, encoder)
            if victim is not None:
                _LOG.info("%s: unloading %s to make room", slot.entry.id, victim.entry.id)
            leaving = self._unloading if victim is None else {self.unload(victim)}
            if not leaving:
                break
            await asyncio.wait(leaving, return_when=asyncio.FIRST_COMPLETED)
        self._require(slot, certain, self._excess(self._residents.values(), certain, encoder))

    def least_recently_used(self, slot: Slot, encoder: Encoder | None = None) -> Slot | None:
        """The model to unload for that of `slot`: unused ones first, then the least recently used; its own one last.

        Models with the same weights are ranked together, since memory is free once all of them have left. Those with
        the weights of a pinned model, or with `encoder`, stay.
        """
        groups: dict[Encoder, list[tuple[Slot, Resident]]] = {}
        for other in self._slots.values():
            if other.resident is not None:
                groups.setdefault(other.resident.model.encoder, []).append((other, other.resident))
        ranks = {
            other: (
                other is slot,
                any(resident.users for _, resident in group),
                max(resident.used_at for _, resident in group),
            )
            for shared, group in groups.items()
            if shared is not encoder and not any(other.pinned and other is not slot for other, _ in group)
            for other, _ in group
        }
        return min(ranks, key=ranks.__getitem__, default=None)

    def add(self, slot: Slot, model: LoadedModel, footprint: Footprint) -> None:
        """Put a loaded model into its slot; a model that it replaces is unloaded once it is unused."""
        resident = Resident(model, footprint, self._clock())
        replaced, slot.resident = slot.resident, resident
        self._residents[id(model)] = resident
        self._metrics.loaded.labels(model.id, str(model.device)).set(1)
        self._count_memory()
        if replaced is not None:
            self._start_unload(slot, replaced)

    def unload(self, slot: Slot) -> "asyncio.Task[None]":
        """Unload a model once it is unused, or after 30 s."""
        if slot.unloading is None:
            slot.unloading = self._start_unload(slot)
        return slot.unloading

    def close(self) -> None:
        """Drop the models."""
        for task in self._unloading:
            task.cancel()
        for slot in self._slots.values():
            slot.resident = None
        self._residents.clear()

    def _require(self, slot: Slot, footprint: Footprint, excess: int) -> None:
        if excess > 0:
            alone = self._memory.excess([footprint])
            raise LoadError(
                LoadClass.OOM,
                f"{slot.entry.source} needs {(alone + self._memory.budget) / _MB:,.1f} MB; "
                + ("with the models that can't be unloaded, " if excess > alone else "")
                + f"that is {excess / _MB:,.1f} MB over the memory budget of {self._memory.budget / _MB:,.1f} MB",
            )

    def _excess(self, residents: Iterable[Resident], footprint: Footprint, encoder: Encoder | None) -> int:
        """Bytes over the budget of these residents, together with a model that has this footprint and encoder."""
        largest: dict[Encoder | None, Footprint] = {encoder: footprint}
        for resident in residents:
            one = resident.footprint
            other = largest.get(resident.model.encoder, one)
            largest[resident.model.encoder] = Footprint(max(one.weights, other.weights), max(one.batch, other.batch))
        return self._memory.excess(largest.values())

    def _count_memory(self) -> None:
        """Count the bytes of each model; those of shared weights at the one that was loaded first."""
        counted: set[Encoder] = set()
        for resident in self._residents.values():
            model = resident.model
            resident.memory_bytes = 0 if model.encoder in counted else model.bytes
            counted.add(model.encoder)
            self._metrics.memory.labels(model.id, str(model.device)).set(resident.memory_bytes)

    def _start_unload(self, slot: Slot, replaced: Resident | None = None) -> "asyncio.Task[None]":
        task = asyncio.create_task(self._unload(slot, replaced))
        self._unloading.add(task)
        task.add_done_callback(self._unloading.discard)
        return task

    async def _unload(self, slot: Slot, resident: Resident | None) -> None:
        """Unload a resident that was replaced, or, if None is given, the one that is in the slot."""
        is_replaced = resident is not None
        resident = resident or slot.resident
        try:
            if resident is not None:
                await resident.drain(_DRAIN_S)
                self._drop(slot, resident)
                del resident  # the last reference to the model
                await asyncio.to_thread(release_memory)
        finally:
            if not is_replaced:
                slot.unloading = None

    def _drop(self, slot: Slot, resident: Resident) -> None:
        del self._residents[id(resident.model)]
        if slot.resident is resident:
            slot.resident = None
        labels = resident.model.id, str(resident.model.device)
        if all(other.model.id != resident.model.id for other in self._residents.values()):
            self._metrics.loaded.labels(*labels).set(0)
            self._metrics.memory.labels(*labels).set(0)
        self._count_memory()
        _LOG.info("%s: unloaded", slot.entry.id)


def release_memory() -> None:
    """Return free memory to the kernel or the device."""
    gc.collect()
    trim_and_tune()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
