"""Work that ends when its client disconnects."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

T = TypeVar("T")
# Seconds of work after which the client is watched: less is not worth a task of its own.
_UNWATCHED_S = 0.005


async def until_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client disconnects.

    Raises:
        ClientDisconnect: it did.
    """
    task = asyncio.current_task()
    assert task is not None
    disconnected = False
    watch: asyncio.Future[Message] | None = None

    def begin() -> None:
        nonlocal watch
        # After the body, the next message can only be the disconnect.
        watch = asyncio.ensure_future(request.receive())
        watch.add_done_callback(cancel)

    def cancel(_: "asyncio.Future[Message]") -> None:
        nonlocal disconnected
        disconnected = True
        task.cancel()

    timer = asyncio.get_running_loop().call_later(_UNWATCHED_S, begin)
    try:
        return await work
    except asyncio.CancelledError:
        # As asyncio.timeout() does: only a cancellation of ours is a disconnect.
        if not disconnected or task.uncancel() > 0:
            raise
        raise ClientDisconnect from None
    finally:
        timer.cancel()
        if watch is not None:
            watch.remove_done_callback(cancel)
            watch.cancel()
