"""Which models there are, and how they get into memory: on first use, once; failures are remembered."""

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from typing import Any, TypeVar

from sie_server.catalog.catalog import Entry, did_you_mean
from sie_server.checkpoints.cancellation import GIVEN_UP
from sie_server.checkpoints.load_errors import classified
from sie_server.errors import Code, LoadClass, LoadError, SIEError
from sie_server.metrics import Metrics
from sie_server.models.loaded_model import LoadedModel
from sie_server.residency.address import ModelAddress
from sie_server.residency.eviction import ResidentModels, give_back
from sie_server.residency.memory_budget import Footprint, MemoryBudget
from sie_server.residency.slot import Resident, Slot, loading

_LOG = logging.getLogger(__name__)
T = TypeVar("T")

_FETCHES = 4
# Characters of a client's name for a model or profile that an error repeats.
_MOST_NAMED = 500
# Failures whose message alone does not say enough: their stack goes into the log.
_UNEXPLAINED = {LoadClass.UNKNOWN, LoadClass.ENGINE, LoadClass.PLACEMENT}


class Residency:
    """The models of one device. Lives on the event loop; loads run one at a time in a thread of their own.

    slots: by the id of their model. clock: in seconds.
    """

    def __init__(
        self,
        entries: Iterable[Entry],
        load: Callable[[Entry], LoadedModel],
        memory: MemoryBudget,
        metrics: Metrics,
        *,
        batch_tokens: int,
        load_wait_s: float,
        load_timeout_s: float,
        pinned: Collection[str] = (),
        fetch: Callable[[Entry], None] = lambda _: None,
        weigh: Callable[[Entry], int | None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """batch_tokens: most in a batch. load_wait_s: how long a request is held. load_timeout_s: after which a load
        has failed, without its download; its thread is told to end. pinned: ids of models that are never evicted.
        fetch: brings a model's files to this machine, ahead of `load`: downloads run beside loads and each other, so
        that no model waits for the files of another. weigh: bytes that a model's weights will take, None where nobody
        can tell yet.
        """
        self.clock = clock
        self.slots: dict[str, Slot] = {}
        self._resident_models = ResidentModels(self.slots, memory, metrics, clock)
        self._metrics = metrics
        self._load = load
        self._fetch = fetch
        self._weigh = weigh
        self._batch_tokens = batch_tokens
        self._load_wait_s = load_wait_s
        self._load_timeout_s = load_timeout_s
        self._pinned = pinned
        self._turn = asyncio.Lock()
        self._loads = _load_thread()
        self._fetches = ThreadPoolExecutor(max_workers=_FETCHES, thread_name_prefix="fetch")
        for entry in entries:
            self.put(entry)

    @property
    def addresses(self) -> list[ModelAddress]:
        """Every model, and behind it each of its profiles but the default."""
        return [
            ModelAddress(slot, name, profile)
            for slot in self.slots.values()
            for name, profile in slot.entry.every_profile.items()
        ]

    def address(self, model_id: str, profile: str | None = None) -> ModelAddress:
        """The model and profile of an `id` or `id:profile`, where `profile` wins over the one in the id.

        Raises:
            SIEError: MODEL_NOT_FOUND, with up to three similar names; INVALID_INPUT, the model has no such `profile`.
        """
        slot, name = self._named(model_id)
        if slot is None or name not in slot.entry.every_profile:
            raise self._not_found(model_id)
        profiles = slot.entry.every_profile
        chosen = name if profile is None else profile
        if chosen not in profiles:
            named = chosen[:_MOST_NAMED]
            raise SIEError(Code.INVALID_INPUT, f"Profile '{named}' not found. Available: {list(profiles)}")
        return ModelAddress(slot, name, profiles[chosen])

    def knows(self, model_id: str) -> str | None:
        """The id of the model that an `id` or `id:profile` is of; None where there is no such model."""
        slot, name = self._named(model_id)
        return None if slot is None or name not in slot.entry.every_profile else slot.entry.id

    def _named(self, model_id: str) -> tuple[Slot | None, str]:
        if (slot := self.slots.get(model_id)) is not None:
            return slot, "default"
        model, _, name = model_id.rpartition(":")
        return self.slots.get(model), name

    def slot(self, model_id: str) -> Slot:
        """The slot of a model, which its profiles share.

        Raises:
            SIEError: MODEL_NOT_FOUND, as `address`.
        """
        return self.address(model_id).slot

    async def model(self, model_id: str) -> LoadedModel:
        """A loaded model, starting its load and waiting up to the load wait where needed.

        Raises:
            SIEError: MODEL_NOT_FOUND, MODEL_LOADING or MODEL_LOAD_FAILED.
        """
        slot = self.slot(model_id)
        resident = slot.serving or await self._held(slot)
        resident.used_at = self.clock()
        return resident.model

    def using(self, model: LoadedModel) -> AbstractContextManager[None]:
        """As `ResidentModels.using`."""
        return self._resident_models.using(model)

    async def preload(self, model_id: str) -> None:
        """Load a model, however long it takes.

        Raises:
            SIEError: MODEL_NOT_FOUND or MODEL_LOAD_FAILED.
        """
        slot = self.slot(model_id)
        if slot.serving is None:
            await asyncio.wait({self._ensure_loading(slot)})
        if slot.resident is None and slot.error is not None:
            raise slot.failed()

    def unload(self, model_id: str) -> "asyncio.Task[None]":
        """Let a model go once nobody uses it, or after 30 s. Requests that come in between are held, and load it again.

        Raises:
            SIEError: MODEL_NOT_FOUND.
        """
        return self._resident_models.unload(self.slot(model_id))

    def put(self, entry: Entry, fault: LoadError | None = None) -> None:
        """A model is new, or its files have changed. fault: what is wrong with them, as far as is known.

        One that is in memory is loaded anew; where there is room for both, the old one answers until then.
        """
        if fault is not None:
            _LOG.error("%s: %s", entry.id, fault)
        slot = self.slots.get(entry.id)
        if slot is None:
            self.slots[entry.id] = Slot(entry, entry, pinned=entry.id in self._pinned, error=fault)
            return
        slot.given = slot.entry = entry
        slot.footprint = None
        slot.forgive()
        slot.error = fault
        if slot.serving is not None:
            self._ensure_loading(slot)

    def remove(self, model_id: str) -> None:
        """A model is not served any more; who uses it now still gets an answer."""
        slot = self.slots.pop(model_id)
        if slot.loading is not None:
            slot.loading.cancel()
        self._tell(slot, self._not_found(model_id))
        self._resident_models.unload(slot)

    async def close(self) -> None:
        """Drop the models. A load that is under way is told to end, and not waited for."""
        for slot in self.slots.values():
            if slot.loading is not None:
                slot.loading.cancel()
            self._tell(slot, loading(slot.entry.id))
        self._resident_models.close()
        for executor in (self._loads, self._fetches):
            executor.shutdown(wait=False, cancel_futures=True)

    async def _held(self, slot: Slot) -> Resident:
        self._ensure_loading(slot)
        waiter: asyncio.Future[Resident] = asyncio.get_running_loop().create_future()
        slot.waiting.add(waiter)
        try:
            async with asyncio.timeout(self._load_wait_s):
                return await waiter
        except TimeoutError:
            raise loading(slot.entry.id) from None
        finally:
            slot.waiting.discard(waiter)
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                waiter.result().leave(waiter)

    def _tell(self, slot: Slot, outcome: Resident | SIEError) -> None:
        """Answer the requests that wait for a load."""
        for waiter in slot.waiting:
            if waiter.done():
                continue
            if isinstance(outcome, Resident):
                # It uses the model from here on, so that nobody takes it away before the request gets its turn.
                outcome.users.add(waiter)
                waiter.set_result(outcome)
            else:
                waiter.set_exception(outcome)

    def _ensure_loading(self, slot: Slot) -> "asyncio.Task[None]":
        if slot.loading is None:
            if slot.cooling(self.clock()):
                raise slot.failed()
            slot.loading = asyncio.create_task(self._run_load(slot))
        return slot.loading

    async def _run_load(self, slot: Slot) -> None:
        try:
            given = None
            while given is not slot.given:  # at first, and where the files have changed meanwhile
                given = slot.given
                await self._attempt(slot, given)
        finally:
            slot.loading = None
        self._tell(slot, slot.resident or slot.failed())

    async def _attempt(self, slot: Slot, given: Entry) -> None:
        slot.attempts += 1
        try:
            if slot.unloading is not None:
                await asyncio.wait({slot.unloading})
            await asyncio.get_running_loop().run_in_executor(self._fetches, self._fetch, given)
            async with self._turn:
                await self._bring_in(slot, given)
            return
        except Exception as error:  # whatever a checkpoint does to the loader, the server stays up and says so
            failure = classified(error, given.source)
            self._metrics.load_failures.labels(given.id, failure.kind).inc()
            _LOG.error("%s: %s", given.id, failure, exc_info=error if failure.kind in _UNEXPLAINED else None)
        slot.fail(failure, self.clock())
        # Not before the handler is left: the error holds on to what was loaded.
        await asyncio.to_thread(give_back)

    async def _bring_in(self, slot: Slot, given: Entry) -> None:
        """Make room for what is expected, load, make room for what was measured, and let requests at it."""
        expected, certain = await self._expected(slot, given)
        await self._resident_models.make_room(slot, expected, certain)
        model = await self._load_with_room(slot, given)
        slot.footprint = Footprint(model.bytes, model.token_bytes * self._batch_tokens)
        await self._resident_models.make_room(slot, slot.footprint, slot.footprint)
        self._resident_models.add(slot, model, slot.footprint)
        slot.entry = model.entry
        slot.forgive()

    async def _expected(self, slot: Slot, given: Entry) -> tuple[Footprint, Footprint]:
        """What a model is likely to need, and what in any case: the same where its files have been looked at."""
        if slot.footprint is not None:
            return slot.footprint, slot.footprint
        if (weights := await self._in_time(slot, given, self._weigh)) is not None:
            return Footprint(weights), Footprint(weights)
        likely = 4 * (given.parameters or 0)
        # No precision takes fewer than half its bytes of float32: what may fit is tried.
        return Footprint(likely), Footprint(likely // 2)

    async def _load_with_room(self, slot: Slot, given: Entry) -> LoadedModel:
        """The model; where memory does not suffice after all, another one goes and it is tried once more."""
        try:
            return await self._in_time(slot, given, self._load)
        except Exception as error:
            if (
                classified(error, given.source).kind is not LoadClass.OOM
                or (victim := self._resident_models.least_recently_used(slot)) is None
            ):
                raise
            _LOG.warning("%s: %s; unloading %s", given.id, error, victim.entry.id)
        await asyncio.wait({self._resident_models.unload(victim)})
        return await self._in_time(slot, given, self._load)

    async def _in_time(self, slot: Slot, given: Entry, work: Callable[[Entry], T]) -> T:
        """What comes of work on the load thread, within the load timeout. Who waits no longer has it given up."""
        if slot.hanging:
            raise LoadError(LoadClass.TIMEOUT, f"an earlier load of {given.source} has not ended yet")
        limit, given_up = asyncio.timeout(self._load_timeout_s), threading.Event()
        context = contextvars.copy_context()
        context.run(GIVEN_UP.set, given_up)
        task = self._loads.submit(context.run, work, given)
        try:
            async with limit:
                return await asyncio.wrap_future(task)
        except TimeoutError:
            if not limit.expired():
                raise
            late = f"{given.source} was not loaded within {self._load_timeout_s:g} s"
            raise LoadError(LoadClass.TIMEOUT, late) from None
        finally:
            if not task.done():
                given_up.set()
                self._abandon(slot, task)

    def _abandon(self, slot: Slot, task: "Future[Any]") -> None:
        """Leave the load thread to itself: it may never come back, and others are to be loaded."""
        loop = asyncio.get_running_loop()
        slot.hanging = True

        def ended() -> None:
            slot.hanging = False
            loop.run_in_executor(None, give_back)

        def tell(_: "Future[Any]") -> None:
            with suppress(RuntimeError):  # the loop has gone
                loop.call_soon_threadsafe(ended)

        task.add_done_callback(tell)
        self._loads.shutdown(wait=False)
        self._loads = _load_thread()

    def _not_found(self, model_id: str) -> SIEError:
        similar = did_you_mean(model_id, [address.id for address in self.addresses])
        return SIEError(Code.MODEL_NOT_FOUND, f"Model '{model_id[:_MOST_NAMED]}' not found{similar}")


def _load_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="load")
