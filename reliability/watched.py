"""`sie-server` with a clock on its event loop: `STALLS=FILE python watched.py serve …`. `stalls.py` reads the file.

With `TRACES=FILE`, tracebacks of all threads 15 ms into each stall of more than 20 ms are written there.
"""

import asyncio
import faulthandler
import mmap
import os
import struct
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple
from unittest.mock import patch

import sie_server.api.app
from sie_server.cli.main import main
from sie_server.metrics import Metrics

_EVERY_S = 0.002
_TRACE_AFTER_S = 0.015
_TRACED_S = 0.02


class _Moment(NamedTuple):
    """Clock readings in seconds. own: CPU time of the loop's thread. others: CPU times of other threads, by id."""

    wall: float
    own: float
    others: dict[int, float]

    @classmethod
    def now(cls) -> "_Moment":
        others = {}
        for thread in threading.enumerate():
            if thread.native_id is not None and thread is not threading.current_thread():
                with suppress(OSError):  # it has ended
                    others[thread.native_id] = time.clock_gettime(_clock_of(thread.native_id))
        return cls(time.perf_counter(), time.thread_time(), others)

    def stall(self, after: "_Moment", unscheduled: float) -> float:
        """Length of the loop's stall until `after`, excluding the effect of other work on the machine.

        The loop's own steps count by CPU time. Waits for the GIL count by wall time, but no longer than the busiest
        other thread ran meanwhile, as a thread that holds the GIL may itself have been descheduled.

        unscheduled: seconds for which the loop's thread was runnable but not running.
        """
        own = after.own - self.own
        held = after.wall - self.wall - _EVERY_S - own - unscheduled
        busiest = max((ran - self.others.get(who, 0.0) for who, ran in after.others.items()), default=0.0)
        return own + min(max(held, 0.0), busiest)


def _clock_of(thread: int) -> int:
    """Id of Linux's CPU-time clock of a thread; reading it fails if the thread has ended."""
    return ~thread << 3 | 6


def _unscheduled(file: int) -> float:
    return int(os.pread(file, 100, 0).split()[1]) / 1e9


async def _watch(_: Metrics) -> None:
    """Record the longest stall."""
    traces = _Traces(Path(os.environ["TRACES"])) if "TRACES" in os.environ else None
    waits = os.open("/proc/thread-self/schedstat", os.O_RDONLY)  # for as long as the process lives
    with Path(os.environ["STALLS"]).open("r+b") as file, mmap.mmap(file.fileno(), 8) as shared:
        while True:
            # Reading a file releases the GIL, so not between the two clock readings.
            unscheduled = _unscheduled(waits)
            if traces is not None:
                traces.begin()
            before = _Moment.now()
            await asyncio.sleep(_EVERY_S)
            after = _Moment.now()
            stall = before.stall(after, _unscheduled(waits) - unscheduled)
            if traces is not None:
                traces.end(stall)
            if stall > struct.unpack_from("d", shared)[0]:
                struct.pack_into("d", shared, 0, stall)


class _Traces:
    """Tracebacks of long stalls. They are taken without the GIL, which may crash."""

    def __init__(self, path: Path) -> None:
        self._file: IO[str] = path.open("w")  # for as long as the process lives
        self._kept = 0

    def begin(self) -> None:
        faulthandler.dump_traceback_later(_TRACE_AFTER_S, file=self._file)

    def end(self, stall: float) -> None:
        faulthandler.cancel_dump_traceback_later()
        if stall > _TRACED_S:
            print(f"^ {stall * 1e3:.1f} ms\n", file=self._file, flush=True)
            self._kept = os.lseek(self._file.fileno(), 0, os.SEEK_CUR)
        else:
            os.ftruncate(self._file.fileno(), self._kept)
            os.lseek(self._file.fileno(), self._kept, os.SEEK_SET)


if __name__ == "__main__":
    with patch.object(sie_server.api.app, "_measure_lag", _watch):  # which has to be there
        main()
