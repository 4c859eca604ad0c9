"""What happens without a request: idle models go, those of a folder come and change, free memory is given back."""

import asyncio
import errno
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from sie_server.machine.malloc import trim_and_tune
from sie_server.metrics import Metrics
from sie_server.residency.models_folder import Changes, ModelsFolder
from sie_server.residency.residency import Residency
from sie_server.settings import Settings

T = TypeVar("T")

_LOG = logging.getLogger(__name__)
_EVERY_S = 1.0
# A look that takes longer is worth a word.
_LOOK_S = 30.0
# Times as long as a look took is the pause behind it: thousands of folders do not keep a core busy.
_REST = 9.0
# Moments of a second at which a look is asked whether it is through.
_WAITS = 20
# Changes that are applied before others have their turn.
_APPLIED = 50
# So many looks at a device that does nothing, and what malloc keeps for the next batch is given back.
_QUIET_LOOKS = 10


class Housekeeper:
    """Looks after a residency, once a second. Lives on the event loop."""

    def __init__(
        self, residency: Residency, settings: Settings, metrics: Metrics, busy_seconds: Callable[[], float]
    ) -> None:
        """Takes the models folder as it is now. busy_seconds: in which the device has computed, up to now.

        Raises:
            ValueError: there is no such folder.
        """
        self._residency = residency
        self._idle_evict_s = settings.idle_evict_s
        self._metrics = metrics
        self._busy_seconds = busy_seconds
        self._busy_s = 0.0
        self._quiet_looks = 0
        self._folder: ModelsFolder | None = None
        self._task: asyncio.Task[None] | None = None
        # A thread of its own, which a file system that does not answer may keep for ever.
        self._looks = ThreadPoolExecutor(1, thread_name_prefix="look")
        self._look: Future[tuple[Changes, float]] | None = None
        self._next_look = 0.0
        self._looking_since = 0.0
        if settings.models_dir:
            reserved = {address.id for address in residency.addresses}
            self._folder = ModelsFolder(Path(settings.models_dir).expanduser(), reserved)
            self._apply(self._folder.look())

    def start(self) -> None:
        """Begin, on the running event loop."""
        self._task = asyncio.create_task(self._run())

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._looks.shutdown(wait=False, cancel_futures=True)

    def evict_idle(self) -> None:
        """Unload what nobody has asked for in a while."""
        for slot in self._residency.slots.values():
            resident = slot.serving
            if resident is None or slot.pinned or slot.loading is not None or resident.users:
                continue
            if self._residency.clock() - resident.used_at >= self._idle_evict_s:
                _LOG.info("%s: unloading, not asked for in %g s", slot.entry.id, self._idle_evict_s)
                self._metrics.idle_evictions.labels(slot.entry.id).inc()
                self._residency.unload(slot.entry.id)

    def is_quiet(self) -> bool:
        """Whether the device has just done nothing for ten looks in a row; once, until it has done something again."""
        busy_s = self._busy_seconds()
        self._quiet_looks = self._quiet_looks + 1 if busy_s == self._busy_s else 0
        self._busy_s = busy_s
        return busy_s > 0 and self._quiet_looks == _QUIET_LOOKS

    async def _run(self) -> None:
        said: dict[str, str] = {}
        chores = {"idle models": self._evict, "free memory": self._settle, "the models folder": self._watch}
        while True:
            await asyncio.sleep(_EVERY_S)
            for subject, chore in chores.items():
                try:
                    await chore()
                    said.pop(subject, None)
                except Exception as error:  # nobody else would look after the rest
                    # Once: a file system that is away for a moment is asked every second. What was there is served on.
                    if said.get(subject) != (what := f"{type(error).__name__}: {error}"):
                        trace = None if isinstance(error, OSError) else error
                        _LOG.error("%s can't be looked after: %s", subject, what, exc_info=trace)
                    said[subject] = what

    async def _evict(self) -> None:
        if self._idle_evict_s:
            self.evict_idle()

    async def _settle(self) -> None:
        if self.is_quiet():
            await asyncio.to_thread(trim_and_tune)

    async def _watch(self) -> None:
        if self._folder is not None:
            await self.look(self._folder)

    async def look(self, folder: ModelsFolder) -> None:
        """Look at the models folder and take what is found, where it answers by the next look; never two at once.

        Raises:
            OSError: the folder can't be read, or does not answer.
        """
        now = self._residency.clock()
        if self._look is None and now >= self._next_look:
            self._looking_since = now
            self._look = self._looks.submit(_timed, folder.look)
        look = self._look
        if look is None:
            return
        for _ in range(_WAITS):
            if look.done():
                break
            await asyncio.sleep(_EVERY_S / _WAITS)
        if not look.done():
            if self._residency.clock() - self._looking_since >= _LOOK_S:
                raise OSError(errno.ETIMEDOUT, f"no answer for {_LOOK_S:g} s")
            return
        self._look = None
        changes, took_s = look.result()
        self._next_look = self._residency.clock() + _REST * took_s
        for some in changes.slices(_APPLIED):
            self._apply(some)
            await asyncio.sleep(0)

    def _apply(self, changes: Changes) -> None:
        for model_id in changes.gone:
            _LOG.info("%s: gone from the models folder", model_id)
            self._residency.remove(model_id)
        for entry in changes.entries:
            _LOG.info("%s: found in the models folder", entry.id)
            self._residency.put(entry, changes.faults.get(entry.id))


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    """What comes of it, and the seconds of a core that it took: waiting for a disk is no work."""
    started = time.thread_time()
    return work(), time.thread_time() - started
