"""State of one model: whether it is in memory, which tasks use it, and why its load failed."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sie_server.catalog.catalog import Entry
from sie_server.errors import COOLDOWN_S, Code, LoadError, SIEError
from sie_server.models.loaded_model import LoadedModel
from sie_server.options import State
from sie_server.residency.memory_budget import Footprint

_LOG = logging.getLogger(__name__)
_MAX_COOLDOWN_S = 1800.0
_MAX_ATTEMPTS = 8


@dataclass(eq=False)
class Resident:
    """A model in memory. Lives on the event loop.

    users: tasks that compute with the model, and futures of requests that waited for its load and have not run since.
    used_at: time of its last use, by the residency's clock. memory_bytes: of the model, 0 if they are counted at one
    that has the same weights.
    """

    model: LoadedModel
    footprint: Footprint
    used_at: float
    memory_bytes: int = 0
    users: set["asyncio.Future[Any]"] = field(default_factory=set)
    _refused: set["asyncio.Future[Any]"] = field(default_factory=set)
    _left: asyncio.Event = field(default_factory=asyncio.Event)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keeps the model in memory while the current task is inside, or until an unload has waited long enough.

        Raises:
            SIEError: MODEL_LOADING, the unload has waited long enough.
        """
        task = asyncio.current_task()
        assert task is not None
        self.users.add(task)
        try:
            yield
        except asyncio.CancelledError:
            # As in asyncio.timeout(): our own cancellation becomes an error, any other is passed on.
            if task not in self._refused or task.uncancel() > 0:
                raise
            raise loading(self.model.id) from None
        finally:
            self.leave(task)

    def leave(self, user: "asyncio.Future[Any]") -> None:
        """Remove a user."""
        self.users.discard(user)
        self._refused.discard(user)
        self._left.set()

    async def drain(self, limit_s: float) -> None:
        """Wait until no request uses the model. After `limit_s` seconds, cancel those; clients are told to retry."""
        try:
            async with asyncio.timeout(limit_s):
                await self._unused()
        except TimeoutError:
            _LOG.warning("%s: %d requests refused to unload it", self.model.id, len(self.users))
            for user in self.users:
                self._refused.add(user)
                user.cancel()
            await self._unused()

    async def _unused(self) -> None:
        while self.users:
            self._left.clear()
            await self._left.wait()


@dataclass(eq=False)
class Slot:
    """A model that the server offers, whether or not it is in memory.

    configured: the entry as configured; entry: the same, completed by what is known of the model's files by now.
    waiting: requests that wait for the load. footprint: measured by an earlier load. hanging: a load that has timed out
    has not ended yet, so no other may start.
    """

    configured: Entry
    entry: Entry
    pinned: bool = False
    resident: Resident | None = None
    loading: "asyncio.Task[None] | None" = None
    unloading: "asyncio.Task[None] | None" = None
    waiting: "set[asyncio.Future[Resident]]" = field(default_factory=set)
    footprint: Footprint | None = None
    hanging: bool = False
    error: LoadError | None = None
    attempts: int = 0
    retry_at: float = 0.0

    @property
    def state(self) -> State:
        if self.loading is not None:
            return "loading"
        if self.unloading is not None:
            return "unloading"
        if self.resident is not None:
            return "loaded"
        return "failed" if self.error is not None else "available"

    @property
    def model(self) -> LoadedModel | None:
        """The model in memory, even while it is being unloaded or replaced."""
        return None if self.resident is None else self.resident.model

    @property
    def serving(self) -> Resident | None:
        """The model that serves new requests."""
        return None if self.unloading is not None else self.resident

    @property
    def permanent(self) -> bool:
        """Whether a failed load is never retried."""
        return self.error is not None and (self.error.permanent or self.attempts >= _MAX_ATTEMPTS)

    def fail(self, error: LoadError, now: float) -> None:
        """Record a failed load and the time before which it is not retried: the cooldown doubles with each attempt."""
        self.error = error
        cooldown = COOLDOWN_S.get(error.kind, _MAX_COOLDOWN_S) * 2 ** (self.attempts - 1)
        self.retry_at = now + min(cooldown, _MAX_COOLDOWN_S)

    def forgive(self) -> None:
        """Clear earlier failures."""
        self.error, self.attempts, self.retry_at = None, 0, 0.0

    def cooling(self, now: float) -> bool:
        """Whether a load has failed and must not be retried yet.

        Faults found without a load do not count: files may have been incomplete.
        """
        return self.error is not None and self.attempts > 0 and (self.permanent or now < self.retry_at)

    def failed(self) -> SIEError:
        """Error for requests to a model whose load failed."""
        assert self.error is not None
        return SIEError(
            Code.MODEL_LOAD_FAILED,
            f"Model '{self.entry.id}' failed to load: {self.error}",
            error_class=str(self.error.kind),
            attempts=self.attempts,
            permanent=self.permanent,
        )


def loading(model_id: str) -> SIEError:
    """Error for requests to a model that is not in memory yet, or no longer."""
    return SIEError(Code.MODEL_LOADING, f"Model '{model_id}' is loading, please retry")
