"""`sie-server top`: a running server, live in the terminal."""

import sys
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sie_server.cli.top.feed import Feed

_PIPE_WIDTH = 140


def top(
    *,
    url: Annotated[tuple[str, ...], Parameter(negative=())] = ("http://localhost:8080",),
    interval: Annotated[float, Parameter(validator=Number(gte=0.2))] = 1.0,
    once: Annotated[bool, Parameter(negative=())] = False,
    api_key: Annotated[str | None, Parameter(env_var="SIE_API_KEY")] = None,
) -> int:
    """Show the state of a running server, or of several, until Ctrl-C.

    Rates cover the last interval; percentiles, errors and avoided padding the last 10 seconds.

    Parameters
    ----------
    url
        URL of the server. Repeatable: several servers have a line each, and their models below.
    interval
        Seconds between samples.
    once
        Print one interval and exit; implied when output is a pipe.
    api_key
        API key of the servers.
    """
    from rich.live import Live

    from sie_server.cli.top.feed import Feed, RefusedError
    from sie_server.cli.top.screen import Screen

    terminal = sys.stdout.isatty()
    console = Console() if terminal else Console(width=_PIPE_WIDTH)
    try:
        feeds = [Feed(one, interval, api_key) for one in dict.fromkeys(url)]
        if len(feeds) > 1:
            return _fleet(feeds, console, live=terminal and not once)
        [feed] = feeds
        screen = Screen(feed.url)
        if once or not terminal:
            for sample in islice(feed.connected(), 2):  # rates are between two
                screen.add(sample)
            console.print(screen)
            return 0
        # A server that is missing at the start is rather a wrong URL than one to wait for.
        screen.add(next(feed.connected()))
        with suppress(KeyboardInterrupt), Live(screen, console=console, screen=True, auto_refresh=False) as live:
            for said in feed.samples():
                screen.add(said)
                live.refresh()
    except (RefusedError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _fleet(feeds: "Sequence[Feed]", console: Console, *, live: bool) -> int:
    """Watch several servers; once, the status says whether all of them answered."""
    from rich.live import Live

    from sie_server.cli.top.fleet import Fleet, watched

    fleet = Fleet([feed.url for feed in feeds])
    with watched(feeds) as said:
        if not live:
            while not fleet.complete:
                fleet.add(next(said))
            console.print(fleet)
            return 0 if fleet.reached else 1
        with suppress(KeyboardInterrupt), Live(fleet, console=console, screen=True, auto_refresh=False) as screen:
            for one in said:
                fleet.add(one)
                screen.refresh()
    return 0
