"""The deadline of a request: the moment by which its client must have the answer.

A deadline is a value of `time.perf_counter()`; None: there is none. `engine/admission.py` refuses a request that would
not keep its deadline; here is what happens once it has passed.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

from sie_server.errors import Code, SIEError

# An event loop's timer may fire this many seconds early.
TIMER_SLACK_S = 0.01


def expired(deadline: float | None, now: float) -> bool:
    """Whether the deadline has passed at `now`."""
    return deadline is not None and deadline <= now


def check_deadline(deadline: float | None) -> None:
    """Raises SIEError: GATEWAY_TIMEOUT, the deadline has passed."""
    if expired(deadline, time.perf_counter()):
        raise _passed()


def until_deadline(deadline: float | None) -> AbstractAsyncContextManager[None]:
    """Cancels the body of the `async with` at the deadline.

    Raises:
        SIEError: GATEWAY_TIMEOUT, the deadline has passed.
    """
    return _UNLIMITED if deadline is None else _until(deadline)


_UNLIMITED = nullcontext()


@asynccontextmanager
async def _until(deadline: float) -> AsyncIterator[None]:
    limit = asyncio.timeout(deadline - time.perf_counter())
    try:
        async with limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise _passed() from None


def _passed() -> SIEError:
    return SIEError(Code.GATEWAY_TIMEOUT, "the request's deadline has passed")
