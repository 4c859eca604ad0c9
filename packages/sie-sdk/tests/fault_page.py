"""docs/sdk-faults.md, made from the fault table.

python packages/sie-sdk/tests/fault_page.py
"""

import json
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[2] / "docs" / "sdk-faults.md"

INTRODUCTION = """# What the clients do when something fails

`SIEClient`, `SIEAsyncClient` and the TypeScript client do the same. Each line below is played over real sockets in the
tests of both SDKs, from one table (`packages/sie-sdk/tests/fault_table.json`, which this page is made from).

A call asks again until it has a result, its error is final or its time is over: `provision_timeout_s` (900 s), waiting
included. It does not begin a wait that would end too late. `wait_for_capacity=False` is for callers who would rather
learn at once that there is no server or machine. Pauses that the server did not choose are up to a quarter shorter, at
random.

`timeout_s` (150 s) bounds a silence of the server in Python, and in TypeScript (`timeoutMs`) the whole of a request.
What timed out is never sent again, for the server may still be at work on it.

An answer may have 1 GiB. A compressed one (gzip, deflate) may unpack to 64 MiB, or to 32 times what was received, if
that is more; where it is not known what was received, as in TypeScript behind a proxy that compresses, to 256 MiB. What
is larger is given up: `SIEConnectionError`, `other`. Of an error 1 MiB is read. Whatever an error's body holds, its
status says which exception it is. A Retry-After of more than a year counts as a year.

Errors have `code`, `status_code`, `request_id` and `retry_after` (seconds), each None where the server did not say;
`SIEConnectionError` has `kind`. In TypeScript they are `statusCode`, `requestId` and `retryAfter` (milliseconds), and
the settings are `provisionTimeout` and `timeoutMs` (milliseconds) and `waitForCapacity`.
"""


def page():
    """The page's text."""
    table = json.loads((HERE / "fault_table.json").read_text())
    return "\n".join([INTRODUCTION, *(line for group in table["groups"] for line in _section(group))])


def _section(group):
    rows = (f"| {_what(case)} | {_does(case)} |" for case in group["cases"])
    return [f"## {group['title']}", "", "| What happens | What a call does |", "|---|---|", *rows, ""]


def _what(case):
    options = ", ".join(f"{name}={value}" for name, value in case.get("options", {}).items())
    return f"{case['name']} (`{options}`)" if options else case["name"]


def _does(case):
    waits = ", ".join(f"{seconds:g}" for seconds in case["waits_s"])
    asks = f"asks again after {waits} s, then " if waits else ""
    if "raises" not in case:
        return f"{asks}returns"
    details = [f"`{case[name]}`" for name in ("kind", "code") if name in case]
    details += [f"`{case['says']}`"] if "says" in case else []
    return ", ".join([f"{asks}raises `{case['raises']}`", *details])


if __name__ == "__main__":
    PAGE.write_text(page())
