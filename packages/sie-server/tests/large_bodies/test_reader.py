"""Bodies that are read piece by piece say what they say as a whole."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import msgpack
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Message

from sie_server import codec, wire
from sie_server.api.dialects.cohere import (
    ApiVersion,
    BilledUnits,
    Document,
    RankingMeta,
    RankingUsage,
    Result,
    Results,
    Tokens,
)
from sie_server.api.embed_dialects.fields import EmbeddingsElement, EmbeddingsRequest
from sie_server.errors import Code, SIEError
from sie_server.http.answer_writer import PiecewiseResponse
from sie_server.large_bodies import json_outline as large_json
from sie_server.large_bodies import msgpack_outline as large_msgpack
from sie_server.large_bodies import reader as large_read
from sie_server.large_bodies import writer as large_write
from sie_server.large_bodies.outline import ListField
from sie_server.large_bodies.reader import Reader

ITEMS = ListField("items", "candidates", wire.Item, 10_000)
INPUT = ListField("input", "texts", EmbeddingsElement, 10_000, 50_000, 50_000)
LIMIT = 10_000


@pytest.fixture(autouse=True, scope="module")
def small_pieces() -> Iterator[None]:
    """As if a few bytes were many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_json, "LONG_TEXT", 24)
        patch.setattr(large_json, "_SLICE", 17)
        patch.setattr(large_json, "_TEXT_PIECE", 16)
        patch.setattr(large_msgpack, "LONG_TEXT", 24)
        patch.setattr(large_read, "_PIECE_BYTES", 40)
        patch.setattr(large_read, "_PIECE_VALUES", 7)
        yield


def whole(raw: bytes, kind: Any, packed: bool) -> Any:
    return msgspec.to_builtins(codec.decode(raw, kind, msgpack=packed))


def pieces(raw: bytes, kind: Any, packed: bool, listed: ListField = ITEMS, most_values: int = 100_000) -> Any:
    reader = Reader(raw, listed, msgpack=packed, most_values=most_values, most_text=LIMIT, invalid=Code.INVALID_INPUT)
    body = reader.beside(kind)
    if reader.has_list:
        elements = list(reader.elements())
        setattr(body, listed.field, elements)
    return msgspec.to_builtins(body)


class Plain(msgspec.Struct):
    """An item without what is not kept."""

    id: str | None = None
    text: str | None = None


class Body(msgspec.Struct):
    query: Plain
    items: list[Plain]
    instruction: str | None = None


PLAIN = ListField("items", "candidates", Plain, 10_000)
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=60) | st.text('\\"u{}[],:d8é😀', max_size=80)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=20,
)
items = st.fixed_dictionaries({}, optional={"id": texts, "text": texts, "metadata": anything, "image": anything})
bodies = st.fixed_dictionaries(
    {"query": items, "items": st.lists(items, max_size=12)},
    optional={"instruction": texts, "other": anything, "items2": anything, "": anything},
)


def in_json(body: Any, draw: Any) -> bytes:
    indent, ascii_only = draw(st.sampled_from([None, 3])), draw(st.booleans())
    return json.dumps(body, indent=indent, ensure_ascii=ascii_only).encode()


@settings(max_examples=300)
@given(st.data())
def test_a_body_in_pieces_is_the_body(data: Any) -> None:
    body = data.draw(bodies)
    packed = data.draw(st.booleans())
    raw = msgpack.packb(body) if packed else in_json(body, data.draw)
    assert pieces(raw, Body, packed, PLAIN) == whole(raw, Body, packed)


@settings(max_examples=300)
@given(st.data())
def test_invalid_bodies_are_also_invalid_when_read_in_pieces(data: Any) -> None:
    body = data.draw(bodies)
    packed = data.draw(st.booleans())
    raw = bytearray(msgpack.packb(body) if packed else in_json(body, data.draw))
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.integers(0, len(raw) - 1))
        match data.draw(st.integers(0, 2)):
            case 0:
                del raw[at:]
            case 1:
                raw[at : at + 1] = data.draw(st.sampled_from([b"]", b"}", b",", b'"', b"\\", b"[", b"\xdd", b"\x91"]))
            case 2:
                del raw[at : at + 1]
        if not raw:
            return
    try:
        expected = whole(bytes(raw), Body, packed)
    except SIEError:
        expected = None
    try:
        found = pieces(bytes(raw), Body, packed, PLAIN)
    except SIEError:
        found = None
    # Long texts in fields that nobody reads are not looked into.
    if expected is not None or found is None:
        assert found == expected


def test_a_fault_is_named_with_its_place_in_the_whole() -> None:
    body = {"query": {"text": "q"}, "items": [{"text": "a"}] * 30 + [{"text": 7}]}
    for raw, packed in ((json.dumps(body).encode(), False), (msgpack.packb(body), True)):
        with pytest.raises(SIEError, match=r"Expected `str \| null`, got `int` - at `\$.items\[30\].text`"):
            pieces(raw, wire.ScoreRequest, packed)


