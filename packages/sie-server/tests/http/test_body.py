"""Bodies and connections that are not what they claim: a clear 4xx or a correct score, and a server that goes on."""

import gzip
import http.client
import json
import random
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx2
import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sie_testing.serving import EMBEDDED, Server, error, metric, poll, scores

JSON, MSGPACK = "application/json", "application/msgpack"
BODY: dict[str, Any] = {"query": {"text": "what is python"}, "items": [{"text": "it"}, {"text": "snakes are reptiles"}]}
PLAIN = json.dumps(BODY).encode()
PACKED: bytes = msgpack.packb(BODY)
LIMIT = 34 * 2**20


@pytest.fixture(autouse=True)
def undisturbed(api: httpx2.Client) -> Iterator[None]:
    """Whatever a test sends, the server lives and gives a reference pair the same bits."""
    before = scores(api, "bert", "what is python", ["it", "snakes are reptiles"])
    yield
    assert api.get("/livez").status_code == 200
    assert scores(api, "bert", "what is python", ["it", "snakes are reptiles"]) == before


def post(api: httpx2.Client, body: bytes, encoding: str = JSON, route: str = "score/bert") -> httpx2.Response:
    return api.post(f"/v1/{route}", content=body, headers={"Content-Type": encoding})


# --- bodies that are not what they claim -----------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["score/bert", "encode/bert-encoder"])
@pytest.mark.parametrize(
    ("encoding", "body", "message"),
    [
        (MSGPACK, PLAIN, "Expected `object`, got `int`"),
        (JSON, PACKED, "JSON is malformed: invalid character (byte 0)"),
        (JSON, PLAIN[:-1], "Input data was truncated"),
        (MSGPACK, PACKED[:-1], "Input data was truncated"),
        (JSON, PLAIN + b"x", "JSON is malformed: trailing characters"),
        (MSGPACK, PACKED + b"x", "MessagePack data is malformed: trailing characters"),
        (JSON, b"", "Input data was truncated"),
        (MSGPACK, b"", "Input data was truncated"),
        (JSON, b"[]", "Expected `object`, got `array`"),
        (MSGPACK, b"\x90", "Expected `object`, got `array`"),
        (JSON, b"null", "Expected `object`, got `null`"),
        (JSON, b'"text"', "Expected `object`, got `str`"),
        (JSON, b"query=a&items=b", "JSON is malformed"),
        (JSON, gzip.compress(PLAIN, mtime=0), "JSON is malformed"),
        (JSON, b"\xef\xbb\xbf" + PLAIN, "JSON is malformed"),
        (JSON, json.dumps(BODY).encode("utf-16"), "JSON is malformed"),
        (JSON, b"\0" * 1000, "JSON is malformed"),
    ],
)
def test_content_that_differs_from_its_content_type(
    api: httpx2.Client, route: str, encoding: str, body: bytes, message: str
) -> None:
    status, code, found = error(post(api, body, encoding, route))
    assert (status, code) == (400, "INVALID_INPUT")
    assert found.startswith(message)


def in_json(**fields: str) -> bytes:
    """A score request with these fields of its first item, as JSON source."""
    item = b",".join(json.dumps(name).encode() + b":" + value.encode() for name, value in fields.items())
    return b'{"query":{"text":"what is python"},"items":[{' + item + b"}]}"


def in_msgpack(**fields: bytes) -> bytes:
    """A score request with these fields of its first item, as MessagePack."""
    item = b"".join(msgpack.packb(name) + value for name, value in fields.items())
    head: bytes = msgpack.packb({"query": {"text": "what is python"}, "items": []})[:-1]
    return head + b"\x91" + bytes([0x80 + len(fields)]) + item


def refused_or_right(api: httpx2.Client, answer: httpx2.Response) -> None:
    """Fields that nobody reads may be refused as malformed, and change no score."""
    if answer.status_code == 200:
        [entry] = answer.json()["scores"]
        assert [entry["score"]] == scores(api, "bert", "what is python", ["it"])
    else:
        assert error(answer)[:2] == (400, "INVALID_INPUT")


