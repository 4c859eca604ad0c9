"""Renders samples of several servers in the terminal: a line for each, and one for each model."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Thread

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from sie_server.cli.top.feed import Feed, RefusedError
from sie_server.cli.top.history import History
from sie_server.cli.top.sample import Between, Sample
from sie_server.cli.top.screen import BUSY, duration, milliseconds, number

_LONG_S = 1.0
# For the threads that read the feeds: a feed pauses for a second while its server is away.
_STOP_S = 2.0
_LATENCY = "sie_request_duration_seconds"


@dataclass(frozen=True)
class Said:
    """News from the feed of one server: a sample, or why there is none; a RefusedError is the last of them."""

    url: str
    sample: Sample | str | RefusedError


@contextmanager
def watched(feeds: Sequence[Feed]) -> Iterator[Iterator[Said]]:
    """News of all feeds as it comes, without end; at the end of the context they are read no more."""
    queue: SimpleQueue[Said] = SimpleQueue()
    over = Event()

    def read(feed: Feed) -> None:
        try:
            for sample in feed.samples():
                if over.is_set():
                    return
                queue.put(Said(feed.url, sample))
        except RefusedError as error:
            queue.put(Said(feed.url, error))

    threads = [Thread(target=read, args=(feed,), name=f"watch-{feed.url}", daemon=True) for feed in feeds]
    for thread in threads:
        thread.start()
    try:
        yield iter(queue.get, None)
    finally:
        over.set()
        for thread in threads:
            thread.join(_STOP_S)


class Fleet:
    """The screen of several servers, from the samples added so far."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._histories = {url: History(url) for url in urls}

    @property
    def complete(self) -> bool:
        """Whether each server has said enough for rates, or why it does not say anything."""
        return all(len(one.samples) > 1 or one.gone is not None for one in self._histories.values())

    @property
    def reached(self) -> bool:
        """Whether all servers answer."""
        return all(one.samples and one.gone is None for one in self._histories.values())

    def add(self, said: Said) -> None:
        """Add what one server said."""
        what = said.sample
        self._histories[said.url].add(str(what) if isinstance(what, RefusedError) else what)

    def __rich__(self) -> RenderableType:
        here = [one for one in self._histories.values() if one.samples and one.gone is None]
        gone = [one for one in self._histories.values() if one.gone is not None]
        lines: list[RenderableType] = [self._servers(here), Rule(style="dim"), _models([one.last for one in here])]
        lines += [Text(f"{one.gone}", style="bold red") for one in gone]
        return Padding(Group(*lines), (0, 1))

    def _servers(self, here: Sequence[History]) -> Table:
        table = Table(box=None, expand=True, pad_edge=False, header_style="dim")
        table.add_column("Server", ratio=1, overflow="ellipsis", no_wrap=True)
        for name in ("State", "Busy", "Req/s", "Tokens/s", "Queue", "p50", "p95", "Errors/s", "Models", "Up"):
            table.add_column(name, justify="left" if name == "State" else "right", no_wrap=True)
        for one in self._histories.values():
            state = Text(f"● {one.state[0]}", style=one.state[1])
            table.add_row(Text(one.url), state, *(_figures(one) if one in here else []))
        total = [one.last for one in here]
        table.add_row(
            Text(f"{len(here)} of {len(self._histories)} servers", style="bold"),
            "",
            "",
            number(sum(last.rate("sie_requests_total") for last in total)),
            Text(number(sum(last.rate("sie_tokens_processed_total") for last in total)), style="bold"),
            _seconds(sum(last.after.total("sie_queue_seconds") for last in total)),
        )
        return table


def _figures(one: History) -> list[Text]:
    last, window = one.last, one.window
    loaded = sum(model["state"] == "loaded" for model in last.after.frame["models"])
    errors = window.rate("sie_errors_total")
    return [
        Text(f"{last.busy:.0%}", style="red" if last.busy > BUSY else ""),
        Text(number(last.rate("sie_requests_total"))),
        Text(number(last.rate("sie_tokens_processed_total")), style="bold"),
        _seconds(last.after.total("sie_queue_seconds")),
        *(Text(milliseconds(window.quantile(share, _LATENCY, phase="total"))) for share in (0.5, 0.95)),
        Text(number(errors), style="red" if errors else ""),
        Text(str(loaded)),
        Text(duration(last.after.frame["server"]["uptime_seconds"])),
    ]


def _models(servers: Sequence[Between]) -> Table:
    table = Table(box=None, expand=True, pad_edge=False, header_style="dim")
    table.add_column("Model", ratio=1, overflow="ellipsis", no_wrap=True)
    for name in ("In memory of", "Req/s", "Tokens/s", "Queue"):
        table.add_column(name, justify="right", no_wrap=True)
    loaded = Counter(
        model["name"] for one in servers for model in one.after.frame["models"] if model["state"] == "loaded"
    )
    for name, count in sorted(loaded.items()):
        table.add_row(
            name,
            f"{count} of {len(servers)}",
            number(sum(one.rate("sie_requests_total", model=name) for one in servers)),
            Text(number(sum(one.rate("sie_batch_tokens_sum", model=name) for one in servers)), style="bold"),
            _seconds(sum(one.after.total("sie_queue_seconds", model=name) for one in servers)),
        )
    return table


def _seconds(queued: float) -> Text:
    return Text(f"{queued:.1f} s", style="red" if queued > _LONG_S else "")
