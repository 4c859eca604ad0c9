"""Work that nobody waits for any more."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

T = TypeVar("T")


async def until_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Run `work`, and cancel it when the client goes away.

    Raises:
        ClientDisconnect: it did.
    """
    task = asyncio.ensure_future(work)
    # After the body the next message can only be the disconnect.
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        # What it holds on to is counted until it is gone.
        task.cancel()
        await asyncio.wait({task})
        raise ClientDisconnect
    finally:
        task.cancel()
        gone.cancel()
