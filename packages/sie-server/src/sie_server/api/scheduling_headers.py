"""The headers that say on which terms a request is to be served."""

import re
from typing import cast, get_args

from starlette.requests import Request

from sie_server.engine.scheduling_params import SchedulingParams
from sie_server.errors import Code, SIEError
from sie_server.options import Priority

TIMEOUT = "X-Request-Timeout"
PRIORITY = "X-SIE-Priority"
_SECONDS = re.compile(r"\d{1,9}(\.\d{0,9})?", re.ASCII)


def terms_of(request: Request, started: float) -> SchedulingParams:
    """Those of a request of `request.state.client`, which came in at `started` (`time.perf_counter()`).

    Raises:
        SIEError: INVALID_INPUT, a header holds something else.
    """
    headers = request.headers
    timeout, priority = headers.get(TIMEOUT), headers.get(PRIORITY, "normal").lower()
    if timeout is not None and not _SECONDS.fullmatch(timeout):
        raise SIEError(Code.INVALID_INPUT, f"Header '{TIMEOUT}' is {timeout[:100]!r}; it holds seconds, such as 2.5")
    if priority not in get_args(Priority):
        raise SIEError(Code.INVALID_INPUT, f"Header '{PRIORITY}' must be one of {', '.join(get_args(Priority))}")
    return SchedulingParams(
        request.state.client, cast(Priority, priority), None if timeout is None else started + float(timeout)
    )
