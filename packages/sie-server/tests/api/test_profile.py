"""Profiles: one model under several names, each with other defaults for what a request leaves open."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgpack
import msgpack_numpy
import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sie_server import wire
from sie_server.catalog.catalog import Entry, Profile
from sie_server.checkpoints.load import load
from sie_server.models.loaded_model import LoadedModel
from sie_server.options import Precision
from sie_testing.checkpoints import text
from sie_testing.serving import InProcess, connect, error, in_process, metric, scores

TEXTS = ["python is a programming language", "snakes", text(40, seed=1)]
QUERY, DOCUMENTS = "what is python", ["snakes", "it", text(40, seed=1)]

# As the catalogue writes it.
CATALOGUE = """
["me/encoder"]
outputs = ["dense", "multivector", "score"]
score = "maxsim"
doc_template = "it {text}"
query_template = "what {instruction} is {text}"
default_instruction = "made"

["me/encoder".profiles.tokens]
output_types = ["multivector"]
output_dtype = "float16"

["me/encoder".profiles.other]
pooling = "cls"
normalize = false
max_seq_length = 12
query_template = "who {instruction} {text}"
doc_template = "a {text}"
default_instruction = "python"

["me/reranker"]

["me/reranker".profiles.short]
instruction = "who made"
max_seq_length = 24
query_max_length = 3
long_documents = "error"
"""
FOLDERS = {"me/encoder": "bert-encoder", "me/reranker": "bert"}


def catalogue(models: Path) -> list[Entry]:
    written = msgspec.toml.decode(CATALOGUE)
    return [
        msgspec.convert({"id": id_, "folder": models / FOLDERS[id_], **fields}, Entry)
        for id_, fields in written.items()
    ]


@pytest.fixture(scope="module")
def loads() -> list[str]:
    """What was loaded, by id, in order."""
    return []


@pytest.fixture(scope="module")
def served(models: Path, loads: list[str]) -> Iterator[InProcess]:
    def loader(entry: Entry, device: torch.device, precision: Precision, **_: Any) -> LoadedModel:
        loads.append(entry.id)
        return load(entry, device, precision)

    with in_process(loader, entries=catalogue(models)) as running:
        yield running


@pytest.fixture(scope="module")
def profiled(served: InProcess) -> Iterator[httpx2.Client]:
    """A client of a server whose models have profiles."""
    with connect(served.url) as client:
        yield client


def encode(api: httpx2.Client, model: str, **params: Any) -> dict[str, Any]:
    """The answer for TEXTS, by way of MessagePack both ways."""
    body = msgpack.packb({"items": [{"text": text} for text in TEXTS], "params": params})
    headers = {"Accept": "application/msgpack", "Content-Type": "application/msgpack"}
    answer = api.post(f"/v1/encode/{model}", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    decoded: dict[str, Any] = msgpack.unpackb(answer.content, object_hook=msgpack_numpy.decode)
    return decoded


def dense(api: httpx2.Client, model: str, **params: Any) -> NDArray[Any]:
    return np.stack([item["dense"]["values"] for item in encode(api, model, **params)["items"]])


OTHER: dict[str, Any] = {
    "pooling": "cls",
    "normalize": False,
    "max_seq_length": 12,
    "query_template": "who {instruction} {text}",
    "doc_template": "a {text}",
    "default_instruction": "python",
}


@pytest.mark.parametrize("is_query", [True, False])
def test_a_profile_is_its_options(profiled: httpx2.Client, is_query: bool) -> None:
    expected = dense(profiled, "me/encoder", is_query=is_query, options=OTHER)
    assert not np.array_equal(expected, dense(profiled, "me/encoder", is_query=is_query))
    assert np.array_equal(dense(profiled, "me/encoder:other", is_query=is_query), expected)
    assert np.array_equal(dense(profiled, "me/encoder", is_query=is_query, options={"profile": "other"}), expected)


@pytest.mark.parametrize("option", [name for name in OTHER if name != "doc_template"])
def test_a_request_wins_over_its_profile(profiled: httpx2.Client, option: str) -> None:
    asked = {
        "pooling": "mean",
        "normalize": True,
        "max_seq_length": 8,
        "query_template": "{instruction} {text}",
        "default_instruction": "language",
    }[option]
    got = dense(profiled, "me/encoder:other", is_query=True, options={option: asked})
    assert np.array_equal(got, dense(profiled, "me/encoder", is_query=True, options={**OTHER, option: asked}))
    assert not np.array_equal(got, dense(profiled, "me/encoder:other", is_query=True))


@pytest.mark.parametrize(
    ("params", "outputs", "dtype"),
    [
        ({}, {"multivector"}, "float16"),
        ({"output_dtype": "int8"}, {"multivector"}, "int8"),
        ({"options": {"output_dtype": "int8"}}, {"multivector"}, "int8"),
        # The profile's types go before those of the params, not before the options'.
        ({"output_types": ["dense"]}, {"multivector"}, "float16"),
        ({"output_types": ["dense"], "options": {"output_types": ["dense", "multivector"]}}, None, "float16"),
        ({"options": {"profile": "default"}}, {"dense"}, "float32"),
    ],
)
def test_output_types_and_dtype(
    profiled: httpx2.Client, params: dict[str, Any], outputs: set[str] | None, dtype: str
) -> None:
    for item in encode(profiled, "me/encoder:tokens", **params)["items"]:
        assert item.keys() == (outputs or {"dense", "multivector"})
        assert {vectors["dtype"] for vectors in item.values()} == {dtype}


def test_the_answer_names_the_model_as_addressed(profiled: httpx2.Client) -> None:
    assert encode(profiled, "me/encoder:tokens")["model"] == "me/encoder:tokens"
    assert encode(profiled, "me%2Fencoder:tokens")["model"] == "me/encoder:tokens"
    assert encode(profiled, "me/encoder:default")["model"] == "me/encoder"
    assert encode(profiled, "me/encoder", options={"profile": "tokens"})["model"] == "me/encoder"


def test_a_profile_of_a_reranker(profiled: httpx2.Client) -> None:
    short = {"max_seq_length": 24, "query_max_length": 3, "instruction": "who made"}
    expected = scores(profiled, "me/reranker", QUERY, DOCUMENTS[:2], options=short)
    assert scores(profiled, "me/reranker:short", QUERY, DOCUMENTS[:2]) == expected
    assert scores(profiled, "me/reranker", QUERY, DOCUMENTS[:2]) != expected
    given = scores(profiled, "me/reranker", QUERY, DOCUMENTS[:2], options=short, instruction="snakes")
    assert scores(profiled, "me/reranker:short", QUERY, DOCUMENTS[:2], instruction="snakes") == given != expected
    answer = profiled.post(
        "/v1/score/me/reranker:short", json={"query": {"text": QUERY}, "items": [{"text": "it"}]}
    ).json()
    assert answer["model"] == "me/reranker:short"


@pytest.mark.parametrize("options", [{"overflow_policy": "truncate_text"}, {"long_documents": "truncate"}])
def test_a_request_s_policy_wins_under_either_name(profiled: httpx2.Client, options: dict[str, str]) -> None:
    body = {"query": {"text": QUERY}, "items": [{"text": one} for one in DOCUMENTS]}
    assert error(profiled.post("/v1/score/me/reranker:short", json=body))[:2] == (400, "INPUT_TOO_LONG")
    assert len(scores(profiled, "me/reranker:short", QUERY, DOCUMENTS, options=options)) == 3


def test_embeddings_of_a_profile(profiled: httpx2.Client) -> None:
    answer = profiled.post("/v1/embeddings", json={"model": "me/encoder:other", "input": TEXTS}).json()
    assert answer["model"] == "me/encoder:other"
    values = np.array([entry["embedding"] for entry in answer["data"]], np.float32)
    assert np.array_equal(values, dense(profiled, "me/encoder:other"))
    refused = profiled.post("/v1/embeddings", json={"model": "me/encoder:tokens", "input": "a"})
    message = "Model 'me/encoder:tokens' does not support output types: {'dense'}. Supported: {'multivector'}"
    assert (refused.status_code, refused.json()["error"]["message"]) == (400, message)


def test_profiles_share_the_weights(profiled: httpx2.Client, served: InProcess, loads: list[str]) -> None:
    for model in ("me/encoder", "me/encoder:tokens", "me/encoder:other"):
        encode(profiled, model)
        assert profiled.get(f"/v1/models/{model}").json()["state"] == "loaded"
    assert loads.count("me/encoder") == 1
    assert "me/encoder:tokens" not in served.engine.residency.slots
    counted = metric(profiled, "sie_requests_total", endpoint="encode", model="me/encoder", status="200")
    encode(profiled, "me/encoder:tokens")
    assert metric(profiled, "sie_requests_total", endpoint="encode", model="me/encoder", status="200") == counted + 1


def test_profiles_are_listed_as_models_of_their_own(profiled: httpx2.Client) -> None:
    listed = {model["name"]: model for model in profiled.get("/v1/models").json()["models"]}
    assert [name for name in listed if name.startswith("me/encoder")] == [
        "me/encoder",
        "me/encoder:tokens",
        "me/encoder:other",
    ]
    for name in ("me/encoder", "me/encoder:tokens", "me/encoder:other", "me/reranker:short"):
        assert profiled.get(f"/v1/models/{name}").json() == listed[name]
    assert listed["me/encoder:tokens"]["profiles"] == {
        "default": {"is_default": True},
        "tokens": {"is_default": False},
        "other": {"is_default": False},
    }
    # What the profile gives of its own accord; it scores as ever.
    assert listed["me/encoder"]["outputs"] == ["dense", "multivector", "score"]
    assert listed["me/encoder:tokens"]["outputs"] == ["multivector", "score"]
    assert listed["me/encoder:tokens"]["dims"] == {"multivector": 64}
    limits = [listed[name]["max_sequence_length"] for name in ("me/encoder", "me/encoder:other", "me/reranker:short")]
    assert limits == [512, 12, 24]


@pytest.mark.parametrize("route", ["score/me/reranker", "encode/me/encoder", "score/me/reranker:short"])
def test_an_unknown_profile(profiled: httpx2.Client, route: str) -> None:
    available = "['default', 'short']" if "reranker" in route else "['default', 'tokens', 'other']"
    options = {"profile": "fast"}
    body = {"query": {"text": "a"}, "items": [{"text": "a"}], "options": options, "params": {"options": options}}
    message = f"Profile 'fast' not found. Available: {available}"
    assert error(profiled.post(f"/v1/{route}", json=body)) == (400, "INVALID_INPUT", message)


@pytest.mark.parametrize("model", ["me/encoder:token", "me/encoder:", "me/encoder:tokens:default"])
def test_an_unknown_suffix_is_an_unknown_model(profiled: httpx2.Client, model: str) -> None:
    status, code, message = error(profiled.post(f"/v1/encode/{model}", json={"items": [{"text": "a"}]}))
    assert (status, code) == (404, "MODEL_NOT_FOUND")
    assert message.startswith(f"Model '{model}' not found Did you mean 'me/encoder")
    assert error(profiled.get(f"/v1/models/{model}"))[0] == 404
    answer = profiled.post("/v1/embeddings", json={"model": model, "input": "a"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "MODEL_NOT_FOUND")


def test_the_default_profile_can_have_options_too(models: Path) -> None:
    profiles = {"default": Profile(max_seq_length=12), "long": Profile()}
    entry = Entry("m", folder=models / "bert-encoder", profiles=profiles)
    with in_process(entries=[entry]) as running, connect(running.url) as api:
        short, long = dense(api, "m"), dense(api, "m:long")
        assert np.array_equal(dense(api, "m", options={"max_seq_length": 512}), long)
        assert np.array_equal(dense(api, "m:long", options={"max_seq_length": 12}), short)
        assert not np.array_equal(short, long)


def test_a_profile_has_the_options_of_requests_and_no_others() -> None:
    options = {*wire.ScoreOptions.__struct_fields__, *wire.EncodeOptions.__struct_fields__}
    assert set(Profile.__struct_fields__) <= options
    for profile, fault in (({"max_length": 3}, "unknown field"), ({"doc_template": "x"}, "{text} exactly once")):
        with pytest.raises(msgspec.ValidationError, match=fault):
            msgspec.convert({"id": "m", "profiles": {"fast": profile}}, Entry)
