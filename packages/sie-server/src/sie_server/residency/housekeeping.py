"""Periodic work: evicts idle models, follows the models folder, and returns free memory."""

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
_INTERVAL_S = 1.0
# A poll of the folder that takes longer is reported as an error.
_POLL_TIMEOUT_S = 30.0
# Pause after a poll, in multiples of its CPU time, so that thousands of folders do not keep a core busy.
_REST = 9.0
# Times per second at which a poll is checked for its result.
_CHECKS = 20
# Changes that are applied before the event loop gets a turn.
_APPLIED = 50
# Consecutive checks of an idle device after which the memory that malloc keeps for the next batch is returned.
_QUIET_CHECKS = 10


class Housekeeper:
    """Does the periodic work of a residency, once a second. Lives on the event loop."""

    def __init__(
        self, residency: Residency, settings: Settings, metrics: Metrics, busy_seconds: Callable[[], float]
    ) -> None:
        """Adds the models of the models folder. busy_seconds: the device's total computing time so far.

        Raises:
            ValueError: there is no such folder.
        """
        self._residency = residency
        self._idle_evict_s = settings.idle_evict_s
        self._metrics = metrics
        self._busy_seconds = busy_seconds
        self._busy_s = 0.0
        self._quiet_checks = 0
        self._folder: ModelsFolder | None = None
        self._task: asyncio.Task[None] | None = None
        # A thread of its own, which a file system that does not answer may block for ever.
        self._poll_thread = ThreadPoolExecutor(1, thread_name_prefix="models-folder")
        self._poll: Future[tuple[Changes, float]] | None = None
        self._next_poll = 0.0
        self._polling_since = 0.0
        if settings.models_dir:
            reserved = {address.id for address in residency.names}
            self._folder = ModelsFolder(Path(settings.models_dir).expanduser(), reserved)
            self._apply(self._folder.poll())

    def start(self) -> None:
        """Start, on the running event loop."""
        self._task = asyncio.create_task(self._run())

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._poll_thread.shutdown(wait=False, cancel_futures=True)

    def evict_idle(self) -> None:
        """Unload models that have not been used for the idle time."""
        for slot in self._residency.slots.values():
            resident = slot.serving
            if resident is None or slot.pinned or slot.loading is not None or resident.users:
                continue
            if self._residency.clock() - resident.used_at >= self._idle_evict_s:
                _LOG.info("%s: unloading, not used for %g s", slot.entry.id, self._idle_evict_s)
                self._metrics.idle_evictions.labels(slot.entry.id).inc()
                self._residency.unload(slot.entry.id)

    def is_quiet(self) -> bool:
        """Whether the device has been idle for ten checks in a row. True once, until the device has computed again."""
        busy_s = self._busy_seconds()
        self._quiet_checks = self._quiet_checks + 1 if busy_s == self._busy_s else 0
        self._busy_s = busy_s
        return busy_s > 0 and self._quiet_checks == _QUIET_CHECKS

    async def _run(self) -> None:
        reported: dict[str, str] = {}
        tasks = {
            "evicting idle models": self._evict,
            "returning free memory": self._trim,
            "polling the models folder": self._watch,
        }
        while True:
            await asyncio.sleep(_INTERVAL_S)
            for subject, task in tasks.items():
                try:
                    await task()
                    reported.pop(subject, None)
                except Exception as error:  # the other tasks must go on
                    # Once: a file system that is gone for a while fails every second. Known models are still served.
                    if reported.get(subject) != (message := f"{type(error).__name__}: {error}"):
                        trace = None if isinstance(error, OSError) else error
                        _LOG.error("%s failed: %s", subject, message, exc_info=trace)
                    reported[subject] = message

    async def _evict(self) -> None:
        if self._idle_evict_s:
            self.evict_idle()

    async def _trim(self) -> None:
        if self.is_quiet():
            await asyncio.to_thread(trim_and_tune)

    async def _watch(self) -> None:
        if self._folder is not None:
            await self.poll(self._folder)

    async def poll(self, folder: ModelsFolder) -> None:
        """Poll the models folder and apply its changes; if it does not answer in time, a later call does.

        Never two polls at once.

        Raises:
            OSError: the folder can't be read, or does not answer.
        """
        now = self._residency.clock()
        if self._poll is None and now >= self._next_poll:
            self._polling_since = now
            self._poll = self._poll_thread.submit(_timed, folder.poll)
        poll = self._poll
        if poll is None:
            return
        for _ in range(_CHECKS):
            if poll.done():
                break
            await asyncio.sleep(_INTERVAL_S / _CHECKS)
        if not poll.done():
            if self._residency.clock() - self._polling_since >= _POLL_TIMEOUT_S:
                raise OSError(errno.ETIMEDOUT, f"no answer for {_POLL_TIMEOUT_S:g} s")
            return
        self._poll = None
        changes, took_s = poll.result()
        self._next_poll = self._residency.clock() + _REST * took_s
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
    """The result of work, and the CPU seconds it took; waiting for a disk does not count."""
    started = time.thread_time()
    return work(), time.thread_time() - started
