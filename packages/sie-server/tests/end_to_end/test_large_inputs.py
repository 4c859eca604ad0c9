"""More items than one request of the Python SDK takes, at a really running server."""

import asyncio
import tracemalloc

import httpx2
import numpy as np
import pytest

from sie_sdk import RequestError, SIEAsyncClient, SIEClient
from sie_sdk.types import EncodeResult, Item
from sie_testing.serving import EMBEDDED, Server, error, metric

TEXTS = [f"Passage {i} is about {['snakes', 'rivers', 'compilers'][i % 3]}." for i in range(3000)]
ITEMS = [Item(text=text) for text in TEXTS]


def test_thousands_of_texts_are_encoded_in_one_call_and_little_memory(server: Server, api: httpx2.Client) -> None:
    before = metric(api, "sie_requests_total", model=EMBEDDED, endpoint="encode", status="200")
    told: list[int] = []
    with SIEClient(server.url) as client:
        client.encode(EMBEDDED, ITEMS[0])
        tracemalloc.start()
        try:
            results = client.encode(EMBEDDED, ITEMS, output_types=["multivector"], progress=told.append)
            held, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        alone = [client.encode(EMBEDDED, ITEMS[i], output_types=["multivector"]) for i in (0, 1500, 2999)]
    for i, result in zip((0, 1500, 2999), alone, strict=True):
        np.testing.assert_array_equal(results[i]["multivector"], result["multivector"])
    assert len(results) == told[-1] == len(ITEMS)
    requests = metric(api, "sie_requests_total", model=EMBEDDED, endpoint="encode", status="200") - before
    assert requests == len(told) + 4 == 16
    # In one request the answer's bytes would come on top, as much again as the embeddings in it.
    embeddings = sum(result["multivector"].nbytes for result in results)
    assert held > embeddings
    assert peak - held < 0.5 * embeddings


def test_a_stream_gives_the_same_as_a_call(server: Server) -> None:
    async def streamed() -> list[EncodeResult]:
        async with SIEAsyncClient(server.url) as client:
            return [result async for result in client.encode_stream(EMBEDDED, (item for item in ITEMS[:600]))]

    with SIEClient(server.url) as client:
        called = client.encode(EMBEDDED, ITEMS[:600])
    for one, other in zip(called, asyncio.run(streamed()), strict=True):
        np.testing.assert_array_equal(one["dense"], other["dense"])


def test_a_ranking_in_parts_is_that_of_one_request(server: Server, api: httpx2.Client) -> None:
    items = [Item(id="", text=TEXTS[0]), *ITEMS[:2100], Item(id="last", text=TEXTS[0])]
    query = Item(id="q", text="Which passage is about rivers?")
    body = {"query": query, "items": items, "options": {"top_k": 500, "return_tokens": True}}
    answer = api.post(f"/v1/score/{EMBEDDED}", json=body).json()
    with SIEClient(server.url) as client:
        result = client.score(EMBEDDED, query, items, options=body["options"])
        query_tokens = len(client.encode(EMBEDDED, query, output_types=["multivector"], is_query=True)["multivector"])
    assert [result["scores"], result["query_id"], result["model"]] == [answer["scores"], "q", EMBEDDED]
    # The query's vectors are computed once per request, and counted as often.
    assert result["usage"]["input_tokens"] == answer["usage"]["input_tokens"] + 2 * query_tokens


def test_an_error_names_the_item_as_one_request_would(server: Server, api: httpx2.Client) -> None:
    items = [*ITEMS[:500], Item(id="no text")]
    message = error(api.post(f"/v1/encode/{EMBEDDED}", json={"items": items}))[2]
    with SIEClient(server.url) as client, pytest.raises(RequestError) as refused:
        client.encode(EMBEDDED, items)
    assert (str(refused.value), refused.value.param) == (message, "items[500].text")
