"""Which models are in memory: load on first use, once; hold requests for a while; remember what failed."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from sie_server.errors import COOLDOWN_S, Code, LoadClass, LoadError, SIEError
from sie_server.models.catalog import Entry, did_you_mean
from sie_server.models.model import Model

_LOG = logging.getLogger(__name__)
_MAX_COOLDOWN_S = 1800.0
_MAX_ATTEMPTS = 8

State = Literal["available", "loading", "loaded", "failed"]


@dataclass
class Slot:
    """What is known of one model's residency."""

    entry: Entry
    model: Model | None = None
    loading: "asyncio.Task[None] | None" = None
    error: LoadError | None = None
    attempts: int = 0
    retry_at: float = 0.0

    @property
    def state(self) -> State:
        if self.loading is not None:
            return "loading"
        if self.model is not None:
            return "loaded"
        return "failed" if self.error is not None else "available"

    @property
    def permanent(self) -> bool:
        """Whether a failed load is never tried again."""
        return self.error is not None and (self.error.permanent or self.attempts >= _MAX_ATTEMPTS)


class Residency:
    """The models of one device. Lives on the event loop; loads run one at a time in a thread of their own."""

    def __init__(self, entries: Iterable[Entry], load: Callable[[Entry], Model], load_wait_s: float) -> None:
        self.slots = {entry.id: Slot(entry) for entry in entries}
        self._load = load
        self._load_wait_s = load_wait_s
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="load")

    def slot(self, model_id: str) -> Slot:
        """The slot of a model; `id:default` is `id`.

        Raises:
            SIEError: MODEL_NOT_FOUND, with up to three similar names.
        """
        slot = self.slots.get(model_id.removesuffix(":default"))
        if slot is None:
            raise SIEError(Code.MODEL_NOT_FOUND, f"Model '{model_id}' not found{did_you_mean(model_id, self.slots)}")
        return slot

    async def model(self, model_id: str) -> Model:
        """A loaded model, starting its load and waiting up to the load wait where needed.

        Raises:
            SIEError: MODEL_NOT_FOUND, MODEL_LOADING or MODEL_LOAD_FAILED.
        """
        slot = self.slot(model_id)
        if slot.model is None:
            task = self._ensure_loading(slot)
            await asyncio.wait({task}, timeout=self._load_wait_s)
        if slot.model is not None:
            return slot.model
        if slot.error is not None and slot.loading is None:
            raise self._failed(slot)
        raise SIEError(Code.MODEL_LOADING, f"Model '{slot.entry.id}' is loading, please retry")

    async def preload(self, model_id: str) -> None:
        """Load a model, however long it takes.

        Raises:
            SIEError: MODEL_NOT_FOUND or MODEL_LOAD_FAILED.
        """
        slot = self.slot(model_id)
        if slot.model is None:
            await asyncio.wait({self._ensure_loading(slot)})
        if slot.model is None:
            raise self._failed(slot)

    async def close(self) -> None:
        """Drop the models. A load that is under way is not waited for."""
        for slot in self.slots.values():
            if slot.loading is not None:
                slot.loading.cancel()
            slot.model = None
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _ensure_loading(self, slot: Slot) -> "asyncio.Task[None]":
        if slot.loading is None:
            if slot.error is not None and (slot.permanent or time.monotonic() < slot.retry_at):
                raise self._failed(slot)
            slot.loading = asyncio.create_task(self._run_load(slot))
        return slot.loading

    async def _run_load(self, slot: Slot) -> None:
        slot.attempts += 1
        try:
            loop = asyncio.get_running_loop()
            slot.model = await loop.run_in_executor(self._executor, self._load, slot.entry)
            slot.entry = slot.model.entry
            slot.error, slot.attempts = None, 0
        except Exception as error:  # whatever a checkpoint does to the loader, the server stays up and says so
            if not isinstance(error, LoadError):
                _LOG.exception("%s: load failed", slot.entry.id)
                error = LoadError(LoadClass.UNKNOWN, f"{slot.entry.source} could not be loaded: {error}")
            else:
                _LOG.error("%s: %s", slot.entry.id, error)
            slot.error = error
            cooldown = COOLDOWN_S.get(error.kind, _MAX_COOLDOWN_S) * 2 ** (slot.attempts - 1)
            slot.retry_at = time.monotonic() + min(cooldown, _MAX_COOLDOWN_S)
        finally:
            slot.loading = None

    def _failed(self, slot: Slot) -> SIEError:
        assert slot.error is not None
        return SIEError(
            Code.MODEL_LOAD_FAILED,
            f"Model '{slot.entry.id}' failed to load: {slot.error}",
            error_class=str(slot.error.kind),
            attempts=slot.attempts,
            permanent=slot.permanent,
        )
