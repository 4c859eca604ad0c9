"""Every case of the fault table, over real sockets, with sleeps that take no time."""

import asyncio
import json
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from fault_page import PAGE, page
from fault_server import FaultServer
from sdk_stand_ins import SCORED, FakeTime

from sie_sdk import SIEAsyncClient, SIEClient, errors
from sie_sdk.types import Item

TABLE = json.loads((Path(__file__).parent / "fault_table.json").read_text())
CASES = [case for group in TABLE["groups"] for case in group["cases"]]
QUERY, ITEMS = Item(text="q"), [Item(text="d")]
REAL_SLEEP = asyncio.sleep


class Pauses(FakeTime):
    """Records the sleeps of a client, except those of 0 s in aiohttp, and reports each to `server`."""

    def sleep(self, seconds):
        super().sleep(seconds)
        self.server.paused(len(self.pauses))

    async def sleep_async(self, seconds):
        if seconds:
            self.sleep(seconds)
        await REAL_SLEEP(0)


def blocking(client, call, calls, server):
    with client:
        for made in range(1, calls + 1):
            result = client.score("m", QUERY, ITEMS, **call)
            while made < calls and server.closed < made:
                threading.Event().wait(0.01)
        return result


async def awaited(client, call, calls, server):
    async with client:
        for made in range(1, calls + 1):
            result = await client.score("m", QUERY, ITEMS, **call)
            while made < calls and server.closed < made:
                await REAL_SLEEP(0.01)
            await REAL_SLEEP(0.01)  # the loop has to hear of it
        return result


def ask(kind, pauses, case):
    options = dict(case.get("options", {}))
    timeouts = {"timeout_s": options.pop("timeout_s")} if "timeout_s" in options else {}
    client = {"sync": SIEClient, "async": SIEAsyncClient}[kind](pauses.server.url, **timeouts)
    client._clock = pauses.clock()
    asked = client, options, case.get("calls", 1), pauses.server
    return blocking(*asked) if kind == "sync" else asyncio.run(awaited(*asked))


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_case(case, kind, monkeypatch):
    pauses = Pauses(now=TABLE["now"])
    monkeypatch.setattr(time, "sleep", pauses.sleep)
    monkeypatch.setattr(asyncio, "sleep", pauses.sleep_async)
    with closing(FaultServer(case)) as pauses.server:
        if "raises" in case:
            with pytest.raises(errors.SIEError) as caught:
                ask(kind, pauses, case)
            expect(caught.value, case)
        else:
            assert ask(kind, pauses, case)["scores"] == SCORED["scores"]
    assert pauses.pauses == pytest.approx(case["waits_s"])
    unmet = pauses.server.refused
    assert unmet is True or pauses.server.met == len(case["waits_s"]) - unmet + case.get("calls", 1)


def expect(error, case):
    assert type(error).__name__ == case["raises"]
    assert (error.code, error.status_code) == (case.get("code"), case.get("status"))
    assert getattr(error, "kind", None) == case.get("kind")
    assert case.get("says", "") in str(error)
    if "retry_after_s" in case:
        assert error.retry_after == case["retry_after_s"]


def test_page_is_current():
    """Fails if docs/sdk-faults.md is out of date; `make docs` writes it."""
    assert PAGE.read_text() == page()
