"""Bodies made to keep a server busy, all within the limits on a body's size: every route, both encodings."""

import json
import random
import struct
from collections.abc import Iterator
from typing import NamedTuple

from instance import EMBEDDED

JSON, MSGPACK = "application/json", "application/msgpack"


class Bomb(NamedTuple):
    """A request. computed: it is a real one, and takes long on the device."""

    name: str
    path: str
    body: bytes
    encoding: str = JSON
    accept: str = JSON
    computed: bool = False


def bombs(size: int) -> Iterator[Bomb]:
    """Those of about `size` bytes each."""
    for route in ("score", "encode", "extract"):
        path = f"/v1/{route}/{EMBEDDED}"
        for name, values in _json_values(size):
            yield Bomb(f"{route} {name}", path, b'{"query":{"text":"q"},"items":[%s]}' % values)
        for name, raw in _msgpack_bodies(size):
            yield Bomb(f"{route} msgpack {name}", path, raw, MSGPACK)
        for name, raw in _json_bodies(size):
            yield Bomb(f"{route} {name}", path, raw)
    for name, values in _json_values(size):
        yield Bomb(f"rerank {name}", "/v1/rerank", _rerank(b'"documents":[%s]' % values))
        yield Bomb(f"embeddings {name}", "/v1/embeddings", _embeddings(b"[%s]" % values))
    for name, text in _texts(size):
        yield Bomb(f"rerank query of {name}", "/v1/rerank", b'{"model":"m","documents":["d"],"query":%s}' % text)
        yield Bomb(f"rerank model of {name}", "/v1/rerank", b'{"model":%s,"documents":["d"],"query":"q"}' % text)
        yield Bomb(f"embeddings input of {name}", "/v1/embeddings", _embeddings(text))
        yield Bomb(f"embeddings model of {name}", "/v1/embeddings", b'{"input":"x","model":%s}' % text)
        path = f"/v1/score/{EMBEDDED}"
        options = b'"options":{"profile":%s}' % text
        yield Bomb(f"score profile of {name}", path, b'{"query":{"text":"q"},"items":[{"text":"d"}],%s}' % options)
        yield Bomb(f"score instruction of {name}", path, b'{"query":{},"items":[{}],"instruction":%s}' % text)
        yield Bomb(f"score key of {name}", path, b'{"query":{"text":"q"},"items":[{"text":"d"}],%s:1}' % text)
    for name, raw in _json_bodies(size):
        yield Bomb(f"rerank {name}", "/v1/rerank", raw)
        yield Bomb(f"embeddings {name}", "/v1/embeddings", raw)


def computed() -> Iterator[Bomb]:
    """Requests that are answered, and whose answers are large."""
    score, encode = f"/v1/score/{EMBEDDED}", f"/v1/encode/{EMBEDDED}"

    def bomb(name: str, path: str, body: object, accept: str = JSON) -> Bomb:
        return Bomb(name, path, json.dumps(body).encode(), JSON, accept, computed=True)

    many = [{"text": "a", "id": f"document {n}", "metadata": {"n": n, "of": ["a", "b"]}} for n in range(10_000)]
    yield bomb("score 10,000 items", score, {"query": {"text": "q"}, "items": many})
    yield bomb("rerank 10,000 documents", "/v1/rerank", {"model": EMBEDDED, "query": "q", "documents": ["a"] * 10_000})
    yield bomb("embeddings of 10,000 texts", "/v1/embeddings", {"model": EMBEDDED, "input": ["a"] * 10_000})
    yield bomb("encode 10,000 items", encode, {"items": many})
    rows = {"items": [{"text": "a " * 250}] * 100, "params": {"output_types": ["multivector"]}}
    yield bomb("multivectors of 100 texts", encode, rows)
    yield bomb("multivectors of 100 texts, msgpack", encode, rows, MSGPACK)
    lit = {"query": {"text": "a " * 200}, "items": [{"text": "a"}] * 300, "options": {"return_highlights": True}}
    yield bomb("highlights of 300 items", score, lit)
    words = random.Random(5).choices("abcdefghij", k=9 * 20_900)
    long = " ".join("a" * 90 + "".join(words[9 * n : 9 * n + 9]) for n in range(20_900))
    yield bomb("a query of 2 MB", score, {"query": {"text": long}, "items": [{"text": "d"}]})
    yield bomb("16 documents of 2 MB", score, {"query": {"text": "q"}, "items": [{"text": long[:2_000_000]}] * 16})


