"""Hostile or broken responses give a result or an exception of this package, in bounded memory."""

import asyncio
import gzip
import json
import math
import threading
import tracemalloc
import zlib
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sdk_stand_ins import SCORED, Server

from sie_sdk import SIEAsyncClient, SIEClient, errors
from sie_sdk._transports import response_body
from sie_sdk._transports.response_body import MAX_ERROR_BYTES, ResponseBody, UnreadableError
from sie_sdk.retry import LONGEST_DELAY_S, parse_retry_after
from sie_sdk.types import Item

QUICK = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
MIB = 2**20

anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from(
    ["QUEUE_FULL", "MODEL_LOADING", "MODEL_LOAD_FAILED", "RESOURCE_EXHAUSTED", "INPUT_TOO_LONG", "items[999]", ""]
)
said = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("code", "message", "param", "error_class", "permanent", "attempts", "error", "detail"), anything | names
    ),
)
bodies = (
    st.binary(max_size=60)
    | st.one_of(anything, said, st.fixed_dictionaries({"detail": said}), st.fixed_dictionaries({"error": said})).map(
        lambda body: json.dumps(body).encode()
    )
    | st.sampled_from([b"[" * 100_000, b'{"detail":' * 50_000, b'{"detail": "items[' + b"9" * 5000 + b']"}'])
)
delays = st.sampled_from(
    ["nan", "-1", "-inf", "1e999", "9" * 400, "1_0", "soon", "0", "Fri, 31 Dec 9999 23:59:59 -2359"]
)
headers = st.fixed_dictionaries(
    {},
    optional={
        "retry-after": delays | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12),
        "x-sie-error-code": names,
        "x-sie-credits-debited": st.sampled_from(["nan", "inf", "1_0", "9" * 400]),
        "x-sie-units-": st.just("x"),
        "x-sie-server-version": st.sampled_from(["unknown", "9" * 5000 + ".1", "\u00b2.1"]).map(
            lambda version: version.encode("latin-1")
        ),
    },
)


def ask(connect, answer):
    connect(Server(answer)).score("m", Item(text="q"), [Item(text="d")], provision_timeout_s=0)


@QUICK
@given(status=st.integers(300, 599), body=bodies, said=headers)
def test_an_error_is_the_one_that_its_status_says(connect, status, body, said):
    with pytest.raises(errors.SIEError) as caught:
        ask(connect, httpx2.Response(status, content=body, headers=said))
    error = caught.value
    assert type(error) is errors.error_class(status, error.code)
    assert error.status_code == status
    assert isinstance(str(error), str)
    assert error.code is None or isinstance(error.code, str)
    assert error.retry_after is None or 0 <= error.retry_after <= LONGEST_DELAY_S
    for name, kind in (("error_class", str), ("permanent", bool), ("attempts", int), ("param", str)):
        assert isinstance(getattr(error, name, None), kind | None)
    for number in ((error.request or {}).get("credits_debited", 0.0), *(error.request or {}).get("units", {}).values()):
        assert math.isfinite(number)


maps = st.dictionaries(st.sampled_from(["model", "scores", "items", "usage", "query_id"]), anything, max_size=5)
arrays = st.fixed_dictionaries(
    {
        b"nd": st.booleans(),
        b"type": st.sampled_from(["<f4", "|O8", "<f4,<f4", "|i1"]),
        b"kind": st.just(b""),
        b"shape": st.lists(st.integers(-1, 2**64 - 1), max_size=9),
        b"data": st.binary(max_size=8),
    }
)