def bombs() -> Iterator[Any]:
    many = 200_000
    packed = b"\x82\xa5query\x81\xa4text\xa1q\xa5items"
    plain = b'{"query":{"text":"q"},"items":['
    yield pytest.param(plain + b"{}," * many + b"{}]}", False, "at most 10000 candidates", id="empty items")
    yield pytest.param(packed + b"\xdd\xff\xff\xff\xff" + b"\x80" * 9, True, "at most 10000 candidates", id="declared")
    yield pytest.param(packed + b"\x91" * many, True, "100000 values", id="nested")
    lists = [b"\xa5items\xdc\x27\x10" + b"\x80" * 10_000] * 9
    yield pytest.param(b"\x8a\xa5query\x80" + b"".join(lists[:3]), True, "truncated", id="cut between lists")
    yield pytest.param(b"\x83\xa5query\x80" + b"".join(lists[:2]), True, None, id="twice")
    yield pytest.param(b"\x84\xa5query\x80" + b"".join(lists[:3]), True, "fields other than 'items'", id="thrice")
    yield pytest.param(b"\x8a\xa5query\x80" + b"".join(lists), True, "fields other than 'items'", id="again and again")
    yield pytest.param(plain + b"[" * many, False, "100000 values|fields other than 'items'", id="nested json")
    keys = b",".join(b'"%d":1' % n for n in range(20_000))
    yield pytest.param(plain + b'{"metadata":{' + keys + b"}}]}", False, r"items\[0\]' must hold at most", id="keys")
    yield pytest.param(b"{" + keys + b"}", False, "fields other than 'items' .* too large", id="fields")
    yield pytest.param(plain + b'{"text":"' + b"x" * 20_000 + b'"}]}', False, r"items\[0\]' must hold", id="text")
    yield pytest.param(plain + b'{"id":"' + b"\\u00e9" * 20_000 + b'"}]}', False, r"items\[0\].id'", id="id")


@pytest.mark.parametrize(("raw", "packed", "said"), [*bombs()])
def test_counts_are_refused_before_anything_is_built(raw: bytes, packed: bool, said: str) -> None:
    if said is None:
        assert pieces(raw, wire.ScoreRequest, packed) == whole(raw, wire.ScoreRequest, packed)
        return
    with pytest.raises(SIEError, match=said):
        pieces(raw, wire.ScoreRequest, packed)


@pytest.mark.parametrize("packed", [False, True])
def test_immutable_structs_are_read_in_pieces(packed: bool) -> None:
    muvera = {"num_repetitions": 3, "seed": 7}
    body = {"items": [{"text": "long " * 20}], "params": {"instruction": "i" * 99, "options": {"muvera": muvera}}}
    raw = msgspec.msgpack.encode(body) if packed else msgspec.json.encode(body)
    assert pieces(raw, wire.EncodeRequest, packed) == whole(raw, wire.EncodeRequest, packed)


@pytest.mark.parametrize("packed", [False, True])
def test_long_texts_in_metadata_count_in_full(packed: bool) -> None:
    metadata = {"a": "x" * 50, "b": ["y" * 60, {"z" * 70: 1}], "c": "short"}
    body = {"items": [{"text": "t" * 40}, {"text": "u", "metadata": metadata}, {"metadata": {}}]}
    raw = msgspec.msgpack.encode(body) if packed else msgspec.json.encode(body)
    reader = Reader(raw, ITEMS, msgpack=packed, most_values=100, most_text=LIMIT, invalid=Code.INVALID_INPUT)
    reader.beside(wire.ExtractRequest)
    found = [item.metadata for item in reader.elements()]
    whole_metadata = codec.decode(raw, wire.ExtractRequest, msgpack=packed).items[1].metadata
    assert found[0] is None
    assert found[1] is not None
    assert whole_metadata is not None
    missing = sum(map(len, whole_metadata.values())) - sum(map(len, found[1].values()))
    # What encloses a text counts with it.
    assert 50 < missing <= reader.hidden(found[1]) <= missing + 3 * 2
    assert reader.hidden(found[2] or {}) == 0


@pytest.mark.parametrize("inputs", ["one text", ["a", "b" * 50], [1, 2, 3], [[1, 2], [3]], [], [[]]])
def test_every_form_of_an_input(inputs: Any) -> None:
    raw = json.dumps({"model": "m" * 30, "input": inputs}).encode()
    assert pieces(raw, EmbeddingsRequest, False, INPUT) == whole(raw, EmbeddingsRequest, False)


