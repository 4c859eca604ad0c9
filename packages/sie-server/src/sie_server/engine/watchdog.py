"""Sees when a device thread no longer comes back from a batch."""

import logging
import sys
import threading
import traceback
from collections.abc import Callable

from sie_server.engine.runner import Runner

_LOG = logging.getLogger(__name__)
_LOOKS = 8
_MOST_BETWEEN_LOOKS_S = 1.0


class Watchdog:
    """Looks at a runner's threads, and tells `lost` once when one of them has had the same batch for too long.

    Time is counted in looks, not read off a clock: a process that was stopped (SIGSTOP, a suspended machine) has not
    looked meanwhile, and has not computed either. A machine that is merely slow slows both down.
    """

    def __init__(self, runner: Runner, wedged_after_s: float, lost: Callable[[str], None]) -> None:
        self._runner = runner
        self._wedged_after_s = wedged_after_s
        self._pause_s = min(wedged_after_s / _LOOKS, _MOST_BETWEEN_LOOKS_S)
        self._lost = lost
        self._seen: dict[str, tuple[int, int]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def look(self) -> str | None:
        """What is wrong, if something is. To be called at regular intervals."""
        for work in self._runner.work():
            batches, looks = self._seen.get(work.thread.name, (-1, 0))
            looks = looks + 1 if work.batch is not None and work.batches == batches else 0
            self._seen[work.thread.name] = work.batches, looks
            if work.batch is not None and looks * self._pause_s >= self._wedged_after_s:
                stack = "".join(traceback.format_stack(sys._current_frames().get(work.thread.ident or 0)))
                return (
                    f"{work.thread.name} has been at one batch for {self._wedged_after_s:g} s: "
                    f"{len(work.batch)} sequences, {work.batch.tokens} tokens, model {work.model_id}\n{stack}"
                )
        return None

    def _watch(self) -> None:
        while not self._stop.wait(self._pause_s):
            if (reason := self.look()) is not None:
                _LOG.critical("%s", reason)
                self._lost(reason)
                return
