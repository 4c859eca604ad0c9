"""What goes over the wire, to the byte: `wire.json` is what this server takes and gives, and what both SDKs read."""

import json
from collections.abc import Iterator
from typing import Any

import msgpack
import msgpack_numpy
import numpy as np
import pytest
from record_wire import ABOUT, JSON, MSGPACK, WIRE, compact, exchanges, text

from sie_testing.fake_engine import Served, canned

RECORDED = json.loads(WIRE.read_text("utf-8"))
EXCHANGES = pytest.mark.parametrize("exchange", RECORDED["exchanges"], ids=lambda exchange: exchange["name"])


@pytest.fixture(scope="module")
def ask() -> Iterator[Served]:
    with canned() as served:
        yield served


def encodings(message: dict[str, Any] | None) -> list[tuple[str, bytes | None]]:
    """Content type and bytes of a message in each form it has."""
    if message is None:
        return [(JSON, None)]
    forms: list[tuple[str, bytes | None]] = [(JSON, message["json"].encode())]
    return [*forms, (MSGPACK, bytes.fromhex(message["msgpack"]))] if "msgpack" in message else forms


@EXCHANGES
def test_the_server_takes_and_gives_these_bytes(ask: Served, exchange: dict[str, Any]) -> None:
    for content_type, sent in encodings(exchange.get("request")):
        for accept, expected in encodings(exchange["answer"]):
            answer = ask(exchange["method"], exchange["path"], sent, content_type, accept)
            assert answer.content == expected
            assert answer.status_code == exchange["status"]
            assert answer.headers["content-type"] == accept
            assert answer.headers.get("retry-after") == exchange.get("retry_after")


@EXCHANGES
def test_all_forms_of_a_message_say_the_same(exchange: dict[str, Any]) -> None:
    for message in (exchange.get("request"), exchange["answer"]):
        for content_type, content in encodings(message):
            if content is not None and message is not None:
                assert _read(content_type, content) == compact(message["body"])


def test_the_recording_is_whole() -> None:
    """`make wire` writes it: every exchange once, in order, and nothing else."""
    assert RECORDED["about"] == ABOUT
    made = [(exchange.name, exchange.method, exchange.path, exchange.body) for exchange in exchanges()]
    recorded = RECORDED["exchanges"]
    assert made == [(e["name"], e["method"], e["path"], e.get("request", {}).get("body")) for e in recorded]
    assert text(recorded) == WIRE.read_text("utf-8")


def _read(content_type: str, content: bytes) -> str:
    if content_type == JSON:
        return compact(json.loads(content))
    said = msgpack.unpackb(content, object_hook=msgpack_numpy.decode)
    return json.dumps(said, ensure_ascii=False, separators=(",", ":"), default=np.ndarray.tolist)
