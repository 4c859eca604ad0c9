"""What is known of one model's residency: whether it is in memory, who uses it there, and why it is not."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sie_server.catalog.catalog import Entry
from sie_server.errors import COOLDOWN_S, Code, LoadError, SIEError
from sie_server.models.loaded_model import LoadedModel
from sie_server.options import State
from sie_server.residency.memory_budget import Footprint

_MAX_COOLDOWN_S = 1800.0
_MAX_ATTEMPTS = 8


@dataclass(eq=False)
class Resident:
    """A model in memory. Lives on the event loop.

    users: what would be cut short if the model went: the tasks that compute with it, and the futures of requests that
    wait for it and have not yet been told that it is there. used_at: when it was last asked for, on the loop's clock.
    """

    model: LoadedModel
    footprint: Footprint
    used_at: float
    users: set["asyncio.Future[Any]"] = field(default_factory=set)
    _refused: set["asyncio.Future[Any]"] = field(default_factory=set)
    _left: asyncio.Event = field(default_factory=asyncio.Event)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While the current task is in here, the model is not dropped, up to the end of a drain.

        Raises:
            SIEError: MODEL_LOADING, the drain is over.
        """
        task = asyncio.current_task()
        assert task is not None
        self.users.add(task)
        try:
            yield
        except asyncio.CancelledError:
            # As asyncio.timeout() does: a cancellation of ours is an answer, anybody else's stays one.
            if task not in self._refused or task.uncancel() > 0:
                raise
            raise loading(self.model.id) from None
        finally:
            self.leave(task)

    def leave(self, user: "asyncio.Future[Any]") -> None:
        """A user is through."""
        self.users.discard(user)
        self._refused.discard(user)
        self._left.set()

    async def drained(self) -> None:
        """Wait until nobody uses the model. Who has looked it up up to now is waited for, who does so later is not."""
        while True:
            # Between looking a model up and using it, a request does not wait: its task has been scheduled before us.
            await asyncio.sleep(0)
            if not self.users:
                return
            self._left.clear()
            await self._left.wait()

    def refuse(self) -> None:
        """Cut off everybody who still uses the model; they are told to come again."""
        for user in self.users:
            self._refused.add(user)
            user.cancel()


@dataclass(eq=False)
class Slot:
    """One model of a residency.

    given: the model as its operator or the catalogue has it; entry: as far as it is known by now. waiting: requests
    that are held until it is loaded. need: of memory, where it was loaded before. hanging: a load that took too long
    has not ended yet, so that none may begin.
    """

    given: Entry
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
        """What is in memory, also while it is being unloaded or replaced."""
        return None if self.resident is None else self.resident.model

    @property
    def serving(self) -> Resident | None:
        """What answers requests that come now."""
        return None if self.unloading is not None else self.resident

    @property
    def permanent(self) -> bool:
        """Whether a failed load is never tried again."""
        return self.error is not None and (self.error.permanent or self.attempts >= _MAX_ATTEMPTS)

    def fail(self, error: LoadError, now: float) -> None:
        """Remember a failed load, and for how long it is not tried again: twice as long each time."""
        self.error = error
        cooldown = COOLDOWN_S.get(error.kind, _MAX_COOLDOWN_S) * 2 ** (self.attempts - 1)
        self.retry_at = now + min(cooldown, _MAX_COOLDOWN_S)

    def forgive(self) -> None:
        """Forget what failed."""
        self.error, self.attempts, self.retry_at = None, 0, 0.0

    def cooling(self, now: float) -> bool:
        """Whether a load has failed and is not to be tried again yet.

        What was found wrong before any load does not count: a file may have been on its way.
        """
        return self.error is not None and self.attempts > 0 and (self.permanent or now < self.retry_at)

    def failed(self) -> SIEError:
        """The answer to a request for a model whose load failed."""
        assert self.error is not None
        return SIEError(
            Code.MODEL_LOAD_FAILED,
            f"Model '{self.entry.id}' failed to load: {self.error}",
            error_class=str(self.error.kind),
            attempts=self.attempts,
            permanent=self.permanent,
        )


def loading(model_id: str) -> SIEError:
    """The answer to a request for a model that is not there yet, or not any more."""
    return SIEError(Code.MODEL_LOADING, f"Model '{model_id}' is loading, please retry")
