"""Lines, read into values and put together for one request."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from sie_server.cli.streaming.destination import Destination
from sie_server.cli.streaming.lines import FaultError, Line, Lines

T = TypeVar("T")


@dataclass(slots=True)
class Batch(Generic[T]):
    """Consecutive lines, and what each of them says. size: of the values. fault: of an only line that says nothing."""

    lines: list[Line] = field(default_factory=list)
    values: list[T] = field(default_factory=list)
    size: int = 0
    fault: FaultError | None = None


async def batches(
    lines: Lines,
    destination: Destination,
    parse: Callable[[Line], T],
    size: Callable[[T], int],
    *,
    most: int,
    most_size: int,
    seen: Callable[[Line], None],
) -> AsyncIterator[Batch[T]]:
    """Batches of at most `most` lines, and of about `most_size` in all, without the lines that are done already.

    parse: raises FaultError for a line that says nothing. seen: called with each line, those that are done too.
    """
    left = destination.lines
    async for arrived in lines:
        batch: Batch[T] = Batch()
        for line in arrived:
            seen(line)
            if left:
                left -= 1
                destination.passed(line.content)
                continue
            try:
                value = parse(line)
            except FaultError as error:
                if batch.lines:
                    yield batch
                yield Batch([line], fault=error)
                batch = Batch()
                continue
            batch.lines.append(line)
            batch.values.append(value)
            batch.size += size(value)
            if len(batch.lines) >= most or batch.size >= most_size:
                yield batch
                batch = Batch()
        if batch.lines:
            yield batch
