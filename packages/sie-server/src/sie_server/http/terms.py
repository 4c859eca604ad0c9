"""The headers that say on which terms a request is to be served."""

import hashlib
import re
from typing import cast, get_args

from starlette.datastructures import Headers

from sie_server.choices import Priority
from sie_server.engine.terms import Terms
from sie_server.errors import Code, SIEError

TIMEOUT = "X-Request-Timeout"
PRIORITY = "X-SIE-Priority"
_SECONDS = re.compile(r"\d{1,9}(\.\d{0,9})?", re.ASCII)


def terms_of(headers: Headers, started: float) -> Terms:
    """Those of a request that came in at `started` (`time.perf_counter()`).

    Raises:
        SIEError: INVALID_INPUT, a header holds something else.
    """
    timeout, priority = headers.get(TIMEOUT), headers.get(PRIORITY, "normal").lower()
    if timeout is not None and not _SECONDS.fullmatch(timeout):
        raise SIEError(Code.INVALID_INPUT, f"Header '{TIMEOUT}' is {timeout!r}; it holds seconds, such as 2.5")
    if priority not in get_args(Priority):
        raise SIEError(Code.INVALID_INPUT, f"Header '{PRIORITY}' is none of {', '.join(get_args(Priority))}")
    # The key itself must not go where it could be seen.
    given = headers.get("authorization", "")
    client = hashlib.sha256(given.encode()).hexdigest()[:16] if given else ""
    return Terms(client, cast(Priority, priority), None if timeout is None else started + float(timeout))
