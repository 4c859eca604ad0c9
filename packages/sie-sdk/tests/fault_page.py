"""Writes docs/sdk-faults.md from the fault table.

python packages/sie-sdk/tests/fault_page.py
"""

import json
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[2] / "docs" / "sdk-faults.md"

INTRODUCTION = """# What the clients do when something fails

`SIEClient`, `SIEAsyncClient` and the TypeScript client behave the same. The tests of both SDKs replay each line below
over real sockets, from one table (`packages/sie-sdk/tests/fault_table.json`), which this page is generated from.

A call retries until it has a result, its error is final, or its time is over: `provision_timeout_s` (900 s), waiting
included. If it is not set, a call waits only 5 s for a server that has never responded to the client, because the
address may be wrong. It does not start a wait that would end too late. With `wait_for_capacity=False`, it fails at once
if there is no server. Pauses not set by the server are shortened at random by up to a quarter.

`timeout_s` (150 s) limits the silence of the server in Python, and the whole request in TypeScript (`timeoutMs`). A
request that timed out is never sent again, because the server may still be working on it.

An answer may have 1 GiB. A compressed answer (gzip, deflate) may unpack to 64 MiB, or to 32 times its size if that is
more. If its size is not known, as in TypeScript behind a proxy that compresses, the limit is 256 MiB. A larger answer
raises `SIEConnectionError`, `other`. At most 1 MiB of an error is read. The status of an error decides its exception,
whatever its body holds. A Retry-After of more than a year counts as a year.

Errors have `code`, `status_code`, `request_id` and `retry_after` (seconds), which are None if the server did not send
them; `SIEConnectionError` has `kind`. In TypeScript they are `statusCode`, `requestId` and `retryAfter` (milliseconds),
and the settings are `provisionTimeout` and `timeoutMs` (milliseconds) and `waitForCapacity`.
"""


def page():
    """Returns the text of the page."""
    table = json.loads((HERE / "fault_table.json").read_text())
    return "\n".join([INTRODUCTION, *(line for group in table["groups"] for line in _section(group))])


def _section(group):
    rows = (f"| {_what(case)} | {_does(case)} |" for case in group["cases"])
    return [f"## {group['title']}", "", "| Failure | Outcome of the call |", "|---|---|", *rows, ""]


def _what(case):
    options = ", ".join(f"{name}={value}" for name, value in case.get("options", {}).items())
    return f"{case['name']} (`{options}`)" if options else case["name"]


def _does(case):
    waits = ", ".join(f"{seconds:g}" for seconds in case["waits_s"])
    asks = f"retries after {waits} s, then " if waits else ""
    if "raises" not in case:
        return f"{asks}returns"
    details = [f"`{case[name]}`" for name in ("kind", "code") if name in case]
    details += [f"`{case['says']}`"] if "says" in case else []
    return ", ".join([f"{asks}raises `{case['raises']}`", *details])


if __name__ == "__main__":
    PAGE.write_text(page())