def _rerank(rest: bytes) -> bytes:
    return b'{"model":"%s","query":"q",%s}' % (EMBEDDED.encode(), rest)


def _embeddings(given: bytes) -> bytes:
    return b'{"model":"%s","input":%s}' % (EMBEDDED.encode(), given)


def _json_values(size: int) -> Iterator[tuple[str, bytes]]:
    for value in ("{}", "[]", "7", '""', "null", "-1.5e300", '"\\u00e9"', '{"a":1}', "[[]]", "123456789", "1e999"):
        raw = value.encode()
        yield f"many {value}", b",".join([raw] * (size // (len(raw) + 1)))
    for name, text in _texts(size):
        yield f"text of {name}", b'{"text":%s}' % text
        yield f"id of {name}", b'{"text":"d","id":%s}' % text
        yield f"field of {name}", b'{"text":"d","image":%s}' % text
        yield f"metadata of {name}", b'{"text":"d","metadata":{"a":%s}}' % text
    keys = b",".join(b'"%d":1' % n for n in range(size // 11))
    yield "metadata keys", b'{"text":"d","metadata":{%s}}' % keys
    yield "the same key", b'{"text":"d","metadata":{%s}}' % b",".join([b'"a":1'] * (size // 6))
    yield "the same field", b"{%s}" % b",".join([b'"text":"d"'] * (size // 11))
    each = b'{"text":"d","metadata":{%s}}' % b",".join(b'"%d":[1,{"a":null}]' % n for n in range(40))
    yield "10,000 items with metadata", b",".join([each] * min(size // len(each), 10_000))
    ids = b"[%s]" % b",".join([b"123456"] * 400)
    yield "lists of ids", b",".join([ids] * (size // len(ids)))
    yield "digits", b"1" * size
    yield "digits of a fraction", b"0." + b"1" * size
    yield "blanks", b'{"text":"d"}' + b" " * size
    yield "nested lists", b"[" * (size // 2) + b"]" * (size // 2)
    yield "nested objects", b'{"metadata":' * (size // 13) + b"1" + b"}" * (size // 13)
    yield "no end", b'{"text":"' + b"x" * size


def _json_bodies(size: int) -> Iterator[tuple[str, bytes]]:
    yield "fields", b"{%s}" % b",".join(b'"%d":1' % n for n in range(size // 11))
    yield "items given again", b"{%s}" % b",".join([b'"items":[{}]'] * (size // 14))
    yield "a list", b"[%s]" % b",".join([b"{}"] * (size // 3))
    yield "a text", b'"' + b"x" * size + b'"'
    yield "a number", b"1" * size
    yield "blanks", b" " * size
    yield "backslashes", b'{"items":"' + b"\\" * size + b'"}'
    yield "quotes", b'"' * size
    yield "zeros", b"\0" * size


def _texts(size: int) -> Iterator[tuple[str, bytes]]:
    for text in ("x", "é", "中", "😀", "\\u00e9", "\\ud83d\\ude00", "\\n", "\\\\", " "):
        raw = text.encode()
        yield repr(text), b'"%s"' % (raw * (size // len(raw)))


def _msgpack_bodies(size: int) -> Iterator[tuple[str, bytes]]:
    head = b"\x82\xa5query\x81\xa4text\xa1q\xa5items"

    def many(value: bytes) -> bytes:
        count = size // len(value)
        return b"\xdd" + struct.pack(">I", count) + value * count

    for name, value in (("empty items", b"\x80"), ("nil", b"\xc0"), ("texts", b"\xa1a"), ("lists", b"\x91\x90")):
        yield f"many {name}", head + many(value)
        yield f"a field of many {name}", head + b"\x91\x82\xa4text\xa1d\xa1x" + many(value)
    yield "nested", head + b"\x91" * size
    yield "a count without its items", head + b"\xdd\xff\xff\xff\xff"
    yield "a map of counts", b"\xdf" + struct.pack(">I", size) + b"\xa1a\x01" * (size // 3)
    for name, text in (("x", b"x"), ("中", "中".encode())):
        raw = text * (size // len(text))
        yield f"a text of {name}", head + b"\x91\x81\xa4text\xdb" + struct.pack(">I", len(raw)) + raw
    yield "binary", head + b"\x91\x81\xa1x\xc6" + struct.pack(">I", size) + b"\0" * size
