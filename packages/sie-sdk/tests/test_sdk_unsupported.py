"""Gateways, images and documents of the public SDK are ignored with a warning, or refused, by name."""

import asyncio
import importlib
import inspect
import warnings

import numpy as np
import pytest
from sdk_stand_ins import BASE_URL, SCORED, Server, packed

from sie_sdk import SIEAsyncClient, SIEClient, types
from sie_sdk.types import Item

QUERY, ITEMS = Item(text="q"), [Item(text="d")]
ENCODED = {"model": "m", "items": [{}]}
METHODS = ["get_capacity", "wait_for_capacity", "create_pool", "get_pool", "delete_pool"]


@pytest.mark.parametrize("client_class", [SIEClient, SIEAsyncClient])
def test_arguments_of_a_client_without_effect(client_class):
    with pytest.warns(DeprecationWarning, match="no effect") as caught:
        client_class(BASE_URL, gpu="l4", pool="day", control_plane_url="http://cp.test", org="o")
    [warning] = caught
    assert str(warning.message) == (
        "gpu, pool, control_plane_url, org have no effect: "
        "this SDK talks to one server, not to a gateway in front of several"
    )
    assert warning.filename == __file__


@pytest.mark.parametrize(
    ("answer", "call"),
    [
        (SCORED, lambda client: client.score("m", QUERY, ITEMS, gpu="night/l4")),
        (ENCODED, lambda client: client.encode("m", QUERY, gpu="night/l4")),
        (ENCODED, lambda client: list(client.encode_stream("m", [QUERY], gpu="night/l4"))),
        (ENCODED, lambda client: client.extract("m", QUERY, gpu="night/l4")),
    ],
    ids=["score", "encode", "encode_stream", "extract"],
)
def test_an_argument_of_a_call_without_effect(connect, answer, call):
    server = Server(packed(answer))
    client = connect(server)
    with pytest.warns(DeprecationWarning, match=r"^gpu has no effect") as caught:
        call(client)
    assert len(caught) == 1
    assert not {"x-sie-pool", "x-sie-machine-profile"} & server.requests[0].headers.keys()


def test_the_warning_is_at_the_line_of_an_awaited_call():
    async def main(client):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with pytest.raises(ValueError, match="invalid model id"):
                await client.score("", QUERY, ITEMS, gpu="l4")
        assert (caught[0].filename, caught[0].lineno) == (__file__, inspect.currentframe().f_lineno - 1)

    asyncio.run(main(SIEAsyncClient(BASE_URL)))


@pytest.mark.parametrize("client_class", [SIEClient, SIEAsyncClient])
def test_methods_of_a_gateway(client_class):
    client = client_class(BASE_URL)
    for name in METHODS:
        with pytest.raises(AttributeError, match=f"has no method '{name}': this SDK talks to one server"):
            getattr(client, name)
        assert not hasattr(client, name)
    with pytest.raises(AttributeError, match="no attribute 'scores'"):
        _ = client.scores


@pytest.mark.parametrize("name", ["CapacityInfo", "PoolInfo", "PoolSpec"])
def test_types_of_a_gateway_are_still_dicts(name):
    with pytest.warns(DeprecationWarning, match=name) as caught:
        exec(f"from sie_sdk.types import {name}; made = {name}(gpus={{'l4': 2}})", scope := {})
    assert len(caught) == 1
    assert scope["made"] == {"gpus": {"l4": 2}}
    with pytest.raises(AttributeError, match="'Pools'"):
        _ = types.Pools


@pytest.mark.parametrize(
    "name", ["images.to_jpeg_bytes", "images.ImageLike", "documents.to_document_bytes", "documents.DocumentLike"]
)
def test_functions_of_images_and_documents(name):
    module, _, function = name.rpartition(".")
    importlib.import_module(f"sie_sdk.{module}")
    with pytest.raises(ImportError, match=rf"sie_sdk\.{module}\.{function} does not exist: this SDK sends text only"):
        exec(f"from sie_sdk.{module} import {function}")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("images", [b"\x89PNG"]),
        ("images", np.zeros((2, 2), np.uint8)),
        ("audio", {"data": b"RIFF"}),
        ("video", {"data": b"x"}),
        ("document", "minutes.pdf"),
    ],
)
def test_an_item_with_another_medium_is_refused(connect, field, value):
    client, item = connect(Server()), {"text": "a", field: value}
    with pytest.raises(ValueError, match=rf"^Field 'items\[1\]\.{field}' is not supported: models read text only$"):
        client.encode("m", [QUERY, item])
    with pytest.raises(ValueError, match=rf"^Field 'query\.{field}' is not supported"):
        client.score("m", item, ITEMS)


def test_an_item_that_names_no_medium_is_sent(connect):
    server = Server(packed(ENCODED))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        connect(server).encode("m", {"text": "a", "images": [], "document": None})
    assert server.sent["items"] == [{"text": "a", "images": [], "document": None}]