def test_blanks_do_not_count() -> None:
    raw = b" " * 999 + b'{"query" : {"text":"q"},\n"items" :' + b"\t" * 999 + b'[ {"text":"a"} ,' + b" " * 999 + b"{}]}"
    assert pieces(raw, wire.ScoreRequest, False) == whole(raw, wire.ScoreRequest, False)


answers = st.one_of(
    st.builds(
        lambda entries, query: wire.ScoreResponse("m", query, entries, wire.Usage(3)),
        st.lists(
            st.builds(
                wire.ScoreEntry,
                st.text(max_size=5),
                st.floats(-5, 5),
                st.integers(0, 9),
                highlights=st.sampled_from([msgspec.UNSET, [wire.Highlight((0, 1), None, 0.5)]]),
            ),
            max_size=70,
        ),
        st.none() | st.text(max_size=3),
    ),
    st.builds(
        lambda sizes: wire.EncodeResponse(
            "m",
            [wire.EncodedItem(dense=wire.DenseVector(n, "float32", np.arange(n, dtype=np.float32) / 7)) for n in sizes],
            wire.Timing(1, 2, 3, 4, None),
            wire.Usage(1),
        ),
        st.lists(st.integers(0, 5), max_size=40),
    ),
)


@settings(max_examples=100)
@given(answers, st.booleans())
def test_an_answer_in_pieces_is_the_answer(answer: Any, packed: bool) -> None:
    field = "scores" if isinstance(answer, wire.ScoreResponse) else "items"
    made = large_write.pieces(answer, field, getattr(answer, field), msgpack=packed)
    assert b"".join(made) == codec.encode(answer, msgpack=packed)


LONG_TEXTS = ["\x01" * 9_000, "é" * 8_193, "x" * 8_192, '😀"\\' * 30_000, "y" * 70_000]


@pytest.mark.parametrize("packed", [False, True])
def test_long_texts_of_an_answer_are_unchanged(packed: bool) -> None:
    ids = [text for text in LONG_TEXTS for _ in range(5)]
    scores = wire.ScoreResponse("m", LONG_TEXTS[1], [wire.ScoreEntry(each, 0.5, 1) for each in ids], wire.Usage(1))
    items = wire.EncodeResponse(
        "m", [wire.EncodedItem(each) for each in ids], wire.Timing(1, 2, 3, 4, 5), wire.Usage(1)
    )
    results = [Result(n, 0.5, Document(text)) for n, text in enumerate(LONG_TEXTS)]
    meta = RankingMeta(ApiVersion("1"), BilledUnits(1), Tokens(1))
    for answer, field in (
        (scores, "scores"),
        (items, "items"),
        (Results("id", "m", results, RankingUsage(1, 1, 1), meta), "results"),
    ):
        parts = [*large_write.pieces(answer, field, getattr(answer, field), msgpack=packed)]
        assert b"".join(parts) == codec.encode(answer, msgpack=packed)
        # What is encoded in one call holds the interpreter.
        assert max(map(len, parts)) <= 100_000


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("shape", [(300, 100), (20_001,), (2, 2, 9_000), (9_000, 1), (1, 9_000), (8_193,)])
def test_large_arrays_of_an_answer_are_encoded_in_parts(shape: tuple[int, ...], dtype: str, packed: bool) -> None:
    value = (np.arange(np.prod(shape)) % 1_000 / 3).astype(dtype).reshape(shape)
    sparse = wire.SparseVector(9, "float32", np.arange(20_000, dtype=np.int32), np.ones(20_000, np.float32))
    item = wire.EncodedItem("a", sparse=sparse, multivector=wire.MultiVector(shape[-1], shape[0], dtype, value))
    answer = wire.EncodeResponse("m", [item] * 2, wire.Timing(1, 2, 3, 4, 5), wire.Usage(1))
    parts = [*large_write.pieces(answer, "items", answer.items, msgpack=packed)]
    assert b"".join(parts) == codec.encode(answer, msgpack=packed)
    # What is encoded in one call holds the interpreter.
    assert max(map(len, parts)) <= 200_000


def test_a_fast_reader_of_a_large_answer_does_not_keep_others_waiting() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def send(message: Message) -> None:
        pass  # the socket takes it at once

    async def answer() -> None:
        task = asyncio.create_task(others())
        await PiecewiseResponse([b"x"] * 50, {}, "text/plain")({}, receive, send)
        task.cancel()

    async def receive() -> Message:
        raise AssertionError

    asyncio.run(answer())
    assert turns >= 50


def test_invalid_text_does_not_prevent_an_answer() -> None:
    assert codec.encode({"name": "a\udcff", "b": [("\udcff",)]}, msgpack=False) == b'{"name":"a?","b":[["?"]]}'
    assert msgpack.unpackb(codec.encode({"name": "a\udcff"}, msgpack=True)) == {"name": "a?"}
