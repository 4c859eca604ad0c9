"""uvicorn, with a shutdown during which every client gets an answer."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import uvicorn

from sie_server.http.drain import Drain

_LOG = logging.getLogger(__name__)
# What is on its way already when requests begin to be refused still finds somebody who answers.
_LINGER_S = 0.3
# EX_SOFTWARE of sysexits.h.
_ABANDONED = 70
_ABANDONED_S = 1.0
_LAST_S = 10.0
# For everything that is not a request to end, watchers of the status and the engine included.
_CLOSE_S = 3.0


class DrainingServer(uvicorn.Server):
    """On SIGTERM, SIGHUP or SIGINT: refuses new requests, finishes the others, then exits. On a SIGINT then: at once.

    `drain_s`: how long the others may take; the process ends at most 3 s later, whatever is under way. `notice_s`: how
    much of that new requests are still taken after a SIGTERM or SIGHUP, while `/readyz` says that no more should come.
    `on_drain` is called, on the event loop, when they begin to be refused.
    """

    def __init__(
        self, config: uvicorn.Config, drain: Drain, drain_s: float, notice_s: float, on_drain: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self.abandoned = 0
        self._drain = drain
        self._drain_s = drain_s
        self._notice_s = notice_s
        self._on_drain = on_drain
        self._noticed: float | None = None
        self._began: float | None = None
        self._let_go = False

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's, and the hang-up of the terminal, unless it is ignored, as `nohup` has it."""
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        before = None if ignored else signal.signal(signal.SIGHUP, self.handle_exit)
        try:
            with super().capture_signals():
                yield
        finally:
            if before is not None:
                signal.signal(signal.SIGHUP, before)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._drain.noticed and sig == signal.SIGINT:
            leave(128 + sig)
        self._drain.noticed = True
        # Whoever presses Ctrl-C has no balancer that would have to hear of it first.
        self._drain.begun = self._drain.begun or sig == signal.SIGINT or self._notice_s <= 0

    def abandon(self) -> None:
        """Leave with what could be answered within a second, and the exit status 70. For any thread."""
        self.abandoned = _ABANDONED
        self._drain_s = _ABANDONED_S
        self._drain.noticed = self._drain.begun = True
        # Whatever else may be stuck.
        self._leave_after(_LAST_S)

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or (self._drain.noticed and self._drained())

    def _drained(self) -> bool:
        now = time.monotonic()
        if self._noticed is None:
            self._noticed = now
            # A load, say, that nothing can interrupt.
            self._leave_after(self._drain_s + _CLOSE_S)
        if not self._drain.begun:
            self._drain.begun = now - self._noticed >= min(self._notice_s, self._drain_s)
            return False
        if self._began is None:
            self._began = now
            self._on_drain()
        if now - self._began < min(_LINGER_S, self._drain_s):
            return False
        if not self._let_go:
            self._let_go = True
            self._close_idle()
        if not self._drain.done and now - self._noticed >= self._drain_s:
            _LOG.warning("shutting down with requests unanswered after %g s", self._drain_s)
            self._drain.cut()
            return True
        return self._drain.done

    def _close_idle(self) -> None:
        # Those that are made from now on have a request coming, and get to know that it is refused.
        for connection in list(self.server_state.connections):
            connection.shutdown()

    def _leave_after(self, seconds: float) -> None:
        last = threading.Timer(seconds, lambda: leave(self.abandoned))
        last.daemon = True
        last.start()


def leave(status: int) -> NoReturn:
    """End the process without waiting for its threads."""
    logging.shutdown()
    sys.stderr.flush()
    os._exit(status)
