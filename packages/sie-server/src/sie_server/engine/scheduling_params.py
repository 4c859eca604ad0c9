"""Scheduling parameters of a request: its client, its priority and its deadline."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sie_server.errors import Code, SIEError
from sie_server.options import Priority

# An event loop's timer may fire this many seconds early.
TIMER_SLACK_S = 0.01


@dataclass(frozen=True, slots=True)
class SchedulingParams:
    """Scheduling parameters of one request.

    client: opaque identity; requests with the same one share one client's part of the device, "" is the part of all
    that have none. deadline: the `time.perf_counter()` by which the client must have its answer; None: no deadline.
    """

    client: str = ""
    priority: Priority = "normal"
    deadline: float | None = None

    def expired(self, now: float) -> bool:
        """Whether the deadline has passed at `now`."""
        return self.deadline is not None and self.deadline <= now

    def check_deadline(self) -> None:
        """Raises SIEError: GATEWAY_TIMEOUT, the deadline has passed."""
        if self.expired(time.perf_counter()):
            raise _passed()

    @asynccontextmanager
    async def until_deadline(self) -> AsyncIterator[None]:
        """Cancels the body of the `async with` at the deadline.

        Raises:
            SIEError: GATEWAY_TIMEOUT, the deadline has passed.
        """
        left = None if self.deadline is None else self.deadline - time.perf_counter()
        limit = asyncio.timeout(left)
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise _passed() from None


def _passed() -> SIEError:
    return SIEError(Code.GATEWAY_TIMEOUT, "the request's deadline has passed")