TEXT = msgpack.packb("it")
DEEP = 100_000


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (JSON, in_json(text='"it"', unknown="[" * DEEP + "]" * DEEP)),
        (JSON, in_json(text='"it"', unknown='{"a":' * DEEP + "1" + "}" * DEEP)),
        (JSON, in_json(text='"it"', metadata='{"a":' + "[" * DEEP + "]" * DEEP + "}")),
        (JSON, in_json(text="[" * DEEP)),
        (JSON, b"[" * DEEP),
        (MSGPACK, in_msgpack(text=TEXT, unknown=b"\x91" * DEEP + b"\xc0")),
        (MSGPACK, in_msgpack(text=TEXT, unknown=b"\x81\xa1a" * DEEP + b"\xc0")),
        (MSGPACK, in_msgpack(text=TEXT, metadata=b"\x81\xa1a" + b"\x91" * DEEP + b"\xc0")),
        (MSGPACK, in_msgpack(text=TEXT, metadata=b"\x81\xa1a\x81" + b"\x91" * DEEP + b"\xc0\xc0")),
        (MSGPACK, b"\x91" * DEEP),
    ],
)
def test_deep_nesting(api: httpx2.Client, encoding: str, body: bytes) -> None:
    assert error(post(api, body, encoding))[:2] == (400, "INVALID_INPUT")


@pytest.mark.parametrize("depth", [10, 100, 500])
@pytest.mark.parametrize("field", ["metadata", "unknown"])
def test_moderate_nesting_is_ignored(api: httpx2.Client, field: str, depth: int) -> None:
    body = in_json(**{"text": '"it"', field: '{"a":' * depth + "1" + "}" * depth})
    [entry] = post(api, body).json()["scores"]
    assert [entry["score"]] == scores(api, "bert", "what is python", ["it"])


@pytest.mark.parametrize("length", [10**6, 2**32 - 1])
@pytest.mark.parametrize(
    "opcode", [b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"], ids=["array", "map", "str", "bin", "ext"]
)
@pytest.mark.parametrize("field", ["text", "metadata", "unknown", "items"])
def test_declared_lengths_that_never_come(api: httpx2.Client, field: str, opcode: bytes, length: int) -> None:
    value = opcode + length.to_bytes(4, "big") + b"\x01"
    if field == "items":
        body = msgpack.packb({"query": {"text": "a"}, "items": []})[:-1] + value
    else:
        body = in_msgpack(**{field: value})
    assert error(post(api, body, MSGPACK))[:2] == (400, "INVALID_INPUT")


@pytest.mark.parametrize(
    "value",
    [
        msgpack.packb(msgpack.ExtType(5, b"x")),
        msgpack.packb(msgpack.Timestamp(0)),
        msgpack.packb({"a": msgpack.ExtType(5, b"x")}),
        msgpack.packb({"a": {b"binary key": 1}}),
        msgpack.packb({"a": {None: 1}}),
        msgpack.packb({"a": {(1, 2): 1}}),
        msgpack.packb({"a": float("nan")}),
        msgpack.packb({"a": msgpack.Timestamp(2**62)}),
        b"\x81\xa1a\x81\x81\x01\x02\x03",  # a map as the key of a map
        b"\x81\xa1a\xa1\xff",  # a str that is not UTF-8
    ],
)
@pytest.mark.parametrize("field", ["metadata", "unknown", "text"])
def test_msgpack_that_json_can_not_say(api: httpx2.Client, field: str, value: bytes) -> None:
    answer = post(api, in_msgpack(**{"text": TEXT, field: value}), MSGPACK)
    if field == "text":
        assert error(answer)[:2] == (400, "INVALID_INPUT")
    else:
        refused_or_right(api, answer)


@pytest.mark.parametrize("raw", [b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf8\x88\x80\x80\x80", b"a\xe2\x82"])
@pytest.mark.parametrize("field", ["text", "id"])
def test_text_that_is_not_utf_8(api: httpx2.Client, field: str, raw: bytes) -> None:
    packed = in_msgpack(**{"text": TEXT, field: bytes([0xA0 + len(raw)]) + raw})
    plain = in_json(**{"text": '"it"', field: '"@"'}).replace(b"@", raw)
    for encoding, body in ((MSGPACK, packed), (JSON, plain)):
        assert error(post(api, body, encoding))[:2] == (400, "INVALID_INPUT")


@pytest.mark.parametrize("escape", [r"\ud800", r"\udc00", r"\ud800\ud800", r"a\udfffb"])
@pytest.mark.parametrize("field", ["text", "id"])
def test_lone_surrogates(api: httpx2.Client, field: str, escape: str) -> None:
    body = in_json(**{"text": '"it"', field: f'"{escape}"'})
    assert error(post(api, body))[:2] == (400, "INVALID_INPUT")


@pytest.mark.parametrize("string", ["\0", "a\0b", "😀", "\x7f\u200b\ufffe"])
def test_strange_characters_are_text(api: httpx2.Client, string: str) -> None:
    body = {"query": {"id": string, "text": string}, "items": [{"id": string, "text": string}, {"text": "snakes"}]}
    plain = post(api, json.dumps(body).encode(), route=f"score/{EMBEDDED}").json()
    packed = post(api, msgpack.packb(body), MSGPACK, f"score/{EMBEDDED}").json()
    assert plain == packed
    assert plain["query_id"] == string
    assert {entry["item_id"] for entry in plain["scores"]} == {string, "item-1"}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "0x10", "01", "-", "1e", ".5"])
@pytest.mark.parametrize("field", ["top_k", "max_seq_length"])
def test_invalid_numbers(api: httpx2.Client, field: str, number: str) -> None:
    body = PLAIN[:-1] + f', "options": {{"{field}": {number}}}}}'.encode()
    assert error(post(api, body))[:2] == (400, "INVALID_INPUT")


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 5000, "1e-999", "-0"])
def test_numbers_in_unread_fields(api: httpx2.Client, number: str) -> None:
    body = in_json(text='"it"', unknown=number, metadata=f'{{"a": {number}}}')
    refused_or_right(api, post(api, body))


