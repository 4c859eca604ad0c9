"""`sie-server` with a clock on its event loop: `STALLS=FILE python watched.py serve …`. `stalls.py` reads the file."""

import asyncio
import mmap
import os
import struct
import time
from pathlib import Path

import sie_server.http.app
from sie_server.cli import main
from sie_server.metrics import Metrics

_EVERY_S = 0.002


async def _watch(_: Metrics) -> None:
    """Keeps the longest that the loop was late, less what this process did not run meanwhile."""
    with Path(os.environ["STALLS"]).open("r+b") as file, mmap.mmap(file.fileno(), 8) as shared:
        while True:
            wall, ran = time.perf_counter(), time.process_time()
            await asyncio.sleep(_EVERY_S)
            late = min(time.perf_counter() - wall - _EVERY_S, time.process_time() - ran)
            if late > struct.unpack_from("d", shared)[0]:
                struct.pack_into("d", shared, 0, late)


if __name__ == "__main__":
    sie_server.http.app.watch_lag = _watch
    main()
