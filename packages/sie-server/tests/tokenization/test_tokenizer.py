"""Ids joined from parts are the ids of the pair, for every tokenizer family."""

from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from sie_server.errors import SIEError
from sie_server.options import LongDocuments, Side
from sie_server.tokenization.config import LengthLimits
from sie_server.tokenization.special_tokens import SpecialTokens, int32
from sie_server.tokenization.tokenizer import TextTokenizer
from sie_testing.checkpoints import tokenizer

FAMILIES = {
    "all-MiniLM-L6-v2": "tokenizer.json",
    "ModernBERT-large": "tokenizer.json",
    "Qwen3-Reranker-0.6B": "tokenizer.json",
    "bge-reranker-v2-m3": "tokenizer.RECONSTRUCTED.json",
}
TEXTS = [
    "",
    " ",
    "What is Python?",
    "  leading and trailing  ",
    "naïve café — 日本語のテキスト 🐍👩‍👩‍👧",
    "[SEP] </s> <|im_end|> special tokens in the text",
    "tabs\tand\nnew lines\r\n",
    "NUL \x00 and other \x07 controls",
    "a" * 500,
]


@pytest.fixture(scope="module", params=FAMILIES)
def real(request: pytest.FixtureRequest, word_pieces: Path) -> Path:
    if request.param == "all-MiniLM-L6-v2":
        return word_pieces / FAMILIES[request.param]
    data: Path = request.getfixturevalue("data")
    return data / "tokenizers" / request.param / FAMILIES[request.param]


def test_pairs_equal_the_reference_encoding(real: Path) -> None:
    reference = Tokenizer.from_file(str(real))
    reference.no_truncation()
    reference.no_padding()
    ours = TextTokenizer(Tokenizer.from_file(str(real)), max_length=100_000, token_types=True)

    @settings(max_examples=60)
    @given(st.text(max_size=60), st.lists(st.text(max_size=120), min_size=1, max_size=4))
    @example("What is Python?", TEXTS)
    @example("", TEXTS)
    def check(query: str, documents: list[str]) -> None:
        for document, sequence in zip(documents, ours.encode_pairs(query, documents), strict=True):
            expected = reference.encode(query, document)
            assert sequence.ids.tolist() == expected.ids
            assert sequence.type_ids.tolist() == expected.type_ids
        for document, sequence in zip(documents, ours.encode_documents(documents), strict=True):
            assert sequence.ids.tolist() == reference.encode(document).ids

    check()


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_document_is_cut_like_the_reference_cuts_it_and_says_so(real: Path, side: Side) -> None:
    reference = Tokenizer.from_file(str(real))
    reference.no_padding()
    reference.enable_truncation(32, strategy="only_second", direction=side)
    ours = TextTokenizer(Tokenizer.from_file(str(real)), max_length=32, token_types=True)
    documents = [" ".join(f"word{i}" for i in range(n)) for n in (1, 3, 6, 30, 300)]
    limits = LengthLimits(side=side)
    sequences = ours.encode_pairs("What is Python?", documents, limits)
    for document, sequence in zip(documents, sequences, strict=True):
        assert sequence.ids.tolist() == reference.encode("What is Python?", document).ids
    assert [sequence.truncated for sequence in sequences] == [False, False, False, True, True]
    reference.enable_truncation(32, direction=side)
    for document, sequence in zip(documents, ours.encode_queries(documents, limits), strict=True):
        assert sequence.ids.tolist() == reference.encode(document).ids


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_limit_on_a_document_is_one_on_all_its_windows(side: Side) -> None:
    ours = TextTokenizer(tokenizer("bert"), max_length=10, token_types=True)
    words = [f"w{n}" for n in range(40)]
    document = " ".join(words)
    kept = words[:12] if side == "right" else words[-12:]
    limits = LengthLimits(long_documents="chunk_max", document=12, side=side)
    windows, short = ours.encode_documents([document], limits), ours.encode_documents(["w1 w2"], limits)
    found = [document[slice(*window.span)].split() for window in windows if window.span]
    assert (found[0][0], found[-1][-1], len(found)) == (kept[0], kept[-1], 2)
    assert [*dict.fromkeys(word for words_of_one in found for word in words_of_one)] == kept
    assert [window.truncated for window in (*windows, *short)] == [True, True, False]
    assert [window.ids[1:-1].tolist() for window in windows] == [
        ours.encode_documents([" ".join(part)])[0].ids[1:-1].tolist() for part in found
    ]


