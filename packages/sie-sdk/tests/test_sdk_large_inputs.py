"""Large inputs are split, sent a few requests at a time, and merged. Most tests run with both clients."""

import asyncio
import sys
import threading
import time

import httpx2
import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sdk_stand_ins import BASE_URL, Engine, packed, refused

from sie_sdk import SIEAsyncClient, SIEClient, errors
from sie_sdk._core import chunks
from sie_sdk._core.chunks import Chunker
from sie_sdk._core.pipeline import IN_FLIGHT
from sie_sdk.types import Item

QUERY = Item(id="q", text="0")
items = st.builds(Item, text=st.integers(-2, 2).map(str), id=st.sampled_from([None, "", "a", "item-1"]))


def numbers(n):
    return [Item(text=str(i)) for i in range(n)]


def first_text(body):
    return int(body["items"][0]["text"])


@pytest.fixture
def parts_of_three(monkeypatch):
    monkeypatch.setattr(chunks, "VECTOR_ITEMS", 3)
    monkeypatch.setattr(chunks, "SCORE_ITEMS", 3)


@given(st.lists(st.text(max_size=20)), st.integers(1, 5), st.integers(1, 60))
def test_parts_are_the_input_and_as_large_as_they_may_be(texts, max_items, max_bytes):
    given_items = [Item(text=text) for text in texts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "VECTOR_ITEMS", max_items)
        patch.setattr(chunks, "VECTOR_BYTES", max_bytes)
        chunker = Chunker(has_ids=False)
        parts = [part for item in given_items if (part := chunker.add(item))] + [chunker.last()]
    assert [item for part in parts for item in part.items] == given_items
    assert [msgpack.unpackb(bytes(packed)) for part in parts for packed in part.packed] == given_items
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        size = sum(map(len, part.packed))
        assert len(part.items) == 1 or (len(part.items) <= max_items and size <= max_bytes)
        if following is not None:
            assert following.start == part.end
            assert len(part.items) == max_items or size + len(following.packed[0]) > max_bytes


@pytest.mark.parametrize(("n", "sizes"), [(1, [1]), (256, [256]), (257, [256, 1]), (2000, [256] * 7 + [208])])
def test_encode_in_order(connect, n, sizes):
    engine = Engine()
    results = connect(engine).encode("m", numbers(n))
    assert [result["dense"].tolist() for result in results] == [[i] for i in range(n)]
    assert engine.sizes == sizes


def test_large_items_go_in_small_parts(connect):
    sizes = []

    def server(request):
        sizes.append(len(request.content))
        return Engine()(request)

    assert len(connect(server).encode("m", [Item(text="1" + " " * 300_000)] * 8)) == 8
    assert len(sizes) == 3
    assert max(sizes) < 2**20 + 100


@pytest.mark.usefixtures("parts_of_three")
def test_each_part_is_asked_for_as_the_whole(connect):
    engine = Engine()
    connect(engine).encode("m", numbers(4), output_types=["dense"], is_query=True)
    assert [body["params"] for body in engine.bodies] == [
        {"output_types": ["dense"], "options": {"is_query": True}}
    ] * 2


def test_empty_list_is_the_servers_to_refuse(connect):
    engine = Engine(lambda _: refused(400, "INVALID_INPUT", "Field 'items' must not be empty"))
    with pytest.raises(errors.RequestError, match="must not be empty"):
        connect(engine).encode("m", [])
    assert list(connect(engine).encode_stream("m", [])) == []
    assert engine.sizes == [0]


@pytest.mark.usefixtures("parts_of_three")
def test_stream_reads_no_further_than_it_must(connect):
    pulled = 0

    def source():
        nonlocal pulled
        for item in numbers(100):
            pulled += 1
            yield item

    for yielded, result in enumerate(connect(Engine()).encode_stream("m", source())):
        assert result["dense"] == yielded
        assert pulled <= yielded + IN_FLIGHT * 3 + 1
    assert (yielded, pulled) == (99, 100)


@pytest.mark.usefixtures("parts_of_three")
def test_stream_of_an_endless_source_ends_when_it_is_closed(connect):
    engine = Engine()
    stream = connect(engine).encode_stream("m", ({"text": str(i)} for i in iter(int, 1)))
    assert [next(stream)["dense"].tolist() for _ in range(7)] == [[0]] * 7
    stream.close()
    assert len(engine.bodies) <= 7 // 3 + IN_FLIGHT


