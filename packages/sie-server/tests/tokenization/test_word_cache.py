"""Words remembered have the ids that the tokenizer gives their texts."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from string import ascii_letters, digits
from threading import Event

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordPiece

from sie_server.catalog.catalog import Entry
from sie_server.engine.calls import ScoreCall
from sie_server.engine.scheduling_params import SchedulingParams
from sie_server.errors import Code, SIEError
from sie_server.stepwise import Steps
from sie_server.tokenization import word_cache as words
from sie_server.tokenization.word_cache import WordCache
from sie_testing.engine_loop import running

# Few characters, so that they meet: accents alone and composed, a final sigma, other spaces, what is not Latin.
ALPHABET = "aBé́ςΣİß.,'[]_ \t\n\r\x00\x07\u00a0\u2003\u200d\u0327ﬁ½中日각ᄀ가가🐍"
some_text = st.text(ALPHABET, max_size=40) | st.text(max_size=40)


def bert() -> Tokenizer:
    """A tokenizer as BERT's, whose tokens are the letters of the alphabet above and of ASCII."""
    letters = dict.fromkeys(ALPHABET + ascii_letters + digits)
    tokens = dict.fromkeys(["[UNK]", *letters, *(f"##{letter}" for letter in letters)])
    made = Tokenizer(WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(["[SEP]", AddedToken("[MASK]", lstrip=True, rstrip=True)])
    return made


def reference(made: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [made.encode(text, add_special_tokens=False).ids for text in texts]


def given_by(ours: WordCache, texts: list[str]) -> list[list[int]]:
    return [ids.tolist() for ids in ours.encode(texts)]


@settings(max_examples=200)
@given(st.lists(st.lists(some_text, max_size=6).map(" ".join), min_size=1, max_size=4))
@example(["[SEP] a[SEP]b [MASK]", "  ", "", "a" * 500, "the the"])
def test_ids_equal_those_of_the_tokenizer_when_new_and_when_cached(texts: list[str]) -> None:
    made = bert()
    ours = WordCache(made)
    assert ours.enabled
    for _ in range(3):
        assert given_by(ours, texts) == reference(made, texts)


@settings(max_examples=200)
@given(st.lists(st.lists(some_text, max_size=6).map(" ".join), min_size=1, max_size=4), st.integers(1, 9))
@example(["a" * 300 + " b", "a b\nc\td"], 2)
def test_a_text_read_in_parts_has_the_same_leading_ids(texts: list[str], most: int) -> None:
    made = bert()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(words, "_BATCH_CHARACTERS", 8)
        patch.setattr(words, "_CHARACTERS_PER_TOKEN", 2)
        whole = given_by(WordCache(made), texts)
        first = [ids.tolist() for ids in WordCache(made).encode(texts, most)]
    assert whole == reference(made, texts)
    for ids, all_ids in zip(first, whole, strict=True):
        assert ids == all_ids[: len(ids)]
        assert len(ids) >= min(most, len(all_ids))


def test_repeated_words_are_looked_up() -> None:
    made = bert()
    ours = WordCache(made)
    texts = ["the cat sat", "on the mat. the end"]
    expected = reference(made, texts)
    for _ in range(7):  # a new word or more each time
        assert given_by(ours, texts) == expected
    ours._tokenizer = None
    assert given_by(ours, texts) == expected


def test_a_real_tokenizer_gives_the_same_ids_to_real_words(word_pieces: Path) -> None:
    made = Tokenizer.from_file(str(word_pieces / "tokenizer.json"))
    made.no_padding()
    made.no_truncation()
    ours = WordCache(made)
    assert ours.enabled

    @settings(max_examples=200)
    @given(st.lists(some_text | st.sampled_from(["reranking", "it's", "U.S.", "[MASK]"]), max_size=20).map(" ".join))
    def check(text: str) -> None:
        assert given_by(ours, [text, text]) == reference(made, [text, text])

    check()


@settings(max_examples=200)
@given(some_text, some_text)
def test_listed_normalizers_and_splitters_treat_words_independently(left: str, right: str) -> None:
    """The assumption of `WordCache` about every normalizer and splitter in its tables."""
    for name in words._NORMALIZERS:
        normalize = getattr(normalizers, name)().normalize_str
        assert normalize(f"{left} {right}") == f"{normalize(left)} {normalize(right)}", name
    for name in words._SPLITTERS:
        split = getattr(pre_tokenizers, name)().pre_tokenize_str
        assert [word for word, _ in split(f"{left} {right}")] == [
            word for part in (left, right) for word, _ in split(part)
        ], name


def test_a_tokenizer_that_reads_across_spaces_gets_whole_texts() -> None:
    made = bert()
    assert WordCache(made).enabled
    made.add_tokens([AddedToken("new york", normalized=True)])
    assert not WordCache(made).enabled
    assert given_by(WordCache(made), ["in new york"]) == reference(made, ["in new york"])
    for part in (pre_tokenizers.ByteLevel(), pre_tokenizers.Metaspace()):
        made = bert()
        made.pre_tokenizer = part  # type: ignore[assignment]
        assert not WordCache(made).enabled
    made = bert()
    made.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace("a b", "c")])  # type: ignore[assignment]
    assert not WordCache(made).enabled


@pytest.mark.parametrize("apart", [True, False])
def test_a_long_text_that_a_normalizer_makes_many_times_as_long_is_refused(apart: bool) -> None:
    made = bert()
    made.normalizer = normalizers.NFKC()
    if not apart:
        made.pre_tokenizer = pre_tokenizers.Metaspace()
    ours = WordCache(made)
    assert ours.enabled is apart
    for text in ("\ufdfa" * 65_536, "中" * 70_000, "ᾂé" * 35_000, "\u0301" * 70_000, "a" * 700_000):
        assert len(given_by(ours, [text])[0])
    for text in ("\ufdfa" * 65_537, "b" * 10_000 + "\ufdfb" * 90_000):
        with pytest.raises(SIEError, match=r"characters grows to more than 4 times its length") as caught:
            given_by(ours, ["a b", text])
        assert caught.value.code is Code.INVALID_INPUT


def test_memory_is_bounded_and_threads_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "_MAX_CACHED_CHARACTERS", 500)
    made = bert()
    ours = WordCache(made)
    texts = [" ".join(f"{start}w{i}" for i in range(20)) for start in range(40)]
    with ThreadPoolExecutor(4) as pool:
        for ids in pool.map(lambda start: given_by(ours, texts[start:]), [0, 10, 20, 30] * 5):
            assert ids == reference(made, texts)[len(texts) - len(ids) :]
    ours.encode(["x" * 501])
    assert not ours._ids


def test_a_small_request_does_not_wait_for_the_tokenizing_of_others(models: Path) -> None:
    entry = Entry("bert", folder=models / "bert")
    with running({entry.id: entry}, tokenizer_threads=1) as handle:
        handle.model(entry.id)
        over = Event()

        def busy() -> Steps[bool]:
            yield 0
            return over.wait(30)

        waiting = asyncio.run_coroutine_threadsafe(
            handle.engine._tokenizers.run(SchedulingParams(), busy()), handle._loop
        )
        try:
            small = handle.score(entry.id, "a", ["b c", "d"])
            large = asyncio.run_coroutine_threadsafe(
                handle.engine.score(ScoreCall(entry.id, "a", ["b c", "d " * 10_000])), handle._loop
            )
            with pytest.raises(TimeoutError):
                large.result(0.2)
        finally:
            over.set()
        assert waiting.result(60)
        assert large.result(60).scores[0] == small.scores[0]
