"""The Python SDK against a really running server, and the examples in its docstrings."""

import asyncio
import doctest
import gc
import importlib
import pkgutil
import subprocess
import warnings
from contextlib import aclosing, closing

import msgspec
import numpy as np
import pytest

import sie_sdk
from sie_sdk import RequestError, ServerError, SIEAsyncClient, SIEClient
from sie_sdk.scoring import maxsim
from sie_sdk.types import Item, StatusMessage
from sie_testing.serving import EMBEDDED, Server

QUERY = Item(id="q1", text="What is Python?")
ITEMS = [
    Item(id="doc-1", text="Python is a programming language."),
    Item(id="doc-2", text="Snakes are reptiles."),
    Item(text="Python was created by Guido van Rossum."),
]


def test_score_ranks_and_names_every_item(server: Server) -> None:
    with SIEClient(server.url) as client:
        result = client.score(EMBEDDED, QUERY, ITEMS)
    assert result["model"] == EMBEDDED
    assert result["query_id"] == "q1"
    assert [entry["item_id"] for entry in result["scores"]] == ["doc-1", "item-2", "doc-2"]
    assert [entry["rank"] for entry in result["scores"]] == [0, 1, 2]


def test_both_clients_give_the_same_scores(server: Server) -> None:
    async def ask() -> object:
        async with SIEAsyncClient(server.url) as client:
            return (await client.score("bert", QUERY, ITEMS))["scores"]

    with SIEClient(server.url) as client:
        assert client.score("bert", QUERY, ITEMS)["scores"] == asyncio.run(ask())


def test_server_and_client_side_maxsim_agree(server: Server) -> None:
    with SIEClient(server.url) as client:
        ranked = client.score(EMBEDDED, QUERY, ITEMS)["scores"]
        query = client.encode(EMBEDDED, QUERY, output_types=["multivector"], is_query=True)
        documents = client.encode(EMBEDDED, ITEMS, output_types=["multivector"])
    scores = maxsim(query["multivector"], [document["multivector"] for document in documents])
    by_id = {entry["item_id"]: entry["score"] for entry in ranked}
    assert scores == pytest.approx([by_id["doc-1"], by_id["doc-2"], by_id["item-2"]], abs=1e-4)


def test_encode_gives_typed_arrays(server: Server) -> None:
    with SIEClient(server.url) as client:
        one = client.encode(EMBEDDED, QUERY)
        many = client.encode(EMBEDDED, ITEMS, output_types=["dense", "multivector"], output_dtype="float16")
    assert one["id"] == "q1"
    assert one["dense"].shape == (384,)
    assert one["dense"].dtype == np.float32
    assert float(np.linalg.norm(one["dense"])) == pytest.approx(1, abs=1e-5)
    assert [result.get("id") for result in many] == ["doc-1", "doc-2", None]
    assert many[0]["dense"].dtype == np.float16
    assert many[0]["multivector"].shape == (8, 384)


def test_both_clients_watch_the_server(server: Server) -> None:
    async def watched() -> StatusMessage:
        async with SIEAsyncClient(server.url) as client, aclosing(client.watch()) as statuses:
            return await anext(statuses)

    with SIEClient(server.url) as client, closing(client.watch()) as statuses:
        seen = [next(statuses), next(statuses), asyncio.run(watched())]
    assert all(EMBEDDED in status["loaded_models"] for status in seen)
    assert len({status["server"]["pid"] for status in seen}) == 1
    assert all(msgspec.convert(status, StatusMessage) == status for status in seen)


def test_a_client_survives_its_event_loop(server: Server) -> None:
    client = SIEAsyncClient(server.url)

    async def ask(last: bool) -> object:
        try:
            return (await client.score(EMBEDDED, QUERY, ITEMS))["scores"]
        finally:
            # The last loop closes its connections; nobody can close the first one's any more.
            if last:
                await client.close()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        first = asyncio.run(ask(False))
        assert asyncio.run(ask(True)) == first
        gc.collect()


def test_models_are_listed(server: Server) -> None:
    with SIEClient(server.url) as client:
        names = [model["name"] for model in client.list_models()]
        assert {EMBEDDED, "bert", "xlm-roberta", "bert-encoder"} <= set(names)
        model = client.get_model(EMBEDDED)
    assert model["loaded"]
    assert model["dims"] == {"dense": 384, "multivector": 384}


def test_server_errors_arrive_as_exceptions(server: Server) -> None:
    with SIEClient(server.url) as client:
        with pytest.raises(RequestError, match="Did you mean") as unknown:
            client.score(EMBEDDED + "x", QUERY, ITEMS)
        assert (unknown.value.code, unknown.value.status_code) == ("MODEL_NOT_FOUND", 404)
        with pytest.raises(RequestError, match="does not support scoring"):
            client.score("bert-encoder", QUERY, ITEMS)
        with pytest.raises(RequestError, match="must not be empty"):
            client.score(EMBEDDED, QUERY, [])
        with pytest.raises(ServerError, match="failed to load") as failed:
            client.score("BAAI/bge-reranker-base", QUERY, ITEMS)
        assert failed.value.code == "MODEL_LOAD_FAILED"


def _docstrings() -> list[doctest.DocTest]:
    """Every docstring of the SDK with examples in it."""
    names = ["sie_sdk", *(module.name for module in pkgutil.walk_packages(sie_sdk.__path__, "sie_sdk."))]
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [found for name in names for found in finder.find(importlib.import_module(name)) if found.examples]


@pytest.mark.parametrize("docstring", _docstrings(), ids=lambda docstring: docstring.name)
def test_examples_in_docstrings_of_the_sdk(server: Server, docstring: doctest.DocTest) -> None:
    for example in docstring.examples:
        example.source = example.source.replace("http://localhost:8080", server.url)
    log: list[str] = []
    failed, _ = doctest.DocTestRunner().run(docstring, out=log.append)
    assert not failed, "".join(log)


def test_the_curl_line_of_the_welcome_works(server: Server) -> None:
    command = server.log[server.log.index("  curl ") :]
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert '"scores":[{"item_id":"item-0"' in run.stdout, run.stdout + run.stderr