@pytest.mark.parametrize("number", [2**31, 2**63, 2**64, 10**100])
@pytest.mark.parametrize("field", ["top_k", "max_seq_length", "query_max_length"])
@pytest.mark.parametrize("model", ["bert", EMBEDDED])
def test_huge_limits_limit_nothing(api: httpx2.Client, model: str, field: str, number: int) -> None:
    expected = scores(api, model, "what is python", ["it", "is"])
    assert scores(api, model, "what is python", ["it", "is"], options={field: number}) == expected


# --- large and empty -------------------------------------------------------------------------------------------------


def test_ten_thousand_documents(api: httpx2.Client) -> None:
    documents = [f"w{n % 500} w{n * 7 % 491}" for n in range(10_000)]
    together = scores(api, "bert", "what is python", documents)
    assert len(together) == 10_000
    for n in random.Random(0).sample(range(10_000), 10):
        assert scores(api, "bert", "what is python", [documents[n]]) == [together[n]]


@pytest.mark.parametrize("model", ["bert", "xlm-roberta", EMBEDDED])
def test_empty_strings_are_scored(api: httpx2.Client, model: str) -> None:
    [nothing, something] = scores(api, model, "what is python", ["", "python"])
    assert scores(api, model, "what is python", [" "]) == [nothing] != [something]
    assert len(scores(api, model, "", ["python", ""])) == 2


@pytest.mark.parametrize("model", ["bert-encoder", EMBEDDED])
@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_text_is_embedded(api: httpx2.Client, model: str, text: str) -> None:
    answer = api.post(f"/v1/encode/{model}", json={"items": [{"text": text}, {"text": "snakes"}]})
    for item in answer.json()["items"]:
        assert sum(x * x for x in item["dense"]["values"]) == pytest.approx(1, abs=1e-4)


def test_an_empty_text_has_the_vectors_of_its_special_tokens(api: httpx2.Client) -> None:
    params = {"output_types": ["multivector"]}
    [item] = api.post(f"/v1/encode/{EMBEDDED}", json={"items": [{"text": ""}], "params": params}).json()["items"]
    assert item["multivector"]["num_tokens"] == len(item["multivector"]["values"]) == 2
    for row in item["multivector"]["values"]:
        assert sum(x * x for x in row) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("document", "same_as"),
    [("word " * 200_000, "word " * 300), ("a" * 1_000_000, "a" * 101), ("é" * 1_000_000, "é" * 101)],
    ids=["words", "one word", "one word, not ASCII"],
)
def test_a_million_characters(api: httpx2.Client, document: str, same_as: str) -> None:
    # Cut at the limit; and a word of more than a hundred characters is one unknown token.
    [long, short] = scores(api, EMBEDDED, "what is a word", [document, same_as])
    assert long == short


def test_an_instruction_of_a_megabyte(api: httpx2.Client) -> None:
    instruction = "made " * 200_000
    message = "must hold at most 65536 bytes of UTF-8 text in a request of 1 items"
    for field, body in (("instruction", {"instruction": instruction}), ("options.instruction", None)):
        answer = api.post("/v1/score/bert", json={**BODY, **(body or {"options": {"instruction": instruction}})})
        assert error(answer) == (400, "INVALID_INPUT", f"Field '{field}' {message}")
    for model in ("bert", EMBEDDED):
        answer = api.post(f"/v1/score/{model}", json={**BODY, "instruction": "made " * 13_000})
        assert error(answer)[:2] == (400, "INPUT_TOO_LONG")