def test_stream_of_an_async_source():
    async def source():
        for item in numbers(600):
            await asyncio.sleep(0)
            yield item

    async def main():
        http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(Engine()))
        async with http_client, SIEAsyncClient(BASE_URL, http_client=http_client) as client:
            return [result["dense"].item() async for result in client.encode_stream("m", source())]

    assert asyncio.run(main()) == list(range(600))


@pytest.mark.parametrize("items", [Item(text="lone"), "text"])
def test_stream_needs_several_items(connect, items):
    with pytest.raises(TypeError, match="items must be a list of Items"):
        connect(Engine()).encode_stream("m", items)


@pytest.mark.usefixtures("parts_of_three")
def test_extract_numbers_items_through(connect):
    results = connect(Engine()).extract("m", [*numbers(4), Item(id="x", text="0"), Item(id="", text="0")])
    assert [result["id"] for result in results] == ["item-0", "item-1", "item-2", "item-3", "x", ""]


@given(st.lists(items, min_size=1, max_size=12), st.integers(1, 6), st.none() | st.integers(1, 14))
def test_score_in_parts_is_score_in_one(documents, max_items, top_k):
    options = {} if top_k is None else {"top_k": top_k}

    def score(most):
        engine = Engine()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(chunks, "SCORE_ITEMS", most)
            http_client = httpx2.Client(transport=httpx2.MockTransport(engine))
            with SIEClient(BASE_URL, http_client=http_client) as client:
                return client.score("m", QUERY, documents, options=options), engine.sizes

    whole, sizes = score(len(documents))
    assert sizes == [len(documents)]
    assert score(max_items)[0] == whole


@pytest.mark.usefixtures("parts_of_three")
def test_score_request_info_is_that_of_all_parts(connect):
    def server(request):
        answer = Engine()(request)
        answer.headers["x-sie-request-id"] = msgpack.unpackb(request.content)["items"][0]["text"]
        answer.headers["x-sie-units-tokens"] = answer.headers["x-sie-credits-debited"] = "1.5"
        return answer

    result = connect(server).score("m", Item(text="0"), numbers(7))
    assert result["request"] == {"id": "0", "credits_debited": 4.5, "units": {"tokens": 4.5}}
    assert "query_id" not in result


@pytest.mark.usefixtures("parts_of_three")
def test_errors_name_the_item_in_the_whole_input(connect):
    message = "Field 'items[1].text' and `$.items[2].text`, not documents[1]"
    engine = Engine(lambda body: refused(400, "X", message, param="items[1]") if first_text(body) == 6 else None)
    stream = connect(engine).encode_stream("m", numbers(20))
    assert [next(stream)["dense"].item() for _ in range(6)] == list(range(6))
    with pytest.raises(errors.RequestError) as caught:
        next(stream)
    assert str(caught.value) == "Field 'items[7].text' and `$.items[8].text`, not documents[1]"
    assert caught.value.param == "items[7]"
    assert caught.value.__notes__ == ["in the request for items[6:9]"]


def test_error_of_a_small_input_is_as_it_was(connect):
    with pytest.raises(errors.RequestError, match=r"^items\[1\]$") as caught:
        connect(Engine(lambda _: refused(400, "X", "items[1]"))).encode("m", numbers(3))
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.usefixtures("parts_of_three")
def test_the_first_error_by_position_is_raised(connect):
    engine = Engine(lambda body: refused(400, "X", "items[0]") if first_text(body) else None)
    for _ in range(5):
        with pytest.raises(errors.RequestError, match=r"items\[3\]"):
            connect(engine).encode("m", numbers(12))


def test_text_that_is_not_unicode_is_named_by_its_index(connect):
    with pytest.raises(ValueError, match=r"^items\[300\]\.text is not valid Unicode"):
        connect(Engine()).encode("m", [*numbers(300), Item(text="\ud800")])


@pytest.mark.usefixtures("parts_of_three")
def test_answer_with_too_few_results(connect):
    engine = Engine(lambda body: packed({"model": "m", "items": []}) if first_text(body) == 3 else None)
    with pytest.raises(errors.IncompleteBatchError, match="0 results for 3 items") as caught:
        connect(engine).encode("m", [*numbers(4), Item(id="x", text="4"), *numbers(4)])
    assert (caught.value.expected, caught.value.received, caught.value.missing_ids) == (3, 0, ["x"])
    assert caught.value.__notes__ == ["in the request for items[3:6]"]


