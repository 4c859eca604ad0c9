"""The run of a command that streams: its work in order, its errors, its signals and its exit status."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from typing import Any, Literal, TypeVar

from sie_server.cli.exit_status import BAD_INPUT, FAILED, INTERRUPTED, UNAVAILABLE
from sie_server.cli.rankers.ranker import RankerError, UnavailableError
from sie_server.cli.streaming.batches import Batch
from sie_server.cli.streaming.destination import Destination
from sie_server.cli.streaming.in_order import Window, in_order
from sie_server.cli.streaming.lines import FaultError
from sie_server.cli.streaming.progress_bar import ProgressBar

T = TypeVar("T")
M = TypeVar("M")
OnError = Literal["stop", "skip"]
Outcome = bytes | FaultError | RankerError
_SAVE_S = 1.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


async def stream(
    batches: AsyncIterator[Batch[T]],
    work: Callable[[Batch[T]], Coroutine[Any, Any, Sequence[Outcome]]],
    destination: Destination,
    window: Window,
    on_error: OnError,
    progress: ProgressBar,
    *,
    without: bytes = b"",
    count: Callable[[Batch[T]], int] = lambda batch: len(batch.lines),
    end: Callable[[Batch[T]], int] = lambda batch: batch.lines[-1].offset + len(batch.lines[-1].content),
) -> None:
    """Write the results of all batches in order.

    work: one outcome per line of a batch. without: written for a line that failed. count, end: for the progress, how
    much is in a batch, and where it ends in the input.

    Raises:
        FaultError, RankerError: a line failed, and `on_error` is "stop"; what came before it is written.
        UnavailableError: the model or the server is not available any more.
    """

    async def outcomes(batch: Batch[T]) -> Sequence[Outcome]:
        return [batch.fault] if batch.fault is not None else await work(batch)

    done = in_order(batches, outcomes, lambda batch: batch.size, window)
    async with aclosing(done), _saving(destination):
        async for batch, results in done:
            for line, outcome in zip(batch.lines, results, strict=True):
                if isinstance(outcome, bytes):
                    destination.add(line.content, outcome)
                    continue
                if on_error == "stop":
                    raise outcome
                progress.say(f"{str(outcome).removesuffix('.')}. Skipped.")
                destination.add(line.content, without, failed=True)
            progress.advance(end(batch), count(batch))


@asynccontextmanager
async def _saving(destination: Destination) -> AsyncIterator[None]:
    """Save every second, while nothing arrives too."""

    async def save() -> None:
        while True:
            await asyncio.sleep(_SAVE_S)
            destination.save()

    task = asyncio.create_task(save())
    try:
        yield
    finally:
        task.cancel()
        # The destination raises its error again when it is used.
        await asyncio.gather(task, return_exceptions=True)


async def opened(stack: AsyncExitStack, open_: Callable[[], AbstractAsyncContextManager[M]]) -> M:
    """Open a model for as long as the stack is open.

    Raises:
        FaultError: a flag is wrong, or can't be honoured.
        UnavailableError: the model or the server is not available.
    """
    try:
        return await stack.enter_async_context(open_())
    except ValueError as error:
        raise FaultError(f"{str(error).removesuffix('.')}.") from None


async def each_alone(
    outcome: Callable[[Sequence[T]], Coroutine[Any, Any, Sequence[bytes]]],
    batch: Batch[T],
    describe: Callable[[Batch[T], int, str], FaultError | RankerError],
) -> Sequence[Outcome]:
    """The outcomes of a batch; if it fails, those of each of its values alone. describe: the error of a line.

    Raises:
        UnavailableError: others would fail as well.
    """
    try:
        return await outcome(batch.values)
    except UnavailableError:
        raise
    except RankerError as error:
        if len(batch.values) == 1:
            return [describe(batch, 0, str(error))]
    found: list[Outcome] = []
    for index, value in enumerate(batch.values):
        try:
            found += await outcome([value])
        except UnavailableError:
            raise
        except RankerError as error:
            found.append(describe(batch, index, str(error)))
    return found


def run(main: Callable[[], Coroutine[Any, Any, int]], resumable: Callable[[], str | None]) -> int:
    """Run a command until it is done or interrupted, and return its exit status; errors are printed in a sentence.

    resumable: what to say about the output when it is not complete; None: there is nothing to say.
    """

    def said(message: str, status: int) -> int:
        print(message, file=sys.stderr)
        if (more := resumable()) is not None:
            print(more, file=sys.stderr)
        return status

    try:
        return asyncio.run(_interruptible(main))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return said("Interrupted.", INTERRUPTED)
    except BrokenPipeError:
        # Nobody reads any further. Python would complain about what is left in its buffer.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except UnavailableError as error:
        return said(str(error), UNAVAILABLE)
    except RankerError as error:
        return said(str(error), FAILED)
    except FaultError as error:
        return said(str(error), BAD_INPUT)
    except OSError as error:
        return said(f"the output can't be written: {error.strerror or error}.", FAILED)


async def _interruptible(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Cancel the command at the first signal, and end the process at the second."""
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(main())

    def interrupt() -> None:
        if task.cancelling():
            os._exit(INTERRUPTED)
        task.cancel()

    for number in _SIGNALS:
        loop.add_signal_handler(number, interrupt)
    try:
        return await task
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
