"""Fixtures: clients of a stand-in server, and a fake clock."""

import asyncio
import time
from collections.abc import Callable

import httpx2
import pytest
from sdk_stand_ins import BASE_URL, Driven, FakeTime

from sie_sdk import SIEAsyncClient, SIEClient


@pytest.fixture
def fake_time(monkeypatch):
    fake = FakeTime()
    monkeypatch.setattr(time, "sleep", fake.sleep)
    monkeypatch.setattr(asyncio, "sleep", fake.sleep_async)
    return fake


@pytest.fixture(params=["sync", "async"])
def connect(request, fake_time, monkeypatch) -> Callable[..., Driven]:
    """Makes a blocking or an asyncio client of a stand-in server, on the fake clock."""
    monkeypatch.delenv("SIE_BASE_URL", raising=False)
    monkeypatch.delenv("SIE_API_KEY", raising=False)
    client_class, http_class = {
        "sync": (SIEClient, httpx2.Client),
        "async": (SIEAsyncClient, httpx2.AsyncClient),
    }[request.param]

    def make(server, base_url=BASE_URL, **arguments):
        http_client = http_class(transport=httpx2.MockTransport(server))
        client = client_class(base_url, http_client=http_client, **arguments)
        client._clock = fake_time.clock()
        return Driven(client)

    return make
