"""How late the event loop is: what every request on it waits at each of its steps."""

import asyncio
import time

from sie_server.metrics import Metrics

_EVERY_S = 0.25


async def watch_lag(metrics: Metrics) -> None:
    """Measures until it is cancelled."""
    while True:
        due = time.perf_counter() + _EVERY_S
        await asyncio.sleep(_EVERY_S)
        metrics.loop_lag.observe(max(time.perf_counter() - due, 0.0))
