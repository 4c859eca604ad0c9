"""The MessagePack codec against `msgpack` and `msgpack_numpy`, which the SDK does not use."""

from contextlib import suppress
from enum import Enum

import msgpack
import msgpack_numpy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sie_sdk._core import codec
from sie_sdk.errors import RequestError

DTYPES = [o + n for o in "<>" for n in ("f2", "f4", "f8", "i2", "i4", "i8", "u2", "u4", "u8")] + ["|b1", "|i1", "|u1"]
arrays = st.sampled_from(DTYPES).flatmap(lambda d: hnp.arrays(np.dtype(d), hnp.array_shapes(min_dims=0, min_side=0)))
GOOD = {b"nd": True, b"type": "<f4", b"kind": b"", b"shape": [2], b"data": bytes(8)}


def decoded(value):
    return codec.decode(msgpack.packb({"x": value}), "encode")["x"]


@given(arrays)
def test_reads_what_the_reference_writes(array):
    array = np.asarray(array)
    got = codec.decode(msgpack.packb({"x": [array]}, default=msgpack_numpy.encode), "encode")["x"][0]
    np.testing.assert_array_equal(got, array, strict=True)


@given(arrays)
def test_writes_what_the_reference_writes(array):
    array = np.asarray(array)
    assert codec.encode({"x": array}) == msgpack.packb({"x": array}, default=msgpack_numpy.encode)


@pytest.mark.parametrize("scalar", [np.float32(1.5), np.int64(-3), np.bool_(True)])
def test_scalars(scalar):
    content = msgpack.packb({"x": scalar}, default=msgpack_numpy.encode)
    assert codec.encode({"x": scalar}) == content
    got = codec.decode(content, "encode")["x"]
    assert type(got) is type(scalar)
    assert got == scalar


def test_array_that_is_not_contiguous():
    array = np.arange(12, dtype="<f4").reshape(3, 4).T[::2]
    sent = msgpack.unpackb(codec.encode({"x": array}), object_hook=msgpack_numpy.decode)["x"]
    np.testing.assert_array_equal(sent, array, strict=True)


def test_arrays_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        decoded(GOOD)[0] = 1.0


def test_a_map_with_text_keys_is_not_an_array():
    value = {key.decode(): entry for key, entry in GOOD.items()}
    assert decoded(value) == value


@pytest.mark.parametrize(
    "changes",
    [
        {b"type": "|O"},
        {b"type": "<c8"},
        {b"type": "<M8[s]"},
        {b"type": "|V8"},
        {b"type": "f4"},
        {b"type": "|f4"},
        {b"type": b"<f4"},
        {b"type": ["<f4"]},
        {b"type": None},
        {b"nd": 1},
        {b"nd": False},
        {b"nd": None},
        {b"kind": b"O"},
        {b"kind": ""},
        {b"shape": [3]},
        {b"shape": [-2]},
        {b"shape": [2.0]},
        {b"shape": [True, 2]},
        {b"shape": 2},
        {b"shape": None},
        {b"shape": [2] + [1] * 8},
        {b"shape": [0, 2**63], b"data": b""},
        {b"shape": [2**62, 2**62]},
        {b"data": bytes(7)},
        {b"data": bytes(9)},
        {b"data": "12345678"},
        {b"data": [0] * 8},
        {b"more": 1},
        {"more": 1},
    ],
    ids=repr,
)
def test_an_invalid_array(changes):
    with pytest.raises(RequestError, match=r"^Malformed encode MessagePack response \(.+\)$"):
        decoded(GOOD | changes)


@pytest.mark.parametrize("missing", list(GOOD))
def test_array_with_an_entry_missing(missing):
    with pytest.raises(RequestError, match="Malformed encode MessagePack response"):
        decoded({key: value for key, value in GOOD.items() if key != missing})


def test_complex_scalar_is_refused():
    with pytest.raises(RequestError, match="Malformed encode"):
        codec.decode(msgpack.packb({"nd": {b"complex": True, b"data": "1j"}}), "encode")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xc1",
        b"{}",
        b"<html>",
        b"\xc0",
        b"\x90",
        b"\x81\xa1a",
        b"\x80\x80",
        b"\x81\xa1a\xa1\xff",
        b"\x81\xa1a" + b"\x91" * 5000 + b"\xc0",
        b"\x81\xa1a\xc6\xff\xff\xff\xff",
    ],
)
def test_a_response_that_is_not_a_map(content):
    with pytest.raises(RequestError, match="Malformed score MessagePack response"):
        codec.decode(content, "score")


@given(st.binary() | st.binary().map(lambda junk: b"\x81\xa1x\x85\xc4\x02nd\xc3\xc4\x04type" + junk))
def test_any_bytes_are_a_map_or_a_request_error(content):
    with suppress(RequestError):
        assert isinstance(codec.decode(content, "score"), dict)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_bodies_survive(body):
    assert msgpack.unpackb(codec.encode(body)) == body
    assert codec.decode(msgpack.packb(body), "score") == body


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            {"items": [{"text": "fine"}, {"text": "ab\ud83d"}]},
            r"^items\[1\]\.text is not valid Unicode: lone surrogate U\+D83D at character 2$",
        ),
        ({"query": {"text": "\udc00"}}, r"^query\.text is not"),
        ({"query": {"id": "\udc00"}}, r"^query\.id is not"),
        ({"params": {"options": {"profile": "x\udfff"}}}, r"^params\.options\.profile is not"),
        ({"items": [{"metadata": {"k\ud800": 1}}]}, r"^the key items\[0\]\.metadata\.k\\ud800 is not"),
        ({"items": [{"multivector": np.zeros(2)}, {"text": "\ud800"}]}, r"^items\[1\]\.text is not"),
    ],
)
def test_text_that_is_not_unicode(body, message):
    with pytest.raises(ValueError, match=message) as caught:
        codec.encode(body)
    str(caught.value).encode()


def test_surrogate_pair_that_python_joined_is_text():
    assert msgpack.unpackb(codec.encode({"text": "\U0001f600\x00"})) == {"text": "\U0001f600\x00"}


@pytest.mark.parametrize("value", [object(), np.array([object()]), np.zeros(1, "c8"), np.datetime64("2020-01-01")])
def test_what_a_request_can_not_carry(value):
    with pytest.raises(TypeError, match="a request can't contain a"):
        codec.encode({"metadata": value})


class Written(str):
    def __str__(self) -> str:
        return "for people"


@pytest.mark.parametrize("text", [np.str_("text"), Written("text"), Enum("Names", {"A": "text"}, type=str).A])
def test_texts_of_other_types_are_texts(text):
    assert codec.decode(codec.encode({"query": {"text": text}, "items": [text], text: 1}), "a") == {
        "query": {"text": "text"},
        "items": ["text"],
        "text": 1,
    }
