"""Residency of models: loaded once, on first use; failed loads are remembered."""

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from collections.abc import Sequence as Items
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from types import MappingProxyType
from typing import Any, TypeVar

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.cancellation import GIVEN_UP
from sie_server.checkpoints.load import Weighed
from sie_server.checkpoints.load_errors import classify
from sie_server.errors import LoadClass, LoadError, SIEError
from sie_server.metrics import Metrics
from sie_server.models.loaded_model import LoadedModel
from sie_server.request_context import timed
from sie_server.residency.address import ModelNames
from sie_server.residency.capabilities import require
from sie_server.residency.eviction import ResidentModels, release_memory
from sie_server.residency.memory_budget import Footprint, MemoryBudget
from sie_server.residency.slot import Resident, Slot, loading

_LOG = logging.getLogger(__name__)
T = TypeVar("T")

_FETCHES = 4
# Failures logged with their traceback, because the message alone does not explain them.
_UNEXPLAINED = {LoadClass.UNKNOWN, LoadClass.ENGINE, LoadClass.PLACEMENT}


class Residency:
    """The models of one device. Lives on the event loop; loads run one at a time on a thread of their own.

    slots: by model id. names: of the models and their profiles. clock: in seconds.
    """

    def __init__(
        self,
        entries: Iterable[Entry],
        load: Callable[[Entry, Weighed | None], LoadedModel],
        memory: MemoryBudget,
        metrics: Metrics,
        *,
        batch_tokens: int,
        load_wait_s: float,
        load_timeout_s: float,
        pinned: Collection[str] = (),
        aliases: Mapping[str, str] = MappingProxyType({}),
        fetch: Callable[[Entry], None] = lambda _: None,
        weigh: Callable[[Entry], Weighed | None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """batch_tokens: maximum number of tokens in a batch. load_wait_s: how long a request waits for a load.
        load_timeout_s: duration, without the download, after which a load fails and its thread is told to end. pinned:
        ids of models that are never evicted. aliases: other names of models. fetch: downloads a model's files, before
        `load`; downloads run in parallel with loads and each other, so that no model waits for the files of another.
        weigh: opens a model's files and weighs them, before `load`, which uses them as they were opened; None if they
        are not on this machine.
        """
        self.clock = clock
        self.slots: dict[str, Slot] = {}
        self.names = ModelNames(self.slots, aliases)
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

    def slot(self, model_id: str) -> Slot:
        """The slot of a model, shared by its profiles.

        Raises:
            SIEError: MODEL_NOT_FOUND.
        """
        return self.slots.get(model_id) or self.names.resolve(model_id).slot

    @asynccontextmanager
    async def serving(self, model_id: str, outputs: Items[str] = ()) -> AsyncIterator[LoadedModel]:
        """A loaded model with these outputs, which is not unloaded while the current task is inside.

        If the model is not in memory, its load is started, and waited for up to the load wait.

        Raises:
            SIEError: MODEL_NOT_FOUND, MODEL_LOADING or MODEL_LOAD_FAILED; INVALID_INPUT, the model does not have these
                outputs; MODEL_LOADING too where an unload has waited for the task inside for as long as it may.
        """
        slot = self.slot(model_id)
        entry = slot.entry
        if entry.outputs is not None:  # else known when it is loaded
            require(entry, outputs)
        with timed("load"):
            resident = slot.serving or await self._held(slot)
        resident.used_at = self.clock()
        with resident.in_use():
            try:
                if resident.model.entry is not entry:
                    require(resident.model.entry, outputs)
                yield resident.model
            finally:
                resident.used_at = self.clock()

    def release(self) -> None:
        """Cancel the requests that wait for a load: the server shuts down."""
        for slot in self.slots.values():
            for waiter in slot.waiting:
                waiter.cancel()

    async def preload(self, model_id: str) -> None:
        """Load a model and wait until that is done.

        Raises:
            SIEError: MODEL_NOT_FOUND or MODEL_LOAD_FAILED.
        """
        slot = self.slot(model_id)
        if slot.serving is None:
            await asyncio.wait({self._ensure_loading(slot)})
        if slot.resident is None and slot.error is not None:
            raise slot.failed()

    def unload(self, model_id: str) -> "asyncio.Task[None]":
        """Unload a model once it is unused, or after 30 s. Requests that arrive meanwhile wait, and load it again.

        Raises:
            SIEError: MODEL_NOT_FOUND.
        """
        return self._resident_models.unload(self.slot(model_id))

    def put(self, entry: Entry, fault: LoadError | None = None) -> None:
        """Add a model, or update one whose files have changed. fault: what is known to be wrong with the files.

        A model in memory is loaded again; if there is room for both, the old one serves requests until then.
        """
        if fault is not None:
            _LOG.error("%s: %s", entry.id, fault)
        slot = self.slots.get(entry.id)
        if slot is None:
            self.slots[entry.id] = Slot(entry, entry, pinned=entry.id in self._pinned, error=fault)
            return
        slot.configured = slot.entry = entry
        slot.footprint = None
        slot.forgive()
        slot.error = fault
        if slot.serving is not None:
            self._ensure_loading(slot)

    def remove(self, model_id: str) -> None:
        """Stop serving a model; requests that use it now are still answered."""
        slot = self.slots.pop(model_id)
        if slot.loading is not None:
            slot.loading.cancel()
        self._tell(slot, self.names.not_found(model_id))
        self._resident_models.unload(slot)

    async def close(self) -> None:
        """Drop all models. A load that is running is told to end, but not waited for."""
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
        """Pass the outcome of a load to the requests that wait for it."""
        for waiter in slot.waiting:
            if waiter.done():
                continue
            if isinstance(outcome, Resident):
                # It counts as a user from here on, so that the model is not unloaded before the request's task runs.
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
            configured = None
            while configured is not slot.configured:  # the first time, and if the files have changed meanwhile
                configured = slot.configured
                await self._attempt(slot, configured)
        finally:
            slot.loading = None
        self._tell(slot, slot.resident or slot.failed())

    async def _attempt(self, slot: Slot, configured: Entry) -> None:
        slot.attempts += 1
        try:
            if slot.unloading is not None:
                await asyncio.wait({slot.unloading})
            await asyncio.get_running_loop().run_in_executor(self._fetches, self._fetch, configured)
            async with self._turn:
                await self._load_within_budget(slot, configured)
            return
        except Exception as error:  # whatever a checkpoint makes the loader raise, the server stays up
            failure = classify(error, configured.source)
            self._metrics.load_failures.labels(configured.id, failure.kind).inc()
            _LOG.error("%s: %s", configured.id, failure, exc_info=error if failure.kind in _UNEXPLAINED else None)
        slot.fail(failure, self.clock())
        # After the handler, because the error holds what was loaded.
        await asyncio.to_thread(release_memory)

    async def _load_within_budget(self, slot: Slot, configured: Entry) -> None:
        """Make room for the expected footprint, load the model, make room for the measured one, and start serving."""
        weighed = await self._on_load_thread(slot, configured, self._weigh)
        encoder = None if weighed is None else weighed.encoder
        await self._resident_models.make_room(slot, *_expected(slot, configured, weighed), encoder)
        model = await self._load_with_retry(slot, configured, weighed)
        slot.footprint = Footprint(model.bytes, model.token_bytes * self._batch_tokens)
        await self._resident_models.make_room(slot, slot.footprint, slot.footprint, model.encoder)
        self._resident_models.add(slot, model, slot.footprint)
        slot.entry = model.entry
        slot.forgive()

    async def _load_with_retry(self, slot: Slot, configured: Entry, weighed: Weighed | None) -> LoadedModel:
        """Load a model; if memory runs out all the same, unload another one and try once more."""
        try:
            return await self._on_load_thread(slot, configured, lambda entry: self._load(entry, weighed))
        except Exception as error:
            if (
                classify(error, configured.source).kind is not LoadClass.OOM
                or (victim := self._resident_models.least_recently_used(slot)) is None
            ):
                raise
            _LOG.warning("%s: %s; unloading %s", configured.id, error, victim.entry.id)
        await asyncio.wait({self._resident_models.unload(victim)})
        return await self._on_load_thread(slot, configured, lambda entry: self._load(entry, None))

    async def _on_load_thread(self, slot: Slot, configured: Entry, work: Callable[[Entry], T]) -> T:
        """Run work on the load thread within the load timeout. If the caller is cancelled, so is the work."""
        if slot.hanging:
            raise LoadError(LoadClass.TIMEOUT, f"an earlier load of {configured.source} has not ended yet")
        limit, given_up = asyncio.timeout(self._load_timeout_s), threading.Event()
        context = contextvars.copy_context()
        context.run(GIVEN_UP.set, given_up)
        task = self._loads.submit(context.run, work, configured)
        try:
            async with limit:
                return await asyncio.wrap_future(task)
        except TimeoutError:
            if not limit.expired():
                raise
            late = f"{configured.source} was not loaded within {self._load_timeout_s:g} s"
            raise LoadError(LoadClass.TIMEOUT, late) from None
        finally:
            if not task.done():
                given_up.set()
                self._abandon(slot, task)

    def _abandon(self, slot: Slot, task: "Future[Any]") -> None:
        """Start a new load thread for other models, since the current one may never finish."""
        loop = asyncio.get_running_loop()
        slot.hanging = True

        def ended() -> None:
            slot.hanging = False
            loop.run_in_executor(None, release_memory)

        def tell(_: "Future[Any]") -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(ended)

        task.add_done_callback(tell)
        self._loads.shutdown(wait=False)
        self._loads = _load_thread()


def _expected(slot: Slot, configured: Entry, weighed: Weighed | None) -> tuple[Footprint, Footprint]:
    """A model's likely and its minimum footprint; both the same if its files or an earlier load have shown it."""
    if slot.footprint is not None:
        return slot.footprint, slot.footprint
    if weighed is not None:
        return Footprint(weighed.bytes), Footprint(weighed.bytes)
    likely = 4 * (configured.parameters or 0)
    # No precision takes less than half the bytes of float32; a model that may fit is tried.
    return Footprint(likely), Footprint(likely // 2)


def _load_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="load")
