"""Which models are in memory: load on first use, once; hold requests for a while; remember what failed."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

from sie_server.choices import LongDocuments
from sie_server.errors import COOLDOWN_S, Code, LoadClass, LoadError, SIEError
from sie_server.models.catalog import Entry, Profile, address, did_you_mean
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


@dataclass(frozen=True)
class Address:
    """What a model id of a request stands for: a model, and what a request to it means where it says nothing.

    name: the profile in the id, "default" where there is none; a request's options may have chosen another `profile`.
    """

    slot: Slot
    name: str
    profile: Profile

    @property
    def id(self) -> str:
        """As configured."""
        return address(self.slot.entry.id, self.name)

    @property
    def long_documents(self) -> LongDocuments:
        """What becomes of a document that does not fit, where a request does not say."""
        return self.profile.long_documents or self.slot.entry.long_documents

    @property
    def entry(self) -> Entry:
        """The model as if the profile were one of its own, as far as it is known."""
        entry, profile = self.slot.entry, self.profile
        kept = profile.output_types and ("score", *profile.output_types)
        limits = [limit for limit in (profile.max_seq_length, entry.max_length) if limit is not None]
        return replace(
            entry,
            id=self.id,
            outputs=entry.outputs and tuple(output for output in entry.outputs if not kept or output in kept),
            max_length=min(limits, default=None),
            long_documents=self.long_documents,
        )


class Residency:
    """The models of one device. Lives on the event loop; loads run one at a time in a thread of their own."""

    def __init__(self, entries: Iterable[Entry], load: Callable[[Entry], Model], load_wait_s: float) -> None:
        self.slots = {entry.id: Slot(entry) for entry in entries}
        self._load = load
        self._load_wait_s = load_wait_s
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="load")

    @property
    def addresses(self) -> list[Address]:
        """Every model, and behind it each of its profiles but the default."""
        return [
            Address(slot, name, profile)
            for slot in self.slots.values()
            for name, profile in slot.entry.every_profile.items()
        ]

    def address(self, model_id: str, profile: str | None = None) -> Address:
        """The model and profile of an `id` or `id:profile`, where `profile` wins over the one in the id.

        Raises:
            SIEError: MODEL_NOT_FOUND, with up to three similar names; INVALID_INPUT, the model has no such `profile`.
        """
        slot, name = self.slots.get(model_id), "default"
        if slot is None:
            model, _, name = model_id.rpartition(":")
            slot = self.slots.get(model)
        if slot is None or name not in slot.entry.every_profile:
            similar = did_you_mean(model_id, [address.id for address in self.addresses])
            raise SIEError(Code.MODEL_NOT_FOUND, f"Model '{model_id}' not found{similar}")
        profiles = slot.entry.every_profile
        chosen = name if profile is None else profile
        if chosen not in profiles:
            raise SIEError(Code.INVALID_INPUT, f"Profile '{chosen}' not found. Available: {list(profiles)}")
        return Address(slot, name, profiles[chosen])

    def slot(self, model_id: str) -> Slot:
        """The slot of a model, which its profiles share.

        Raises:
            SIEError: MODEL_NOT_FOUND, as `address`.
        """
        return self.address(model_id).slot

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
