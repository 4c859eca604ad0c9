"""Detection of device threads that hang in a batch."""

import logging
import sys
import threading
import traceback
from collections.abc import Callable

from sie_server.engine.runner import Runner

_LOG = logging.getLogger(__name__)
_CHECKS = 8
_MAX_INTERVAL_S = 1.0


class Watchdog:
    """Checks a runner's threads at intervals, and calls `lost` once if one has been in the same batch for too long.

    Time is counted in checks instead of read off a clock: a process that is stopped (SIGSTOP, a suspended machine)
    neither checks nor computes, and a slow machine slows both down.
    """

    def __init__(self, runner: Runner, wedged_after_s: float, lost: Callable[[str], None]) -> None:
        self._runner = runner
        self._wedged_after_s = wedged_after_s
        self._interval_s = min(wedged_after_s / _CHECKS, _MAX_INTERVAL_S)
        self._lost = lost
        self._seen: dict[str, tuple[int, int]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def check(self) -> str | None:
        """Describe a thread that hangs, with its stack; None: all is well. To be called at regular intervals."""
        for work in self._runner.work():
            batches, checks = self._seen.get(work.thread.name, (-1, 0))
            checks = checks + 1 if work.batch is not None and work.batches == batches else 0
            self._seen[work.thread.name] = work.batches, checks
            if work.batch is not None and checks * self._interval_s >= self._wedged_after_s:
                stack = "".join(traceback.format_stack(sys._current_frames().get(work.thread.ident or 0)))
                return (
                    f"{work.thread.name} has been in one batch for {self._wedged_after_s:g} s: "
                    f"{len(work.batch)} sequences, {work.batch.tokens} tokens, model {work.model_id}\n{stack}"
                )
        return None

    def _watch(self) -> None:
        while not self._stop.wait(self._interval_s):
            if (reason := self.check()) is not None:
                _LOG.critical("%s", reason)
                self._lost(reason)
                return
