"""The rankings of lines that have a query and its documents each."""

from collections.abc import Sequence

from sie_server.cli.rankers.ranker import Ranker, RankerError, UnavailableError
from sie_server.cli.rerank.formats import Form
from sie_server.cli.rerank.request import Request, read_request
from sie_server.cli.streaming.batches import Batch, batches
from sie_server.cli.streaming.destination import Destination
from sie_server.cli.streaming.in_order import Window
from sie_server.cli.streaming.lines import Line, Lines
from sie_server.cli.streaming.progress_bar import ProgressBar
from sie_server.cli.streaming.run import OnError, Outcome, stream

# Requests and characters in progress: enough to fill the batches of all cores, or the connections to a server.
WINDOW = Window(64, 2**21)


async def rank_requests(
    lines: Lines, ranker: Ranker, form: Form, destination: Destination, on_error: OnError, progress: ProgressBar
) -> None:
    """Write the ranking of each line. Raises as `stream`."""

    async def work(batch: Batch[Request]) -> Sequence[Outcome]:
        [line], [request] = batch.lines, batch.values
        return [await outcome(ranker, request, form, line.number, f"{lines.name}, line {line.number}")]

    def read(line: Line) -> Request:
        if line.number == 1 and not line.content.lstrip().startswith(b"{"):
            advice = "To rank the lines of a file, give a query: sie-server rerank QUERY FILE."
            raise lines.fault(line, f"it is not a JSON object with a query and documents. {advice}")
        return read_request(line, lines.fault)

    found = batches(lines, destination, read, lambda request: request.size, most=1, most_size=1, seen=lambda _: None)
    await stream(found, work, destination, WINDOW, on_error, progress, count=documents)


def documents(batch: Batch[Request]) -> int:
    """Number of documents in a batch."""
    return sum(len(request.texts) for request in batch.values)


async def outcome(ranker: Ranker, request: Request, form: Form, number: int, place: str) -> bytes | RankerError:
    """The ranking of a request, or its error, which names the place of the request.

    Raises:
        UnavailableError: others would fail as well.
    """
    try:
        ranked = await ranker.rank(request.query, request.texts)
    except UnavailableError:
        raise
    except RankerError as error:
        return RankerError(f"{place}: {error}")
    return form.ranking(request, ranked.scores, number)
