"""On which terms a request is served: for whom, how urgently, and until when."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sie_server.errors import Code, SIEError
from sie_server.options import Priority

# By how much a timer of the event loop may be early.
EARLY_S = 0.01


@dataclass(frozen=True, slots=True)
class Terms:
    """Terms of one request.

    client: whoever shares the device with others as one; opaque, "" where nobody says who they are. deadline:
    `time.perf_counter()` after which nobody waits for the answer any more; None: someone always does.
    """

    client: str = ""
    priority: Priority = "normal"
    deadline: float | None = None

    def over(self, now: float) -> bool:
        """Whether the deadline has passed at `now`."""
        return self.deadline is not None and self.deadline <= now

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """Ends what is inside at the deadline.

        Raises:
            SIEError: GATEWAY_TIMEOUT, it did.
        """
        left = None if self.deadline is None else self.deadline - time.perf_counter()
        limit = asyncio.timeout(left)
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise SIEError(Code.GATEWAY_TIMEOUT, "the time that the request has is over") from None