@pytest.mark.parametrize(
    "field",
    [
        "params.instruction",
        "params.options.instruction",
        "params.options.query_template",
        "params.options.doc_template",
        "params.options.default_instruction",
    ],
)
@pytest.mark.parametrize(("items", "limit"), [(1, 65536), (544, 65536), (10_000, 3565)])
def test_templates_and_instructions_are_limited_by_the_number_of_items(
    api: httpx2.Client, field: str, items: int, limit: int
) -> None:
    value: Any = "{text}" + "é" * ((limit - 6) // 2 + 1)
    for name in reversed(field.split(".")):
        value = {name: value}
    answer = api.post(f"/v1/encode/{EMBEDDED}", json={"items": [{"text": "a"}] * items, **value})
    message = f"Field '{field}' must hold at most {limit} bytes of UTF-8 text in a request of {items} items"
    assert error(answer) == (400, "INVALID_INPUT", message)
    assert answer.json()["detail"]["param"] == field


def test_a_long_template_of_one_text(api: httpx2.Client) -> None:
    params = {"options": {"doc_template": "{text}".ljust(65536)}}
    answer = api.post(f"/v1/encode/{EMBEDDED}", json={"items": [{"text": "a"}], "params": params})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "model", ["a" * 60_000, "%00", "%FF", "a%20b", "..%2F..%2Fetc", "%F0%9F%98%80", ":default", ""]
)
def test_unknown_model_ids(api: httpx2.Client, model: str) -> None:
    assert error(api.post(f"/v1/score/{model}", json=BODY))[:2] == (404, "MODEL_NOT_FOUND")


# --- the body limit --------------------------------------------------------------------------------------------------

TOO_LARGE = (413, "INPUT_TOO_LONG", f"request body exceeds the limit of {LIMIT} bytes")


def test_a_declared_length_over_the_limit_is_refused_unread(server: Server) -> None:
    with connection_to(server) as connection:
        head = f"POST /v1/score/bert HTTP/1.1\r\nHost: x\r\nContent-Length: {LIMIT + 1}\r\n\r\n"
        connection.sendall(head.encode())
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        body = httpx2.Response(answer.status, headers=dict(answer.headers), content=answer.read())
    assert error(body) == TOO_LARGE


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
@pytest.mark.parametrize("accept", [JSON, MSGPACK])
def test_a_body_over_the_limit(api: httpx2.Client, declared: bool, accept: str) -> None:
    chunk = b" " * 2**20

    def body() -> Iterator[bytes]:
        for _ in range(34):
            yield chunk
        yield b" "

    headers = {"Accept": accept, "Content-Type": accept}
    content = b"".join(body()) if declared else body()
    assert error(api.post("/v1/score/bert", content=content, headers=headers)) == TOO_LARGE


def test_a_body_at_the_limit(api: httpx2.Client) -> None:
    assert post(api, PLAIN.ljust(LIMIT)).status_code == 200


# --- connections -----------------------------------------------------------------------------------------------------


def connection_to(server: Server) -> socket.socket:
    url = urlsplit(server.url)
    return socket.create_connection((url.hostname, url.port), 20)


def exchange(server: Server, request: bytes) -> bytes:
    """Send bytes and return everything that comes back until the server closes the connection."""
    with connection_to(server) as connection:
        connection.sendall(request)
        answer = b""
        with suppress(ConnectionResetError):
            while chunk := connection.recv(65536):
                answer += chunk
        return answer


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: %d\r\nTransfer-Encoding: chunked" % len(PLAIN),
        b"Content-Length: %d\r\nContent-Length: 3" % len(PLAIN),
        b"Content-Length: -1",
        b"Content-Length: 1x",
        b"Content-Length: 99999999999999999999999",
        b"Content-Length : 5",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: xchunked",
        b"X\0Y: 1\r\nContent-Length: 5",
        b"X-Y: a\0b\r\nContent-Length: 5",
        b": empty\r\nContent-Length: 5",
        b"no colon\r\nContent-Length: 5",
        b"Content-Length: 10",
    ],
)
def test_headers_that_make_no_sense(server: Server, headers: bytes) -> None:
    head = b"POST /v1/score/bert HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    answer = exchange(server, head + headers + b"\r\n\r\n" + PLAIN)
    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))


@pytest.mark.parametrize(
    "request_line",
    [b"POST /v1/score/bert HTTP/9.9", b"P\0ST / HTTP/1.1", b"\x16\x03\x01\x02", b"GET", b"POST  HTTP/1.1"],
)
def test_request_lines_that_make_no_sense(server: Server, request_line: bytes) -> None:
    answer = exchange(server, request_line + b"\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 4")