def test_the_query_is_kept_whole_or_refused() -> None:
    ours = TextTokenizer(tokenizer("bert"), max_length=10, token_types=True)
    [cut] = ours.encode_pairs("python " * 6, ["snakes " * 5])
    assert len(cut) == 10
    assert cut.truncated
    with pytest.raises(SIEError, match=r"'query' has 7 tokens and leaves no room .* limit for a pair is 10 tokens"):
        ours.encode_pairs("python " * 7, ["snakes"])


def test_limits_of_a_request_only_lower_the_models() -> None:
    ours = TextTokenizer(tokenizer("bert"), max_length=20, token_types=True)
    document = ["w1 " * 50]
    assert len(ours.encode_pairs("python", document, LengthLimits(12))[0]) == 12
    assert len(ours.encode_pairs("python", document, LengthLimits(1000))[0]) == 20
    assert len(ours.encode_documents(document, LengthLimits(7))[0]) == 7
    [pair] = ours.encode_pairs("python is a language", ["w1"], LengthLimits(query=2))
    assert len(pair) == 3 + 2 + 1


def test_padding_and_truncation_of_the_file_are_overridden() -> None:
    carried = tokenizer("bert")
    carried.enable_padding(length=64)
    carried.enable_truncation(8)
    ours = TextTokenizer(carried, max_length=50, token_types=True)
    assert [len(sequence) for sequence in ours.encode_documents(["w1", "w1 " * 30])] == [3, 32]


WORDS = st.lists(st.sampled_from(["python", "is", "snakes", "é", "e\u0301", "日本語", "🐍👩", "w9"]), max_size=80)