@pytest.mark.usefixtures("parts_of_three")
def test_each_part_is_tried_again_by_itself(connect):
    refusals = {0: 1, 6: 2}

    def busy(body):
        start = first_text(body)
        refusals[start] = refusals.get(start, 0) - 1
        return refused(503, "QUEUE_FULL", headers={"retry-after": "0"}) if refusals[start] >= 0 else None

    client = connect(Engine(busy))
    assert [result["dense"].item() for result in client.encode("m", numbers(10))] == list(range(10))
    assert client.last_retry_count == 3


@pytest.mark.usefixtures("parts_of_three")
def test_nothing_is_sent_after_a_chunk_has_failed():
    asked = threading.Semaphore(0)

    def refuse(body):
        if first_text(body):
            asked.release()
            return refused(503, "MODEL_LOADING", headers={"retry-after": "60"})
        # The first fails when the others have been asked, and are to be asked again.
        assert all(asked.acquire(timeout=60) for _ in range(IN_FLIGHT - 1))
        return refused(400, "X")

    engine = Engine(refuse)
    with SIEClient(BASE_URL, http_client=httpx2.Client(transport=httpx2.MockTransport(engine))) as client:
        with pytest.raises(errors.RequestError):
            client.encode("m", numbers(30))
        ended = time.monotonic() + 30
        while any(thread.name.startswith("sie-sdk") for thread in threading.enumerate()):
            assert time.monotonic() < ended
            time.sleep(0.01)
    assert len(engine.bodies) == IN_FLIGHT


@pytest.mark.usefixtures("parts_of_three")
def test_tasks_are_cancelled_once_a_part_has_failed():
    ended = []

    async def server(request):
        engine = Engine(lambda body: None if first_text(body) else refused(400, "X"))
        try:
            await asyncio.sleep(0 if first_text(msgpack.unpackb(request.content)) == 0 else 60)
            return engine(request)
        finally:
            ended.append(1)

    async def main():
        http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(server))
        async with http_client, SIEAsyncClient(BASE_URL, http_client=http_client) as client, asyncio.timeout(30):
            with pytest.raises(errors.RequestError):
                await client.encode("m", numbers(30))
            return len(asyncio.all_tasks())

    assert asyncio.run(main()) == 1
    assert len(ended) == IN_FLIGHT


@pytest.mark.usefixtures("parts_of_three")
def test_threads_in_flight():
    """Requires exactly four requests at a time: with fewer the barrier breaks, with more it opens too soon."""
    together, load = threading.Barrier(IN_FLIGHT, timeout=30), []

    def refuse(_):
        load.append(1)
        together.wait()
        assert len(load) <= IN_FLIGHT
        together.wait()
        load.pop()

    with SIEClient(BASE_URL, http_client=httpx2.Client(transport=httpx2.MockTransport(Engine(refuse)))) as client:
        results = client.encode("m", numbers(2 * IN_FLIGHT * 3))
    assert [result["dense"].item() for result in results] == list(range(24))


@pytest.mark.usefixtures("parts_of_three")
@pytest.mark.parametrize(("max_concurrency", "expected"), [(None, IN_FLIGHT), (2, 2)])
def test_tasks_in_flight(max_concurrency, expected):
    load, loads = [], []

    async def server(request):
        load.append(1)
        loads.append(len(load))
        for _ in range(10):
            await asyncio.sleep(0)
        load.pop()
        return Engine()(request)

    async def main():
        http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(server))
        client = SIEAsyncClient(BASE_URL, http_client=http_client, max_concurrency=max_concurrency)
        async with http_client, client:
            await client.encode("m", numbers(60))

    asyncio.run(main())
    assert max(loads) == expected


def test_progress_is_the_number_of_items_done(connect):
    told = []
    connect(Engine()).encode("m", numbers(600), progress=told.append)
    list(connect(Engine()).encode_stream("m", iter(numbers(2)), progress=told.append))
    assert told == [256, 512, 600, 2]


def test_progress_bar(connect, capsys):
    connect(Engine()).encode("m", numbers(300), progress=True)
    output = capsys.readouterr()
    assert output.out == ""
    assert "300/300" in output.err


def test_progress_bar_needs_rich(connect, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    engine = Engine()
    with pytest.raises(ImportError, match="pip install rich"):
        connect(engine).encode("m", numbers(1), progress=True)
    with pytest.raises(ImportError, match="pip install rich"):
        connect(engine).encode_stream("m", numbers(1), progress=True)
    assert engine.bodies == []
