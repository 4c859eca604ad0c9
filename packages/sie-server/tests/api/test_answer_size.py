"""What a request will cost is known before it costs it: each limit, the field and the number that its error names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import httpx2
import msgspec
import numpy as np
import pytest

from sie_server import codec, wire
from sie_server.api.answer_size import of_highlights, of_sparse, of_vectors
from sie_server.api.responses import quantize
from sie_server.options import Dtype
from sie_testing.serving import EMBEDDED, connect, error, in_process

LIMITS = {"max_rendered_bytes": 1000, "max_answer_bytes": 60_000, "max_windows": 6, "max_request_tokens": 300}


@pytest.fixture(scope="module")
def limited(models: Path) -> Iterator[httpx2.Client]:
    """A client of a server with small limits."""
    with (
        in_process(model=(str(models / "bert"),), preload=(EMBEDDED, "bert"), **LIMITS) as running,
        connect(running.url) as client,
    ):
        yield client


def encode(api: httpx2.Client, texts: list[str], accept: str = "application/json", **params: Any) -> httpx2.Response:
    body = {"items": [{"text": each} for each in texts], "params": params}
    return api.post(f"/v1/encode/{EMBEDDED}", json=body, headers={"Accept": accept})


def score(api: httpx2.Client, query: str, texts: list[str], model: str = EMBEDDED, **options: Any) -> httpx2.Response:
    body = {"query": {"text": query}, "items": [{"text": each} for each in texts], "options": options}
    return api.post(f"/v1/score/{model}", json=body)


def refused(answer: httpx2.Response, field: str, *parts: str, code: str = "INVALID_INPUT") -> None:
    status, found, message = error(answer)
    assert (status, found, answer.json()["detail"]["param"]) == (400, code, field)
    for part in (f"'{field}'", *parts):
        assert part in message


def test_a_template_times_its_instruction_times_the_items(limited: httpx2.Client) -> None:
    template = {"doc_template": "{instruction}" * 9 + "{text}"}
    assert encode(limited, ["w1"], instruction="i" * 100, options=template).status_code == 200
    for texts, size in ((["w1"], 112), (["w1"] * 2, 56), (["w1"] * 10, 12)):
        answer = encode(limited, texts, "application/msgpack", instruction="i" * size, options=template)
        added = f"adds {9 * size:,} bytes, including the instruction, to each of {len(texts)} texts"
        refused(answer, "params.options.doc_template", added, "is 1,000 (--max-rendered-bytes)")


def test_windows_and_tokens(limited: httpx2.Client) -> None:
    answer = score(limited, "w1", ["a " * 20], long_documents="chunk_max", max_seq_length=5)
    refused(answer, "options.long_documents", "windows", "the limit is 6 (--max-windows)")
    answer = score(limited, "w1 " * 10, ["w1"] * 30, model="bert")
    refused(answer, "items", "the limit for a request is 300 (--max-request-tokens)", code="INPUT_TOO_LONG")
    answer = encode(limited, ["a " * 20] * 14, accept="application/msgpack")
    refused(answer, "items", "308 tokens", code="INPUT_TOO_LONG")


def test_answers(limited: httpx2.Client) -> None:
    limit = "the limit is 60,000 (--max-answer-bytes)"
    many = ["a"] * 7
    assert encode(limited, many, accept="application/msgpack").status_code == 200
    refused(encode(limited, many), "params.output_types", limit)
    assert encode(limited, many, output_dtype="int8").status_code == 200
    assert encode(limited, ["w1"], options={"muvera": {"num_repetitions": 1}}).status_code == 200
    refused(encode(limited, ["w1"], options={"muvera": {}}), "params.options.muvera", limit)
    # A bit of the answer is a number of four bytes before.
    bits = {"output_dtype": "ubinary", "options": {"muvera": {}}}
    refused(encode(limited, ["w1"], "application/msgpack", **bits), "params.options.muvera", "81,920 bytes", limit)
    assert encode(limited, ["a"], output_types=["multivector"]).status_code == 200
    refused(encode(limited, ["a " * 9], output_types=["multivector"]), "params.output_types", limit)
    embeddings = {"model": EMBEDDED, "input": many}
    assert limited.post("/v1/embeddings", json={**embeddings, "encoding_format": "base64"}).status_code == 200
    answer = limited.post("/v1/embeddings", json=embeddings)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "input"
    assert limit in answer.json()["error"]["message"]
    assert score(limited, "a b c", ["a"] * 30, return_highlights=True).status_code == 200
    answer = score(limited, "a " * 30, ["a"] * 30, return_highlights=True)
    refused(answer, "options.return_highlights", limit)
    assert score(limited, "a " * 30, ["a"] * 30, return_highlights=True, top_k=5).status_code == 200


@pytest.mark.parametrize("msgpack", [True, False])
@pytest.mark.parametrize("dtype", get_args(Dtype))
def test_no_answer_is_larger_than_its_estimate(dtype: Dtype, msgpack: bool) -> None:
    longest = np.float32(-1.1754945e-38)
    rows = np.full((3, 400), longest, np.float32) * np.linspace(1, 2, 400, dtype=np.float32)
    values = quantize(rows * (1 if dtype == "float32" else 1e34), dtype)
    written = len(codec.encode(values, msgpack=msgpack)) - 100
    assert written <= of_vectors(3, 400, dtype, msgpack=msgpack).answer
    weights = quantize(rows[0], "float16" if dtype == "float16" else "float32")
    sparse = wire.SparseVector(30_000, "float32", np.arange(29_600, 30_000, dtype=np.int32), weights)
    assert len(codec.encode(sparse, msgpack=msgpack)) - 300 <= of_sparse(400, dtype, msgpack=msgpack).answer


def test_no_highlight_is_larger_than_its_estimate() -> None:
    light = wire.Highlight((999_990, 999_999), (2_097_140, 2_097_152), -0.12345678901234567)
    assert len(msgspec.json.encode([light] * 10)) <= of_highlights(5, 2).answer