@settings(max_examples=200)
@given(
    st.lists(WORDS, min_size=1, max_size=3),
    st.sampled_from([" ", "\n", " \t  "]),
    st.integers(1, 12),
    st.booleans(),
)
def test_windows_are_full_and_cover_the_document(
    documents: list[list[str]], space: str, room: int, paired: bool
) -> None:
    words = tokenizer("bert")
    ours = TextTokenizer(words, max_length=512, token_types=True)
    texts = [space + space.join(document) + space for document in documents]
    if paired:
        sequences = ours.encode_pairs("", texts, LengthLimits(room + 3, long_documents="chunk_max"))
    else:
        sequences = ours.encode_documents(texts, LengthLimits(room + 2, long_documents="chunk_max"))
    assert [*dict.fromkeys(sequence.document for sequence in sequences)] == [*range(len(texts))]
    for number, (document, text) in enumerate(zip(documents, texts, strict=True)):
        own = [sequence for sequence in sequences if sequence.document == number]
        bodies = [sequence.ids[2 if paired else 1 : -1].tolist() for sequence in own]
        whole = words.encode(text, add_special_tokens=False).ids
        assert len(whole) == len(document)
        assert not any(sequence.truncated for sequence in own)
        for sequence, body in zip(own, bodies, strict=True):
            assert sequence.span is not None
            assert words.encode(text[slice(*sequence.span)], add_special_tokens=False).ids == body
        if len(whole) <= room:
            assert (bodies, own[0].span) == ([whole], (0, len(text)))
            continue
        # Where each window starts, counted in words before its span.
        starts = [len(text[: sequence.span[0]].split()) for sequence in own if sequence.span]
        step = max(room * 3 // 4, 1)
        assert all(len(body) == room for body in bodies)
        assert [whole[start : start + room] for start in starts] == bodies
        assert (starts[0], starts[-1]) == (0, len(whole) - room)
        assert all(later - start == step for start, later in pairwise(starts[:-1]))
        assert 0 < starts[-1] - starts[-2] <= step


@pytest.mark.parametrize("long_documents", ["truncate", "chunk_max"])
def test_many_texts_are_tokenized_as_each_alone(long_documents: LongDocuments) -> None:
    """They go through the tokenizer some at a time."""
    ours = TextTokenizer(tokenizer("bert"), max_length=12, token_types=True)
    texts = [f"w{i} " * (i * 7 % 40) for i in range(400)]
    limits = LengthLimits(long_documents=long_documents)
    every = iter(ours.encode_documents(texts, limits))
    for document, text in enumerate(texts):
        for alone in ours.encode_documents([text], limits):
            sequence = next(every)
            assert (sequence.document, sequence.span, sequence.truncated) == (document, alone.span, alone.truncated)
            assert (sequence.tokens, sequence.ids.tolist()) == (alone.tokens, alone.ids.tolist())
    assert next(every, None) is None


def test_spans_are_of_the_original_text(real: Path) -> None:
    """Whatever the tokenizer normalises, splits into bytes or drops."""
    words = ["naïve", "ﬁne", "日本", "🐍", "don't", "[SEP]", "Ångström", "ét"] * 8
    text = "  " + " \x07 ".join(words) + "  "
    ours = TextTokenizer(Tokenizer.from_file(str(real)), max_length=24, token_types=True)
    spans = [sequence.span for sequence in ours.encode_documents([text], LengthLimits(long_documents="chunk_max"))]
    assert len(spans) > 3
    assert None not in spans
    starts, ends = zip(*filter(None, spans), strict=True)
    assert not text[: starts[0]].strip()
    assert not text[ends[-1] :].strip()
    assert all(start < later <= end < last for (start, end), (later, last) in pairwise(zip(starts, ends, strict=True)))


def test_windows_and_tokens_of_a_request_are_counted_before_they_are_made() -> None:
    ours = TextTokenizer(tokenizer("bert"), max_length=20, token_types=True)
    texts = ["w1 " * 30, "w1 " * 9, "w1"]
    limits = LengthLimits(12, long_documents="chunk_max")
    windows = len(ours.encode_pairs("w1 w2", texts, limits))
    assert len(ours.encode_pairs("w1 w2", texts, replace(limits, windows=windows))) == windows
    with pytest.raises(SIEError, match=f"makes {windows} windows of 7 document tokens .* is {windows - 1} ") as raised:
        ours.encode_pairs("w1 w2", texts, replace(limits, windows=windows - 1))
    assert raised.value.extras == {"param": "options.long_documents"}
    for each in (limits, LengthLimits(12), LengthLimits(50)):
        for read in (
            partial(ours.encode_pairs, "w1 w2", texts),
            partial(ours.encode_documents, texts),
            partial(ours.encode_queries, texts),
        ):
            total = sum(map(len, read(limits=each)))
            assert sum(map(len, read(limits=replace(each, total=total)))) == total
            with pytest.raises(SIEError, match=rf"'items' has {total} tokens, .* is {total - 1} "):
                read(limits=replace(each, total=total - 1))


def test_a_long_query_is_read_no_further_than_it_may_be() -> None:
    ours = TextTokenizer(tokenizer("bert"), max_length=20, token_types=True)
    with pytest.raises(SIEError, match="'query' has more than 20 tokens"):
        ours.encode_pairs("w1 " * 10_000, ["w1"])
    assert len(ours.encode_pairs("w1 " * 10_000, ["w1"], LengthLimits(query=5))[0]) == 9
    assert sum(ours.encode_pairs.steps("w1 " * 10_000, ["w1"], LengthLimits(query=5))) < 100, (
        "characters that were read"
    )


@pytest.mark.parametrize("last_type", [0, 1])
def test_parts_joined_to_the_same_first_part_are_as_joined_one_by_one(last_type: int) -> None:
    ids = (int32([2]), int32([3, 4]), int32([3]))
    special = SpecialTokens(ids, (int32([0]), int32([0, 1]), int32([last_type])), (0, 1))
    first, seconds = int32([7, 8]), [int32([9] * length) for length in (0, 1, 5)]
    for both, second in zip(special.joiner(first, 5)(seconds), seconds, strict=True):
        for joined, expected in zip(both, special.join(first, second), strict=True):
            assert joined.tolist() == expected.tolist()
            assert joined.dtype == expected.dtype
