"""The retry policy: pure functions, without a clock and without I/O.

| Response | Retried | Delay, seconds |
|---|---|---|
| 503 PROVISIONING | if waiting for capacity | Retry-After or 5 |
| 503 MODEL_LOADING | always | Retry-After or 5 |
| 503 LORA_LOADING | 10 times | Retry-After or 1 |
| 503 RESOURCE_EXHAUSTED | `max_oom_retries` times | Retry-After or 5, then 10, 20, 30, 30, ... |
| 429; 503 QUEUE_FULL, BILLING_CAPACITY_UNAVAILABLE | always | Retry-After or 1 |
| 503 QUEUE_UNAVAILABLE, transport_failure, or without a code | if it has a Retry-After | Retry-After |
| 504 | if waiting for capacity, inference only | Retry-After or 5 |
| refused, unknown host, cut off before the response was complete | if waiting for capacity | 0.5, 1, 2, 4, 8, 8, ... |
| read timeout, anything else | never | |

"Always" means until the call's time budget is spent, which the caller keeps track of. A delay that the server did not
choose is shortened by up to 25 %, at random, so that clients that failed together do not retry together.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Literal

Reason = Literal["capacity", "loading", "lora", "memory", "busy", "gateway", "connection"]
FailureKind = Literal["connect", "timeout", "other"]

MAX_LORA_RETRIES = 10
JITTER = 0.25
# Keeps a call from retrying in a tight loop while a busy server sends "Retry-After: 0".
SHORTEST_DELAY_S = 0.1
# A year. A longer delay is an error of the server, and too large for `time.sleep`.
LONGEST_DELAY_S = 31_536_000.0
_SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?")


@dataclass(frozen=True, slots=True)
class RetryOptions:
    """The retries that the caller allows.

    `inference` is true for requests that run a model (score, encode, extract), false for all others.
    """

    wait_for_capacity: bool = True
    max_oom_retries: int = 3
    inference: bool = True


@dataclass(frozen=True, slots=True)
class Retry:
    """A retry after `delay_s` seconds."""

    reason: Reason
    delay_s: float


def after_response(
    status: int,
    code: str | None,
    headers: Mapping[str, str],
    retries: Counter[Reason],
    options: RetryOptions,
    *,
    draw: float,
    now_s: float,
) -> Retry | None:
    """Returns the retry after an error response, or None if its error is final.

    `headers` has lower-case names (or ignores case), `retries` counts the retries of this call so far by reason, `draw`
    is a random number in [0, 1) and `now_s` the time of day in Unix seconds.
    """
    asked = parse_retry_after(headers.get("retry-after"), now_s)

    def retry(reason: Reason, default_s: float) -> Retry:
        delay_s = _jittered(default_s, draw) if asked is None else asked
        return Retry(reason, max(delay_s, SHORTEST_DELAY_S))

    match status, code:
        case 429, _:
            return retry("busy", 1.0)
        case 503, "QUEUE_FULL" | "BILLING_CAPACITY_UNAVAILABLE":
            return retry("busy", 1.0)
        case 503, "QUEUE_UNAVAILABLE" | "transport_failure" | None if asked is not None:
            return retry("busy", asked)
        case 503, "PROVISIONING" if options.wait_for_capacity:
            return retry("capacity", 5.0)
        case 503, "MODEL_LOADING":
            return retry("loading", 5.0)
        case 503, "LORA_LOADING" if retries["lora"] < MAX_LORA_RETRIES:
            return retry("lora", 1.0)
        case 503, "RESOURCE_EXHAUSTED" if retries["memory"] < options.max_oom_retries:
            if retries["memory"] == 0:
                return retry("memory", 5.0)
            return Retry("memory", _jittered(_doubled(5.0, retries["memory"], cap_s=30.0), draw))
        case 504, _ if options.wait_for_capacity and options.inference:
            return retry("gateway", 5.0)
    return None


def after_failure(kind: FailureKind, retries: Counter[Reason], options: RetryOptions, *, draw: float) -> Retry | None:
    """Returns the retry after a request without a complete response, or None if the failure is final."""
    if kind != "connect" or not options.wait_for_capacity:
        return None
    return Retry("connection", _jittered(_doubled(0.5, retries["connection"], cap_s=8.0), draw))


def parse_retry_after(value: str | None, now_s: float) -> float | None:
    """Parses a Retry-After header, a number of seconds or an HTTP date (RFC 9110, 10.2.3), into seconds to wait.

    A past date is 0, and more than a year is a year. Anything else (negative, infinite, "12abc", "soon", "") is None.

    >>> parse_retry_after("1.5", now_s=0.0), parse_retry_after("Thu, 01 Jan 1970 00:01:00 GMT", now_s=30.0)
    (1.5, 30.0)
    """
    value = (value or "").strip()
    if _SECONDS.fullmatch(value):
        seconds = float(value)
        return min(seconds, LONGEST_DELAY_S) if math.isfinite(seconds) else None
    # Imported here because it takes longer than the rest of this module, and dates are rare.
    from email.utils import parsedate_to_datetime

    try:
        date = parsedate_to_datetime(value)
        at_s = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return min(max(0.0, at_s - now_s), LONGEST_DELAY_S)


def _doubled(first_s: float, times: int, *, cap_s: float) -> float:
    # The exponent is limited because a call may retry thousands of times, and floats end at 2**1024.
    return min(cap_s, first_s * 2.0 ** min(times, 16))


def _jittered(delay_s: float, draw: float) -> float:
    return delay_s * (1.0 - JITTER * draw)
