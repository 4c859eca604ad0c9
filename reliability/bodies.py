"""Request bodies that are expensive for a server, within the size limit, for every route and both encodings."""

import json
import random
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from sie_testing.serving import EMBEDDED

JSON, MSGPACK = "application/json", "application/msgpack"
Make = Callable[[], bytes]
_RERANK = b'{"model":"%s","query":"q","documents":[%%s]}' % EMBEDDED.encode()
# Routes of other APIs, with the body around the elements of their list.
_FOREIGN = (
    ("/rerank", b'{"query":"q","texts":[%s]}'),
    ("/embed", b'{"inputs":[%s]}'),
    ("/v2/embed", b'{"model":"m","texts":[%s]}'),
    ("/predict", b'{"inputs":[%s]}'),
    ("/tokenize", b'{"inputs":[%s]}'),
    ("/decode", b'{"ids":[%s]}'),
    ("/invocations", b'{"inputs":[%s]}'),
)
_EMBEDDINGS = b'{"model":"%s","input":%%s}' % EMBEDDED.encode()


class Bomb(NamedTuple):
    """A request. body: makes its body. computed: whether it is valid and takes long on the device."""

    name: str
    path: str
    body: Make
    encoding: str = JSON
    accept: str = JSON
    computed: bool = False


def bombs(size: int) -> Iterator[Bomb]:
    """Yield invalid or costly requests of about `size` bytes each."""
    for route in ("score", "encode", "extract"):
        path = f"/v1/{route}/{EMBEDDED}"
        for name, values in _json_values(size):
            yield Bomb(f"{route} {name}", path, within(b'{"query":{"text":"q"},"items":[%s]}', values))
        for name, raw in _msgpack_bodies(size):
            yield Bomb(f"{route} msgpack {name}", path, raw, MSGPACK)
        for name, raw in _json_bodies(size):
            yield Bomb(f"{route} {name}", path, raw)
    for name, values in _json_values(size):
        yield Bomb(f"rerank {name}", "/v1/rerank", within(_RERANK, values))
        yield Bomb(f"embeddings {name}", "/v1/embeddings", within(_EMBEDDINGS, within(b"[%s]", values)))
        for path, around in _FOREIGN:
            yield Bomb(f"{path} {name}", path, within(around, values))
    for name, text in _texts(size):
        yield Bomb(f"rerank query of {name}", "/v1/rerank", within(b'{"model":"m","documents":["d"],"query":%s}', text))
        yield Bomb(f"rerank model of {name}", "/v1/rerank", within(b'{"model":%s,"documents":["d"],"query":"q"}', text))
        yield Bomb(f"embeddings input of {name}", "/v1/embeddings", within(_EMBEDDINGS, text))
        yield Bomb(f"embeddings model of {name}", "/v1/embeddings", within(b'{"input":"x","model":%s}', text))
        path = f"/v1/score/{EMBEDDED}"
        for field, around in (
            ("profile", b'"options":{"profile":%s}'),
            ("instruction", b'"instruction":%s'),
            ("key", b"%s:1"),
        ):
            body = within(b'{"query":{"text":"q"},"items":[{"text":"d"}],' + around + b"}", text)
            yield Bomb(f"score {field} of {name}", path, body)
        id_ = within(b'{"query":{"text":"q","id":%s},"items":[{"text":"d"}]}', text)
        yield Bomb(f"score query id of {name}", path, id_)
    for name, raw in _json_bodies(size):
        yield Bomb(f"rerank {name}", "/v1/rerank", raw)
        yield Bomb(f"embeddings {name}", "/v1/embeddings", raw)
        for path, _ in _FOREIGN:
            yield Bomb(f"{path} {name}", path, raw)


def computed() -> Iterator[Bomb]:
    """Requests that are answered, and whose answers are large."""
    score, encode = f"/v1/score/{EMBEDDED}", f"/v1/encode/{EMBEDDED}"

    def bomb(name: str, path: str, body: object, accept: str = JSON) -> Bomb:
        return Bomb(name, path, lambda: json.dumps(body).encode(), JSON, accept, computed=True)

    many = [{"text": "a", "id": f"document {n}", "metadata": {"n": n, "of": ["a", "b"]}} for n in range(10_000)]
    yield bomb("score 10,000 items", score, {"query": {"text": "q"}, "items": many})
    yield bomb("rerank 10,000 documents", "/v1/rerank", {"model": EMBEDDED, "query": "q", "documents": ["a"] * 10_000})
    yield bomb("embeddings of 10,000 texts", "/v1/embeddings", {"model": EMBEDDED, "input": ["a"] * 10_000})
    kinds = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
    yield bomb("/v2/embed 10,000 texts", "/v2/embed", {"texts": ["a"] * 10_000, "embedding_types": kinds})
    yield bomb("/embed 10,000 texts", "/embed", {"inputs": ["a"] * 10_000})
    yield bomb("/embed_all 100 texts", "/embed_all", {"inputs": ["a " * 250] * 100})
    yield bomb("/predict 10,000 pairs", "/predict", {"inputs": [["q", "a"]] * 10_000})
    yield bomb("/tokenize 400,000 characters", "/tokenize", {"inputs": ["a " * 200_000]})
    yield bomb("/decode 200,000 ids", "/decode", {"ids": [2000] * 200_000})
    spans = {"query": "a " * 200, "documents": ["a"] * 300, "relevant_spans": {"threshold": 0.0}}
    yield bomb("/v2/rerank relevant spans of 300 documents", "/v2/rerank", spans)
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


