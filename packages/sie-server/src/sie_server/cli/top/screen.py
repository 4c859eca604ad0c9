"""Renders samples in the terminal."""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.filesize import decimal
from rich.measure import Measurement
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from sie_server.cli.top.history import History
from sie_server.cli.top.sample import Between, Sample

_BARS = "▁▂▃▄▅▆▇█"
# Shares of the time and of the queue above which figures are red.
BUSY, _FULL = 0.9, 0.8
_STATES = {"loaded": "green", "loading": "yellow", "unloading": "yellow", "failed": "red"}


class Screen:
    """The screen of the server at `url`, from the samples added so far."""

    def __init__(self, url: str) -> None:
        self._history = History(url)

    def add(self, said: Sample | str) -> None:
        """Add a sample, or the reason why there is none."""
        self._history.add(said)

    def __rich__(self) -> RenderableType:
        history = self._history
        if not history.samples:
            return Text(f"connecting to {history.url}" if history.gone is None else history.gone, style="dim")
        last, window = history.last, history.window
        lines: list[RenderableType] = [_head(history), _machine(last, window), Text()]
        lines += [_trend(history), Rule(style="dim"), _models(last, window), Rule(style="dim"), _foot(window)]
        if history.gone is not None:
            lines.append(Text(f"{history.gone}; trying again", style="bold red"))
        return Padding(Group(*lines), (0, 1))


def _head(history: History) -> RenderableType:
    frame, state = history.samples[-1].frame, history.state
    server = frame["server"]
    left = Text.assemble(
        ("SIE ", "bold cyan"), (server["version"], "bold"), "  ", (f"● {state[0]}", state[1]), "  ", history.url
    )
    right = Text(f"up {duration(server['uptime_seconds'])} · {frame['name']} · pid {server['pid']}", style="dim")
    return _both_ends(left, right)


def _trend(history: History) -> RenderableType:
    pairs = [Between(*pair) for pair in pairwise(history.samples)]
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True, style="dim", width=8)
    table.add_column(ratio=1)
    table.add_column(no_wrap=True, justify="right", width=12)
    rates = [pair.rate("sie_tokens_processed_total") for pair in pairs]
    waiting = [sample.total("sie_queue_depth") for sample in history.samples]
    for name, values, colour in (("tokens/s", rates, "green"), ("queue", waiting, "yellow")):
        table.add_row(name, Sparkline(values, colour), number(values[-1] if values else 0))
    return table


class Sparkline:
    """Bars of the newest values that fit, the newest on the right."""

    def __init__(self, values: Iterable[float], colour: str) -> None:
        self._values = list(values)
        self._colour = colour

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = self._values[-options.max_width :]
        top = max(shown, default=0.0)
        # Zero is the lowest bar; any positive value is higher.
        bars = [_BARS[-(-int(value * 7000 / top) // 1000)] if top > 0 else _BARS[0] for value in shown]
        yield Text("".join(bars).rjust(options.max_width), style=self._colour, no_wrap=True)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, options.max_width)


def _machine(last: Between, window: Between) -> RenderableType:
    now = last.after
    threads, limit = now.total("sie_device_threads"), now.total("sie_queue_limit_tokens")
    busy = last.busy
    queue = now.total("sie_queue_depth")
    device = next((dict(labels)["device"] for labels in now.values.get("sie_device_threads", {})), "")
    used, total = (now.total("sie_device_memory_bytes", kind=kind) for kind in ("used", "total"))
    lag = window.quantile(0.99, "sie_event_loop_lag_seconds")
    parts = [
        Text.assemble((device, "bold"), f" × {threads:.0f}"),
        Text.assemble("busy ", (_bar(busy), "red" if busy > BUSY else "green"), f" {busy:4.0%}"),
        Text.assemble("queue ", (number(queue), "red" if queue > limit * _FULL else "bold"), f" of {limit / 1e6:,g} M"),
        Text(f"memory {_bytes(now.total('process_resident_memory_bytes'))}"),
    ]
    if total:
        parts.append(Text(f"GPU {_bytes(used)} of {_bytes(total)}"))
    parts.append(Text(f"in flight {now.total('sie_requests_in_progress'):.0f}"))
    if lag is not None:
        parts.append(Text(f"lag p99 {milliseconds(lag)}"))
    return Text("  ·  ", style="dim").join(parts)


def _models(last: Between, window: Between) -> RenderableType:
    table = Table(box=None, expand=True, pad_edge=False, header_style="dim")
    table.add_column("Model", ratio=1, overflow="ellipsis", no_wrap=True)
    for name in ("State", "Memory", "Req/s", "Docs/s", "Tokens/s", "Queue", "p50", "p95", "No pad"):
        table.add_column(name, justify="left" if name == "State" else "right", no_wrap=True)
    for model in _shown(last.after.frame):
        table.add_row(*_row(model, last, window))
    return table


def _shown(frame: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [model for model in frame["models"] if model["state"] != "available"]


def _row(model: Mapping[str, Any], last: Between, window: Between) -> list[Text]:
    name, state = model["name"], model["state"]
    total = {"model": name, "phase": "total"}
    p50, p95 = (window.quantile(share, "sie_request_duration_seconds", **total) for share in (0.5, 0.95))
    real = window.count("sie_batch_tokens_sum", model=name)
    avoided = window.count("sie_padding_avoided_tokens_total", model=name)
    return [
        Text(name),
        Text(state, style=_STATES.get(state, "")),
        Text(_bytes(model["memory_bytes"]) if model["memory_bytes"] else "–"),
        Text(number(last.rate("sie_requests_total", model=name))),
        Text(number(last.rate("sie_batch_size_sum", model=name))),
        Text(number(last.rate("sie_batch_tokens_sum", model=name)), style="bold"),
        Text(number(last.after.total("sie_queue_tokens", model=name))),
        Text(milliseconds(p50)),
        Text(milliseconds(p95)),
        Text(f"{avoided / (real + avoided):.0%}" if real else "–"),
    ]


def _foot(window: Between) -> RenderableType:
    frame = window.after.frame
    errors = window.by("sie_errors_total", "code")
    said = [Text(f"{code} {number(rate)}/s", style="red") for code, rate in errors.items()]
    if gone := window.rate("sie_disconnects_total"):
        said.append(Text(f"clients gone {number(gone)}/s", style="yellow"))
    left = Text("  ").join(said) if said else Text("no errors", style="dim")
    rest = len(frame["models"]) - len(_shown(frame))
    return _both_ends(left, Text(f"{rest} more models load on first use", style="dim"))


def _both_ends(left: Text, right: Text) -> Table:
    table = Table.grid(expand=True)
    table.add_column(ratio=1)
    table.add_column(justify="right", no_wrap=True)
    table.add_row(left, right)
    return table


def _bar(share: float, width: int = 10) -> str:
    full = round(share * width)
    return "█" * full + "░" * (width - full)


def number(value: float) -> str:
    """A number with a decimal place if it is small."""
    return f"{value:,.1f}" if 0 < value < 10 else f"{value:,.0f}"


def milliseconds(seconds: float | None) -> str:
    """A time, in seconds if it is long; a dash if there is none."""
    if seconds is None:
        return "–"
    if seconds >= 10:
        return f"{seconds:.0f} s"
    return f"{seconds * 1e3:.1f} ms" if seconds < 0.01 else f"{seconds * 1e3:.0f} ms"


def _bytes(size: float) -> str:
    return decimal(int(size))


def duration(seconds: int) -> str:
    """Seconds in the two largest units."""
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"