@pytest.mark.parametrize("chunks", [b"zz\r\n{}\r\n0\r\n\r\n", b"5\r\n{}\r\n0\r\n\r\n", b"-1\r\n\r\n"])
def test_chunks_that_make_no_sense(server: Server, chunks: bytes) -> None:
    head = b"POST /v1/score/bert HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert exchange(server, head + chunks).startswith(b"HTTP/1.1 4")


@pytest.mark.parametrize("framing", [b"Content-Length: %d" % len(PLAIN), b"Transfer-Encoding: chunked"])
def test_a_client_that_disconnects_half_way_through_its_body(
    server: Server, api: httpx2.Client, framing: bytes
) -> None:
    gone = {"endpoint": "score", "model": "bert", "status": "499"}
    before = metric(api, "sie_requests_total", **gone)
    half = b"1000\r\n" + PLAIN if b"chunked" in framing else PLAIN[:-5]
    with connection_to(server) as connection:
        connection.sendall(b"POST /v1/score/bert HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n\r\n" + half)
    poll(lambda: metric(api, "sie_requests_total", **gone) == before + 1)


def test_requests_sent_in_one_go_are_answered_in_their_order(server: Server) -> None:
    request = b"POST /v1/score/%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
    requests = [request % (model, len(PLAIN), PLAIN) for model in (b"bert", b"unknown", EMBEDDED.encode())]
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = exchange(server, b"".join(requests) + last)
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"200", b"404", b"200", b"200"]


def test_a_body_sent_after_asking(server: Server) -> None:
    with connection_to(server) as connection:
        head = b"POST /v1/score/bert HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
        connection.sendall(head % len(PLAIN))
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(PLAIN)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


# --- fuzzing ---------------------------------------------------------------------------------------------------------

_SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=20)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_NAMES = st.sampled_from(["id", "text", "metadata", "images", "top_k", "profile", "max_seq_length", "output_types"])
_OBJECTS = st.dictionaries(_NAMES, _VALUES, max_size=3)
_BODIES = st.fixed_dictionaries(
    {},
    optional={
        "query": _OBJECTS | _VALUES,
        "items": st.lists(_OBJECTS | _VALUES, max_size=4) | _VALUES,
        "instruction": _VALUES,
        "options": _OBJECTS | _VALUES,
        "params": _OBJECTS | _VALUES,
    },
)


@st.composite
def _mutated(draw: st.DrawFn, whole: bytes) -> bytes:
    """A good body with a few bytes replaced, removed or put in."""
    body = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body)))
        body[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(body)


def _in(encoding: str) -> st.SearchStrategy[bytes]:
    good = PLAIN if encoding == JSON else PACKED
    pack = (lambda body: json.dumps(body).encode()) if encoding == JSON else msgpack.packb
    return st.binary(max_size=64) | _mutated(good) | _BODIES.map(pack)


@pytest.mark.parametrize("encoding", [JSON, MSGPACK])
@pytest.mark.parametrize("route", ["score/bert", "encode/bert-encoder"])
def test_no_body_breaks_the_server(api: httpx2.Client, route: str, encoding: str) -> None:
    @settings(max_examples=250, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(_in(encoding))
    def answers(body: bytes) -> None:
        answer = post(api, body, encoding, route)
        if answer.status_code != 200:
            assert error(answer)[:2] in {(400, "INVALID_INPUT"), (400, "INPUT_TOO_LONG")}

    answers()


# --- what a client sent, in what it is told --------------------------------------------------------------------------

LONG = "abcdefghij0123456789" * 100_000


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/rerank", {"model": LONG, "query": "q", "documents": ["d"]}),
        ("/v1/rerank", {"model": "bert", "query": "q", "documents": ["d"], LONG: 1}),
        ("/v1/embeddings", {"model": LONG, "input": "d"}),
        ("/v1/embeddings", {"model": "bert", "input": "d", "encoding_format": LONG}),
        ("/v1/score/bert", {**BODY, "options": {"profile": LONG}}),
        ("/v1/score/bert", {**BODY, "options": {"long_documents": LONG}}),
        ("/v1/encode/bert", {"items": [{"text": "d"}], "params": {"output_types": [LONG]}}),
        ("/v1/encode/bert", {"items": [{"text": "d"}], "params": {"options": {"doc_template": "{" + LONG[:60000]}}}),
        (f"/v1/score/{LONG[:60000]}", BODY),
    ],
    ids=lambda given: str(given)[:60],
)
def test_an_error_repeats_no_more_than_a_line_of_what_was_sent(
    api: httpx2.Client, path: str, body: dict[str, Any]
) -> None:
    answer = api.post(path, json=body)
    assert 400 <= answer.status_code < 500
    assert len(answer.content) < 6000
