"""`sie-server top`: a running server, live in the terminal."""

import sys
from contextlib import suppress
from itertools import islice
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console

_PIPE_WIDTH = 140


def top(
    *,
    url: str = "http://localhost:8080",
    interval: Annotated[float, Parameter(validator=Number(gte=0.2))] = 1.0,
    once: Annotated[bool, Parameter(negative=())] = False,
    api_key: Annotated[str | None, Parameter(env_var="SIE_API_KEY")] = None,
) -> int:
    """Show what a running server does, until Ctrl-C.

    Rates are of the last interval; percentiles, errors and the padding avoided of the last 10 seconds.

    Parameters
    ----------
    url
        Where the server is.
    interval
        Seconds between two looks at it.
    once
        Print what one interval gave, and exit; so does a pipe.
    api_key
        Key of a server that wants one.
    """
    from rich.live import Live

    from sie_server.cli.top.feed import Feed, RefusedError
    from sie_server.cli.top.screen import Screen

    terminal = sys.stdout.isatty()
    console = Console() if terminal else Console(width=_PIPE_WIDTH)
    try:
        feed = Feed(url, interval, api_key)
        screen = Screen(feed.url)
        if once or not terminal:
            for sample in islice(feed.connected(), 2):  # rates are between two
                screen.add(sample)
            console.print(screen)
            return 0
        # What is not there at the start is rather a wrong URL than a server to wait for.
        screen.add(next(feed.connected()))
        with suppress(KeyboardInterrupt), Live(screen, console=console, screen=True, auto_refresh=False) as live:
            for said in feed.samples():
                screen.add(said)
                live.refresh()
    except (RefusedError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0