def within(around: bytes, value: Make) -> Make:
    """The value in the place of `%s`."""
    return lambda: around % value()


def _times(raw: bytes, size: int, separator: bytes = b"") -> Make:
    return lambda: separator.join([raw] * max(size // (len(raw) + len(separator)), 1))


def _json_values(size: int) -> Iterator[tuple[str, Make]]:
    for value in ("{}", "[]", "7", '""', "null", "-1.5e300", '"\\u00e9"', '{"a":1}', "[[]]", "123456789", "1e999"):
        yield f"many {value}", _times(value.encode(), size, b",")
    for name, text in _texts(size):
        yield f"text of {name}", within(b'{"text":%s}', text)
        yield f"id of {name}", within(b'{"text":"d","id":%s}', text)
        yield f"field of {name}", within(b'{"text":"d","image":%s}', text)
        yield f"metadata of {name}", within(b'{"text":"d","metadata":{"a":%s}}', text)
    metadata = b'{"text":"d","metadata":{%s}}'
    yield "metadata keys", within(metadata, lambda: b",".join(b'"%d":1' % n for n in range(size // 11)))
    yield "the same key", within(metadata, _times(b'"a":1', size, b","))
    yield "the same field", within(b"{%s}", _times(b'"text":"d"', size, b","))
    each = metadata % b",".join(b'"%d":[1,{"a":null}]' % n for n in range(40))
    yield "10,000 items with metadata", _times(each, min(size, 10_000 * len(each)), b",")
    yield "lists of ids", _times(b"[%s]" % b",".join([b"123456"] * 400), size, b",")
    yield "digits", _times(b"1", size)
    yield "digits of a fraction", within(b"0.%s", _times(b"1", size))
    yield "blanks", within(b'{"text":"d"}%s', _times(b" ", size))
    yield "nested lists", lambda: b"[" * (size // 2) + b"]" * (size // 2)
    yield "nested objects", lambda: b'{"metadata":' * (size // 13) + b"1" + b"}" * (size // 13)
    yield "no end", within(b'{"text":"%s', _times(b"x", size))


def _json_bodies(size: int) -> Iterator[tuple[str, Make]]:
    yield "fields", within(b"{%s}", lambda: b",".join(b'"%d":1' % n for n in range(size // 11)))
    yield "items given again", within(b"{%s}", _times(b'"items":[{}]', size, b","))
    yield "a list", within(b"[%s]", _times(b"{}", size, b","))
    yield "a text", within(b'"%s"', _times(b"x", size))
    yield "a number", _times(b"1", size)
    yield "blanks", _times(b" ", size)
    yield "backslashes", within(b'{"items":"%s"}', _times(b"\\", size))
    yield "quotes", _times(b'"', size)
    yield "zeros", _times(b"\0", size)


def _texts(size: int) -> Iterator[tuple[str, Make]]:
    for text in ("x", "é", "中", "😀", "\\u00e9", "\\ud83d\\ude00", "\\n", "\\\\", " "):
        yield repr(text), within(b'"%s"', _times(text.encode(), size))


def _msgpack_bodies(size: int) -> Iterator[tuple[str, Make]]:
    head = b"\x82\xa5query\x81\xa4text\xa1q\xa5items"

    def many(before: bytes, value: bytes) -> Make:
        count = size // len(value)
        return lambda: before + b"\xdd" + struct.pack(">I", count) + value * count

    def long(before: bytes, kind: bytes, raw: bytes) -> Make:
        count = size // len(raw)
        return lambda: before + kind + struct.pack(">I", count * len(raw)) + raw * count

    for name, value in (("empty items", b"\x80"), ("nil", b"\xc0"), ("texts", b"\xa1a"), ("lists", b"\x91\x90")):
        yield f"many {name}", many(head, value)
        yield f"a field of many {name}", many(head + b"\x91\x82\xa4text\xa1d\xa1x", value)
    yield "nested", lambda: head + b"\x91" * size
    yield "a count without its items", lambda: head + b"\xdd\xff\xff\xff\xff"
    yield "a map of counts", lambda: b"\xdf" + struct.pack(">I", size) + b"\xa1a\x01" * (size // 3)
    for name, text in (("x", b"x"), ("中", "中".encode()), ("a control character", b"\1")):
        yield f"a text of {name}", long(head + b"\x91\x81\xa4text", b"\xdb", text)
        yield f"an id of {name}", long(head + b"\x91\x82\xa4text\xa1d\xa2id", b"\xdb", text)
    each = b"\x82\xa4text\xa1d\xa2id\xda" + struct.pack(">H", 3000) + b"\1" * 3000
    count = min(size // len(each), 10_000)
    yield "ids of control characters", lambda: head + b"\xdd" + struct.pack(">I", count) + each * count
    yield "binary", long(head + b"\x91\x81\xa1x", b"\xc6", b"\0")