@QUICK
@given(
    body=st.binary(max_size=60)
    | maps.map(msgpack.packb)
    | arrays.map(lambda array: msgpack.packb({"model": "m", "items": [{"id": [1], "dense": {"values": array}}]}))
    | st.sampled_from([b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 100_000])
)
@pytest.mark.parametrize("route", ["score", "encode", "extract", "list_models"])
def test_an_invalid_response_raises_an_error_of_this_package(connect, route, body):
    client = connect(Server(httpx2.Response(200, content=body)))
    call = {
        "score": lambda: client.score("m", Item(text="q"), [Item(text="d")], provision_timeout_s=0),
        "list_models": lambda: client.list_models(),
    }.get(route, lambda: getattr(client, route)("m", [Item(text="d", id="x")], provision_timeout_s=0))
    with suppress(errors.SIEError):
        call()


@given(st.text(max_size=40) | delays)
def test_a_retry_after_can_be_slept_for_or_is_none(value):
    seconds = parse_retry_after(value, now_s=1e9)
    assert seconds is None or 0 <= seconds <= LONGEST_DELAY_S


def bomb(mebibytes):
    packer = zlib.compressobj(wbits=31)
    return b"".join([*(packer.compress(bytes(MIB)) for _ in range(mebibytes)), packer.flush()])


@pytest.fixture(scope="module")
def crafted():
    """A server that answers with the status in the path and 512 MiB of gzip."""
    packed = bomb(512)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            assert self.headers["accept-encoding"] == "gzip, deflate"
            self.send_response(int(self.path.split("/")[1]))
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(packed)))
            self.end_headers()
            with suppress(OSError):  # the client has heard enough
                self.wfile.write(packed)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_unpacks_to_gigabytes_is_given_up(crafted, kind, status):
    def blocking():
        with SIEClient(f"{crafted}/{status}") as client:
            client.score("m", Item(text="q"), [Item(text="d")], provision_timeout_s=0)

    async def awaited():
        async with SIEAsyncClient(f"{crafted}/{status}") as client:
            await client.score("m", Item(text="q"), [Item(text="d")], provision_timeout_s=0)

    tracemalloc.start()
    try:
        with pytest.raises(errors.SIEError) as caught:
            blocking() if kind == "sync" else asyncio.run(awaited())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200 * MIB
    if status == 500:
        assert (type(caught.value), caught.value.status_code) == (errors.ServerError, 500)
    else:
        assert (type(caught.value), caught.value.kind) == (errors.SIEConnectionError, "other")
        assert "exceeds the limit of 67108864 bytes" in str(caught.value)


def content(status, encoding, *pieces):
    taken = ResponseBody(status, encoding)
    for piece in pieces:
        if not taken.add(piece):
            break
    return taken.finish()


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("encoding", ["gzip", "X-GZIP", "deflate", "", None, "identity"])
def test_bodies_are_decompressed_in_any_pieces(encoding, size):
    body = msgpack.packb(SCORED) * 100
    packed = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress}.get(
        (encoding or "").lower(), bytes
    )(body)
    pieces = [packed[start : start + size] for start in range(0, len(packed), size)]
    assert content(200, encoding, *pieces) == body


def test_members_of_gzip_follow_each_other():
    assert content(200, "gzip", gzip.compress(b"one ") + gzip.compress(b"two")) == b"one two"


def test_an_empty_compressed_body_is_complete():
    assert content(200, "gzip") == b""


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("gzip", b"no gzip"), ("gzip", gzip.compress(b"x" * 1000, mtime=0)[:-9]), ("br", b"x"), ("gzip, gzip", b"x")],
)
def test_a_corrupt_body_fails_unless_it_is_an_error_response(encoding, body):
    with pytest.raises(UnreadableError):
        content(200, encoding, body)
    assert isinstance(content(503, encoding, body), bytes)


def test_sizes_are_bounded(monkeypatch):
    monkeypatch.setattr(response_body, "MAX_BYTES", 2 * MIB)
    assert len(content(200, None, bytes(MIB), bytes(MIB))) == 2 * MIB
    with pytest.raises(UnreadableError, match="exceeds the limit of 2097152 bytes"):
        content(200, None, bytes(MIB), bytes(MIB), b"1")
    assert len(content(500, None, bytes(2 * MIB))) == MAX_ERROR_BYTES
