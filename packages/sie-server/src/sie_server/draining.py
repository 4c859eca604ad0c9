"""uvicorn, with a shutdown during which every client gets an answer."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

import uvicorn

from sie_server.http.drain import Drain

_LOG = logging.getLogger(__name__)
# What is on its way already when the signal comes still finds somebody who answers.
_LINGER_S = 0.3
# EX_SOFTWARE of sysexits.h.
_ABANDONED = 70
_ABANDONED_S = 1.0
_LAST_S = 10.0


class DrainingServer(uvicorn.Server):
    """On SIGTERM or SIGINT: refuses new requests, finishes the others, then exits. On a SIGINT after that: at once.

    `drain_s`: how long the others may take. `on_drain` is called, on the event loop, when it begins.
    """

    def __init__(self, config: uvicorn.Config, drain: Drain, drain_s: float, on_drain: Callable[[], None]) -> None:
        super().__init__(config)
        self.abandoned = 0
        self._drain = drain
        self._drain_s = drain_s
        self._on_drain = on_drain
        self._began: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._drain.begun and sig == signal.SIGINT:
            leave(128 + sig)
        self._drain.begun = True

    def abandon(self) -> None:
        """Leave with what could be answered within a second, and the exit status 70. For any thread."""
        self.abandoned = _ABANDONED
        self._drain_s = _ABANDONED_S
        self._drain.begun = True
        # Whatever else may be stuck.
        last = threading.Timer(_LAST_S, leave, (_ABANDONED,))
        last.daemon = True
        last.start()

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or (self._drain.begun and self._drained())

    def _drained(self) -> bool:
        now = time.monotonic()
        if self._began is None:
            self._began = now
            self._on_drain()
        if now - self._began < min(_LINGER_S, self._drain_s):
            return False
        if not self._drain.done and now - self._began >= self._drain_s:
            _LOG.warning("shutting down with requests unanswered after %g s", self._drain_s)
            self._drain.cut()
            return True
        return self._drain.done


def leave(status: int) -> NoReturn:
    """End the process without waiting for its threads."""
    logging.shutdown()
    sys.stderr.flush()
    os._exit(status)
