"""POST /v1/encode/{model}, as a client sees it."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import msgpack
import msgpack_numpy
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.load import load
from sie_server.models.loaded_model import LoadedModel
from sie_server.options import Precision
from sie_testing.checkpoints import ARCHITECTURES, text
from sie_testing.serving import EMBEDDED, connect, error, in_process

TEXTS = ["python is a programming language", "snakes", "who made it"]
MSGPACK = {"Accept": "application/msgpack"}
BOTH = ["dense", "multivector"]
DIMS = 384


def post(api: httpx2.Client, texts: list[str], model: str = EMBEDDED, **params: Any) -> httpx2.Response:
    return api.post(f"/v1/encode/{model}", json={"items": [{"text": text} for text in texts], "params": params})


def encode(api: httpx2.Client, texts: list[str], model: str = EMBEDDED, **params: Any) -> list[dict[str, Any]]:
    """Items of the answer, with arrays as an independent msgpack-numpy decodes them."""
    body = {"items": [{"text": text} for text in texts], "params": params}
    answer = api.post(f"/v1/encode/{model}", json=body, headers=MSGPACK)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = msgpack.unpackb(answer.content, object_hook=msgpack_numpy.decode)["items"]
    return items


def dense(api: httpx2.Client, texts: list[str], model: str = EMBEDDED, **params: Any) -> NDArray[Any]:
    return np.stack([item["dense"]["values"] for item in encode(api, texts, model, **params)])


def test_one_item_per_input_in_its_order(api: httpx2.Client) -> None:
    together = dense(api, TEXTS)
    alone = np.concatenate([dense(api, [text]) for text in TEXTS])
    assert np.array_equal(together, alone)


def test_ids_only_where_supplied(api: httpx2.Client) -> None:
    items = [{"id": "a", "text": "x"}, {"text": "y"}, {"id": None, "text": "z"}, {"id": "", "text": "z"}]
    answer = api.post(f"/v1/encode/{EMBEDDED}", json={"items": items}).json()
    assert [item.get("id", "none") for item in answer["items"]] == ["a", "none", "none", ""]


def test_answer_in_json(api: httpx2.Client) -> None:
    answer = post(api, TEXTS, output_types=BOTH)
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body.keys() == {"model", "items", "timing", "usage"}
    assert body["model"] == EMBEDDED
    assert body["timing"].keys() == {"total_ms", "queue_ms", "tokenization_ms", "inference_ms", "postprocessing_ms"}
    assert all(value >= 0 for value in body["timing"].values())
    assert body["usage"] == {"input_tokens": sum(item["multivector"]["num_tokens"] for item in body["items"])}
    for item, packed in zip(body["items"], encode(api, TEXTS, output_types=BOTH), strict=True):
        for output in BOTH:
            assert item[output]["values"] == packed[output]["values"].tolist()
            assert {**item[output], "values": None} == {**packed[output], "values": None}


@pytest.mark.parametrize(
    ("params", "outputs"),
    [
        ({}, {"dense"}),
        ({"output_types": None}, {"dense"}),
        ({"output_types": ["dense"]}, {"dense"}),
        ({"output_types": ["multivector"]}, {"multivector"}),
        ({"output_types": ["multivector", "dense"]}, {"dense", "multivector"}),
        ({"output_types": ["dense"], "options": {"output_types": ["multivector"]}}, {"multivector"}),
    ],
)
def test_output_types(api: httpx2.Client, params: dict[str, Any], outputs: set[str]) -> None:
    for item in encode(api, TEXTS, **params):
        assert item.keys() == outputs


def test_shapes_and_norms(api: httpx2.Client) -> None:
    for item in encode(api, TEXTS, output_types=BOTH):
        values = item["dense"]["values"]
        assert (item["dense"]["dims"], item["dense"]["dtype"], values.shape) == (DIMS, "float32", (DIMS,))
        assert np.linalg.norm(values) == pytest.approx(1, abs=1e-5)
        rows = item["multivector"]["values"]
        assert rows.shape == (item["multivector"]["num_tokens"], item["multivector"]["token_dims"])
        assert (rows.shape[1], item["multivector"]["dtype"]) == (DIMS, "float32")
        assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("pooling", [None, "mean", "cls"])
def test_dense_is_pooled_and_normalised(exact: httpx2.Client, models: Path, pooling: str | None) -> None:
    reference = ARCHITECTURES["bert-encoder"][0].from_pretrained(models / "bert-encoder").eval()
    tokenizer = Tokenizer.from_file(str(models / "bert-encoder" / "tokenizer.json"))
    expected = []
    for t in TEXTS:
        with torch.no_grad():
            hidden = reference(input_ids=torch.tensor([tokenizer.encode(t).ids])).last_hidden_state[0].numpy()
        expected.append(hidden[0] if pooling == "cls" else hidden.mean(axis=0))
    raw = dense(exact, TEXTS, "bert-encoder", options={"pooling": pooling, "normalize": False})
    assert raw == pytest.approx(np.stack(expected), abs=1e-5)
    unit = np.stack([vector / np.linalg.norm(vector) for vector in expected])
    assert dense(exact, TEXTS, "bert-encoder", options={"pooling": pooling}) == pytest.approx(unit, abs=1e-5)


# --- arrays on the wire ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8", "binary"])
def test_arrays_are_msgpack_numpy_s_byte_for_byte(api: httpx2.Client, dtype: str) -> None:
    body = {"items": [{"text": text} for text in TEXTS], "params": {"output_types": BOTH, "output_dtype": dtype}}
    content = api.post(f"/v1/encode/{EMBEDDED}", json=body, headers=MSGPACK).content
    decoded = msgpack.unpackb(content, object_hook=msgpack_numpy.decode)
    assert msgpack.packb(decoded, default=msgpack_numpy.encode) == content

    wire = {"float32": "<f4", "float16": "<f2", "int8": "|i1", "uint8": "|u1", "binary": "|u1"}[dtype]
    for item in msgpack.unpackb(content, strict_map_key=False)["items"]:
        for output, dimensions in (("dense", 1), ("multivector", 2)):
            array = item[output]["values"]
            assert list(array) == [b"nd", b"type", b"kind", b"shape", b"data"]
            assert (array[b"nd"], array[b"type"], array[b"kind"]) == (True, wire, b"")
            assert len(array[b"shape"]) == dimensions
            assert len(array[b"data"]) == np.dtype(wire).itemsize * np.prod(array[b"shape"])


def quantized(x: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """The rule for one vector."""
    if dtype == "float16":
        return x.astype(np.float16)
    if dtype == "int8":
        return np.round(x / abs(x).max() * 127).astype(np.int8)
    if dtype == "uint8":
        return np.round((x - x.min()) / (x.max() - x.min()) * 255).astype(np.uint8)
    return np.array([sum(128 >> bit for bit in range(8) if x[byte + bit] > 0) for byte in range(0, len(x), 8)])


@pytest.mark.parametrize("dtype", ["float16", "int8", "uint8", "binary", "ubinary"])
def test_output_dtype(api: httpx2.Client, dtype: str) -> None:
    plain = encode(api, TEXTS, output_types=BOTH)
    packed = encode(api, TEXTS, output_types=BOTH, output_dtype=dtype)
    in_json = post(api, TEXTS, output_types=BOTH, output_dtype=dtype).json()["items"]
    name = "binary" if dtype == "ubinary" else dtype
    for item, short, listed in zip(plain, packed, in_json, strict=True):
        vector, rows = short["dense"], short["multivector"]
        assert (vector["dtype"], vector["dims"]) == (name, DIMS)
        assert (rows["dtype"], rows["token_dims"]) == (name, DIMS)
        assert np.array_equal(vector["values"], quantized(item["dense"]["values"], dtype))
        # Every token's vector on its own.
        expected = [quantized(row, dtype) for row in item["multivector"]["values"]]
        assert np.array_equal(rows["values"], np.stack(expected))
        assert vector["values"].shape == (DIMS // 8 if name == "binary" else DIMS,)
        number = float if dtype == "float16" else int
        assert all(type(value) is number for value in listed["dense"]["values"])
        assert listed["dense"]["values"] == vector["values"].tolist()


def test_params_output_dtype_wins_over_options(api: httpx2.Client) -> None:
    assert dense(api, TEXTS, options={"output_dtype": "int8"}).dtype == np.int8
    assert dense(api, TEXTS, output_dtype="float16", options={"output_dtype": "int8"}).dtype == np.float16


# --- params and options ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("params", [{"is_query": True}, {"options": {"is_query": True}}, {"options": {"lora": [1]}}])
def test_parameters_that_a_model_does_not_use_are_ignored(api: httpx2.Client, params: dict[str, Any]) -> None:
    assert np.array_equal(dense(api, TEXTS, **params), dense(api, TEXTS))


def test_instruction_is_put_before_the_text(api: httpx2.Client) -> None:
    expected = dense(api, ["who is snakes"])
    assert np.array_equal(dense(api, ["snakes"], instruction="who is"), expected)
    assert np.array_equal(dense(api, ["snakes"], options={"instruction": "who is"}), expected)
    assert np.array_equal(dense(api, ["snakes"], instruction="who is", options={"instruction": "a"}), expected)


QUERY_TEMPLATE = "made {instruction} is {text} ?"
DOC_TEMPLATE = "it {text}"
TEMPLATES = {"query_template": QUERY_TEMPLATE, "doc_template": DOC_TEMPLATE, "default_instruction": "what"}


def loader(entry: Entry, device: torch.device, precision: Precision, **_: Any) -> LoadedModel:
    """Loads models as if the catalogue had these templates for them."""
    model = load(entry, device, precision)
    return replace(model, entry=replace(model.entry, **TEMPLATES))


@pytest.fixture(scope="module")
def templated(models: Path) -> Iterator[httpx2.Client]:
    """A client of a server whose model has templates of its own."""
    with in_process(loader, model=(str(models / "bert-encoder"),)) as running, connect(running.url) as client:
        yield client


@pytest.mark.parametrize(
    ("params", "read"),
    [
        ({}, "it snakes"),
        ({"options": {"is_query": False}}, "it snakes"),
        ({"options": {"is_query": None}}, "it snakes"),
        ({"is_query": True}, "made what is snakes ?"),
        ({"options": {"is_query": True}}, "made what is snakes ?"),
        ({"is_query": True, "options": {"is_query": False}}, "it snakes"),
        ({"is_query": True, "instruction": "who"}, "made who is snakes ?"),
        ({"is_query": True, "options": {"instruction": "who"}}, "made who is snakes ?"),
        ({"is_query": True, "options": {"default_instruction": "python"}}, "made python is snakes ?"),
        ({"is_query": True, "options": {"default_instruction": ""}}, "made  is snakes ?"),
        ({"is_query": True, "options": {"query_template": "{text}"}}, "snakes"),
        ({"is_query": True, "options": {"query_template": "a {text}"}}, "a snakes"),
        ({"is_query": True, "options": {"doc_template": "a {text}"}}, "made what is snakes ?"),
        ({"options": {"doc_template": "{text} {instruction} {{it}}"}}, "snakes what {it}"),
        # An instruction that the template has no slot for goes in front; the default does not.
        ({"instruction": "who"}, "who it snakes"),
        ({"is_query": True, "instruction": "who", "options": {"query_template": "a {text}"}}, "who a snakes"),
    ],
)
@pytest.mark.parametrize("own", [True, False], ids=["of the model", "of the request"])
def test_templates(api: httpx2.Client, templated: httpx2.Client, params: dict[str, Any], read: str, own: bool) -> None:
    expected = dense(api, [read], "bert-encoder")
    assert not np.array_equal(expected, dense(api, ["w9"], "bert-encoder"))
    if own:
        got = dense(templated, ["snakes"], "bert-encoder", **params)
    else:
        options = {**TEMPLATES, **params.get("options", {})}
        got = dense(api, ["snakes"], "bert-encoder", **{**params, "options": options})
    assert np.array_equal(got, expected)


def test_a_text_is_not_a_template(api: httpx2.Client) -> None:
    text = "python {text} {instruction} {"
    got = dense(api, [text], options={"doc_template": "query: {text}"}, instruction="{text}")
    assert np.array_equal(got, dense(api, [f"{{text}} query: {text}"]))


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("{query}", "has the slot {query}; the slots are {instruction} and {text}"),
        ("{text} {}", "has the slot {}; the slots are {instruction} and {text}"),
        ("{text} {0}", "has the slot {0}; the slots are {instruction} and {text}"),
        ("{text.__class__}", "has the slot {text.__class__}; the slots are {instruction} and {text}"),
        ("{text!r}", "has the slot {text!r}; the slots are {instruction} and {text}"),
        ("{text:>999999999}", "has the slot {text:>999999999}; the slots are {instruction} and {text}"),
        ("{instruction}", "must contain {text} exactly once, not 0 times"),
        ("", "must contain {text} exactly once, not 0 times"),
        ("{text}{text}", "must contain {text} exactly once, not 2 times"),
        ("{text} {", "is malformed: Single '{' encountered in format string"),
        ("{text} }", "is malformed: Single '}' encountered in format string"),
    ],
)
@pytest.mark.parametrize(("field", "is_query"), [("query_template", True), ("doc_template", False)])
def test_an_invalid_template(api: httpx2.Client, field: str, is_query: bool, template: str, fault: str) -> None:
    answer = post(api, TEXTS, is_query=is_query, options={field: template})
    assert error(answer) == (400, "INVALID_INPUT", f"Field 'params.options.{field}' {fault}")
    assert answer.json()["detail"]["param"] == f"params.options.{field}"
    with pytest.raises(ValueError, match=re.escape(fault)):
        Entry("x", **{field: template})  # nor can the catalogue have it


def test_max_seq_length_cuts(api: httpx2.Client) -> None:
    words = text(40, seed=1).split()
    cut = dense(api, [" ".join(words)], "bert-encoder", options={"max_seq_length": 12})
    assert np.array_equal(cut, dense(api, [" ".join(words[:10])], "bert-encoder"))


def test_overflow_policy_error(api: httpx2.Client) -> None:
    answer = post(api, ["it", text(600, seed=1)], "bert-encoder", options={"overflow_policy": "error"})
    status, code, message = error(answer)
    assert (status, code) == (400, "INPUT_TOO_LONG")
    assert "items[1].text" in message


@pytest.mark.parametrize("answers", [{"Accept": "application/json"}, MSGPACK])
@pytest.mark.parametrize("route", ["encode", "score"])
def test_timing_headers(api: httpx2.Client, route: str, answers: dict[str, str]) -> None:
    body = {"query": {"text": "q"}, "items": [{"text": "a"}]}
    headers = api.post(f"/v1/{route}/{EMBEDDED}", json=body, headers=answers).headers
    for phase in ("Total", "Queue", "Tokenization", "Inference"):
        assert re.fullmatch(r"\d+\.\d{2}", headers[f"X-{phase}-Time"])
    parts = sum(float(headers[f"X-{phase}-Time"]) for phase in ("Queue", "Tokenization", "Inference"))
    assert 0 < float(headers["X-Inference-Time"]) <= parts <= float(headers["X-Total-Time"]) + 0.05


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "outputs", "message"),
    [
        (EMBEDDED, ["sparse"], "types: {'sparse'}. Supported: {'dense', 'multivector'}"),
        (EMBEDDED, ["dense", "sparse"], "types: {'sparse'}. Supported: {'dense', 'multivector'}"),
        (EMBEDDED, ["sparse", "colors"], "types: {'colors', 'sparse'}. Supported: {'dense', 'multivector'}"),
        (EMBEDDED, ["score"], "types: {'score'}. Supported: {'dense', 'multivector'}"),
        (EMBEDDED, ["score", "dense"], "types: {'score'}. Supported: {'dense', 'multivector'}"),
        ("bert-encoder", ["sparse"], "types: {'sparse'}. Supported: {'dense'}"),
        ("bert", ["dense"], "types: {'dense'}. Supported: {}"),
        ("bert", ["score"], "types: {'score'}. Supported: {}"),
    ],
)
def test_unsupported_output_types(api: httpx2.Client, model: str, outputs: list[str], message: str) -> None:
    answer = post(api, TEXTS, model, output_types=outputs)
    assert error(answer) == (400, "INVALID_INPUT", f"Model '{model}' does not support output {message}")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "Object missing required field `items`"),
        ({"items": []}, "Field 'items' must not be empty"),
        ({"items": ["x"]}, "Expected `object`, got `str` - at `$.items[0]`"),
        ({"items": [{"text": 1}]}, "Expected `str | null`, got `int` - at `$.items[0].text`"),
        ({"items": [{"id": "no text"}]}, "Encoder adapter requires text input"),
        ({"items": [{"images": [{"data": "aGk=", "format": "jpeg"}]}]}, "Encoder adapter requires text input"),
        ({"items": [{"text": "a"}, {"document": {"data": "aGk="}}]}, "Encoder adapter requires text input"),
        ({"items": [{"text": "a"}], "params": 1}, "Expected `object | null`, got `int` - at `$.params`"),
        (
            {"items": [{"text": "a"}], "params": {"output_types": "dense"}},
            "Expected `array | null`, got `str` - at `$.params.output_types`",
        ),
        (
            {"items": [{"text": "a"}], "params": {"output_dtype": "int4"}},
            "Invalid enum value 'int4' - at `$.params.output_dtype`",
        ),
        (
            {"items": [{"text": "a"}], "params": {"output_types": ["dense", 1]}},
            "Expected `str`, got `int` - at `$.params.output_types[1]`",
        ),
        (
            {"items": [{"text": "a"}], "params": {"options": {"output_dtype": "int4"}}},
            "Invalid enum value 'int4' - at `$.params.options.output_dtype`",
        ),
        (
            {"items": [{"text": "a"}], "params": {"is_query": "yes"}},
            "Expected `bool | null`, got `str` - at `$.params.is_query`",
        ),
        (
            {"items": [{"text": "a"}], "params": {"options": {"is_query": 1}}},
            "Expected `bool | null`, got `int` - at `$.params.options.is_query`",
        ),
        (
            {"items": [{"text": "a"}], "params": {"options": {"normalize": "yes"}}},
            "Expected `bool | null`, got `str` - at `$.params.options.normalize`",
        ),
        (
            {"items": [{"text": "a"}], "params": {"options": {"pooling": "max"}}},
            "Invalid enum value 'max' - at `$.params.options.pooling`",
        ),
        (
            {"items": [{"text": "a"}], "params": {"options": {"profile": "fast"}}},
            "Profile 'fast' not found. Available: ['default']",
        ),
    ],
)
def test_invalid_bodies(api: httpx2.Client, body: object, message: str) -> None:
    for content, encoding in (
        (json.dumps(body).encode(), "application/json"),
        (msgpack.packb(body), MSGPACK["Accept"]),
    ):
        answer = api.post(f"/v1/encode/{EMBEDDED}", content=content, headers={"Content-Type": encoding})
        assert error(answer) == (400, "INVALID_INPUT", message)


def test_unknown_model(api: httpx2.Client) -> None:
    status, code, _ = error(api.post("/v1/encode/unknown", json={"items": [{"text": "a"}]}))
    assert (status, code) == (404, "MODEL_NOT_FOUND")
