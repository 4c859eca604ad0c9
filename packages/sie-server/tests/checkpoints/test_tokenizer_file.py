"""A folder's tokenizer is what transformers' AutoTokenizer makes of the same files, or is refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer

from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.checkpoint import Checkpoint
from sie_server.checkpoints.load import load
from sie_server.checkpoints.source import TOKENIZER_FILES, _patterns
from sie_server.checkpoints.tokenizer_file import read_tokenizer
from sie_server.errors import Code, LoadError, SIEError, UnsupportedModelError
from sie_server.tokenization.config import LengthLimits
from sie_server.tokenization.tokenizer import TextTokenizer
from sie_testing.checkpoints import build
from sie_testing.loads import CPU

TEXTS = [
    "Hello World, the Cat's hat",
    "  Über Café naïve  ",
    "東京は ﬁne ½ 中",
    "[MASK] x [SEP]y <mask> <pad> a</s>b <s>NOTUSED z [CLS]",
    "new\nlines\t tabs  two   spaces ",
    "ENT [ENT]foo [ENT] <ent>bar",
    "it's 12345 🐍 e\u0301",
    "",
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>"]
LETTERS = sorted(set("".join(TEXTS)) | set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"))


def word_piece() -> Tokenizer:
    pieces = [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS), "the", "hello", "cat"]
    made = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(dict.fromkeys(pieces))}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return made


def bytes_merged() -> Tokenizer:
    pieces = dict.fromkeys([*SPECIAL, *pre_tokenizers.ByteLevel.alphabet(), "th", "the", "Ġt", "Ġthe"])
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    made = Tokenizer(models.BPE(vocabulary, [("t", "h"), ("th", "e"), ("Ġ", "t")]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return made


def unigram() -> Tokenizer:
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁the", "▁Hello", "[MASK]", *LETTERS]
    made = Tokenizer(models.Unigram([(piece, -float(i)) for i, piece in enumerate(pieces)], unk_id=3))
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    return made


def folder_of(path: Path, made: Tokenizer, model_type: str, settings: dict[str, Any] | None, **files: Any) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    made.save(str(path / "tokenizer.json"))
    (path / "config.json").write_text(json.dumps({"model_type": model_type}))
    if settings is not None:
        files["tokenizer_config"] = settings
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return path


def assert_equal_to_transformers(folder: Path) -> None:
    theirs = AutoTokenizer.from_pretrained(folder)
    ours = read_tokenizer(Checkpoint(folder))
    ours.tokenizer.no_padding()
    ours.tokenizer.no_truncation()
    for first in TEXTS:
        for second in (None, "The other, part [MASK]"):
            encoded, expected = ours.tokenizer.encode(first, second), theirs(first, second)
            assert encoded.ids == expected["input_ids"], (first, second)
            types = encoded.type_ids if ours.token_types else [0] * len(encoded.ids)
            assert types == expected.get("token_type_ids", [0] * len(types)), (first, second)


def token(content: str, **flags: bool) -> dict[str, Any]:
    default = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
    return {"content": content, **default, **flags}


@pytest.mark.parametrize(
    "settings",
    [
        None,
        {},
        {"do_lower_case": False},
        {"strip_accents": False},
        {"strip_accents": True, "do_lower_case": False},
        {"tokenize_chinese_chars": False},
        {"model_input_names": ["input_ids", "attention_mask"]},
        {"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": False},
        {"tokenizer_class": "DistilBertTokenizer"},
        {"tokenizer_class": "ElectraTokenizerFast"},
        {"tokenizer_class": "MPNetTokenizer"},
        {"tokenizer_class": "TokenizersBackend"},
        {"split_special_tokens": True},
        {"extra_special_tokens": ["[ENT]", "<ent>"]},
        {"additional_special_tokens": ["[ENT]"]},
        {"extra_special_tokens": {"entity_token": "<ent>"}},
        {"entity_token": "<ent>"},
        {"sep_token": "[MASK]"},
        {"cls_token": "[ENT]"},
        {"unk_token": "[MASK]"},
        {"added_tokens_decoder": {"900": token("[ENT]", lstrip=True, rstrip=True)}},
        {"added_tokens_decoder": {"900": token("ENT", normalized=True, single_word=True, special=False)}},
        {"added_tokens_decoder": {"4": token("[MASK]", lstrip=True)}},
        {"auto_map": {"AutoTokenizer": ["code.Tokenizer", None]}, "tokenizer_class": "BertTokenizer"},
    ],
    ids=str,
)
def test_tokenizer_config_takes_precedence_over_tokenizer_json(settings: dict[str, Any] | None, tmp_path: Path) -> None:
    assert_equal_to_transformers(folder_of(tmp_path, word_piece(), "bert", settings))


@pytest.mark.parametrize("model_type", ["bert", "distilbert", "electra", "mpnet"])
@pytest.mark.parametrize("lower", [True, False])
def test_a_vocabulary_is_read_as_the_class_reads_it(model_type: str, lower: bool, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, word_piece(), model_type, {"do_lower_case": lower})
    (folder / "tokenizer.json").unlink()
    vocabulary = word_piece().get_vocab()
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in sorted(vocabulary, key=vocabulary.__getitem__)))
    (folder / "added_tokens.json").write_text(json.dumps({"[ENT]": 901, "<ent>": 900}))
    assert_equal_to_transformers(folder)


@pytest.mark.parametrize("model_type", ["roberta", "qwen2", "qwen3"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"add_prefix_space": True}, {"add_bos_token": True, "add_eos_token": True, "bos_token": "<s>"}],
    ids=str,
)
@pytest.mark.parametrize("whole", [True, False])
def test_vocabulary_and_merges_are_enough(
    model_type: str, settings: dict[str, Any], whole: bool, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path, bytes_merged(), model_type, settings)
    if not whole:
        (folder / "tokenizer.json").unlink()
        bytes_merged().model.save(str(folder))
    assert_equal_to_transformers(folder)


@pytest.mark.parametrize(
    ("model_type", "settings"),
    [
        ("xlm-roberta", {}),
        ("xlm-roberta", {"add_prefix_space": False}),
        ("xlm-roberta", {"tokenizer_class": "PreTrainedTokenizerFast"}),
        ("gte", {}),
        ("camembert", {}),
        ("deberta-v2", {}),
        ("deberta-v2", {"do_lower_case": True, "split_by_punct": True, "add_prefix_space": False}),
        ("modernbert", {"tokenizer_class": "XLMRobertaTokenizer", "extra_special_tokens": ["<ent>"]}),
    ],
    ids=str,
)
def test_pieces_are_read_as_the_class_reads_them(model_type: str, settings: dict[str, Any], tmp_path: Path) -> None:
    assert_equal_to_transformers(folder_of(tmp_path, unigram(), model_type, settings))


def test_files_of_special_and_added_tokens_are_read(tmp_path: Path) -> None:
    mapped = {"mask_token": token("[MASK]", lstrip=True), "additional_special_tokens": ["[ENT]"]}
    folder = folder_of(tmp_path, word_piece(), "bert", {}, special_tokens_map=mapped, added_tokens={"<ent>": 900})
    assert_equal_to_transformers(folder)


def test_lower_case_of_sentence_transformers_comes_first(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, unigram(), "xlm-roberta", {}, sentence_bert_config={"do_lower_case": True}, modules=[])
    assert (
        read_tokenizer(Checkpoint(folder)).tokenizer.encode("HELLO").ids
        == read_tokenizer(Checkpoint(folder)).tokenizer.encode("hello").ids
    )


@pytest.mark.parametrize(
    ("model_type", "settings", "words"),
    [
        ("bert", {"tokenizer_class": "BertJapaneseTokenizer"}, "tokenizer_class 'BertJapaneseTokenizer' is not"),
        ("roberta", {"tokenizer_class": "PhobertTokenizer"}, "tokenizer_class 'PhobertTokenizer' is not"),
        ("bert", {"tokenizer_class": 1}, "tokenizer_class 1 is not the name of a class"),
        ("bert", {"truncation_side": "left"}, "truncation_side 'left' is not supported"),
        ("bert", {"do_lower_case": "yes"}, "can't be read"),
        ("bert", {"added_tokens_decoder": []}, "can't be read"),
        ("bert", {"model_input_names": 3}, "can't be read"),
        ("bert", {"model_input_names": None}, "can't be read"),
    ],
    ids=str,
)
def test_unsupported_settings_are_refused_by_name(
    model_type: str, settings: dict[str, Any], words: str, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path, word_piece(), model_type, settings)
    with pytest.raises(UnsupportedModelError, match=words):
        read_tokenizer(Checkpoint(folder))


@pytest.mark.parametrize(
    ("model_type", "file", "words"),
    [
        ("roberta", "vocab.txt", "no tokenizer.json or vocab.json and merges.txt for its RobertaTokenizer"),
        ("deberta-v2", "vocab.txt", "no tokenizer.json for its DebertaV2Tokenizer"),
        ("xlm-roberta", "sentencepiece.bpe.model", "has sentencepiece.bpe.model and no tokenizer.json"),
        ("deberta-v2", "spm.model", "has spm.model and no tokenizer.json"),
    ],
)
def test_files_that_the_class_can_not_read_are_refused_by_name(
    model_type: str, file: str, words: str, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path, word_piece(), model_type, {})
    (folder / "tokenizer.json").rename(folder / file)
    with pytest.raises(LoadError, match=words):
        read_tokenizer(Checkpoint(folder))


def backend(path: Path, **parts: Any) -> Path:
    """A folder whose tokenizer.json is taken whole, with these parts in place of its own."""
    folder = folder_of(path, word_piece(), "bert", {"tokenizer_class": "PreTrainedTokenizerFast"})
    described = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**described, **parts}))
    return folder


BPE = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}


@pytest.mark.parametrize(
    "parts",
    [
        {"model": {**BPE, "continuing_subword_prefix": "##########"}},  # panics
        {"model": {**BPE, "merges": ["a z"]}},
        {"model": {**BPE, "dropout": 0.5}},
        {"model": {"type": "Unigram", "vocab": [["<unk>", 0.0]], "unk_id": 9}},
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},  # panics
        {"normalizer": {"type": "Replace", "pattern": {"Regex": "((("}, "content": ""}},
        {"pre_tokenizer": {"type": "NoSuchKind"}},
        {"model": None},
    ],
    ids=str,
)
def test_a_tokenizer_that_can_not_be_made_is_refused(parts: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError):
        read_tokenizer(Checkpoint(backend(tmp_path, **parts)))


@pytest.mark.parametrize(
    "parts",
    [
        {"pre_tokenizer": {"type": "FixedLength", "length": 0}},  # panics
        {
            "post_processor": {
                "type": "TemplateProcessing",  # panics
                "single": [{"SpecialToken": {"id": "[X]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {},
            }
        },
        {"model": {"type": "WordPiece", "vocab": {"word": 0}, "unk_token": "[NONE]"}},
        {"model": {**BPE, "vocab": {"x": 0}, "merges": []}},
    ],
    ids=str,
)
def test_a_tokenizer_that_fails_at_every_text_is_refused(parts: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="tokenizer"):
        TextTokenizer(
            read_tokenizer(Checkpoint(backend(tmp_path, added_tokens=[], **parts))).tokenizer, 32, token_types=True
        )


def test_a_text_at_which_the_tokenizer_panics_is_an_error_of_that_request(tmp_path: Path) -> None:
    explosive = {"type": "Split", "pattern": {"Regex": "(a|a|aa)+$x"}, "behavior": "Isolated", "invert": False}
    made = read_tokenizer(Checkpoint(backend(tmp_path, pre_tokenizer=explosive))).tokenizer
    ours = TextTokenizer(made, 512, token_types=True)
    bad = "a" * 60 + "!"
    for call in (
        lambda: ours.encode_pairs("b", ["b", bad]),
        lambda: ours.encode_pairs(bad, ["b"]),
        lambda: ours.encode_documents([bad], LengthLimits(long_documents="chunk_max")),
        lambda: ours.spans(bad, [0]),
    ):
        with pytest.raises(SIEError, match="tokenizer failed on a text") as caught:
            call()
        assert caught.value.code is Code.INFERENCE_ERROR
    assert len(ours.encode_pairs("b", ["b"])) == 1


def test_tokens_without_an_embedding_are_refused_where_they_occur(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build(tmp_path, "bert")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_tokens(["[ENT]", "[ANT]"])
    tokenizer.save_pretrained(tmp_path)
    ours = load(Entry("m", folder=tmp_path), CPU, "float32").tokenizer
    assert "2 tokens of the tokenizer have no embedding, first '[ENT]' with id 600 of 600" in caplog.text
    assert len(ours.encode_pairs("python", ["is", "a"])) == 2
    for query, documents, field in (("w1", ["is", "[ENT] a"], r"items\[1\].text"), ("[ENT]", ["a"], "query")):
        with pytest.raises(SIEError, match=rf"Field '{field}' has the token '\[ENT\]' with id 600; .* 600 tokens"):
            ours.encode_pairs(query, documents)
    with pytest.raises(SIEError, match="token id 600 is outside the model's vocabulary of 600 tokens"):
        ours.encode_documents([[5, 600]])
    for text in ("[ENT]", "w1 [ANT]"):
        with pytest.raises(SIEError, match="has the token"):
            ours.encode_query(text)


def test_special_tokens_without_an_embedding_are_refused_at_load(tmp_path: Path) -> None:
    build(tmp_path, "bert")
    described = json.loads((tmp_path / "tokenizer.json").read_text())
    described["model"]["vocab"]["[LAST]"] = 600
    described["post_processor"]["special_tokens"]["[SEP]"] |= {"ids": [600], "tokens": ["[LAST]"]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    with pytest.raises(UnsupportedModelError, match=r"the tokenizer adds the token '\[LAST\]' with id 600"):
        load(Entry("m", folder=tmp_path), CPU, "float32")


def test_every_file_that_is_read_is_fetched() -> None:
    """What a folder may hold instead of a tokenizer.json is fetched from the hub, too."""
    patterns = _patterns(Entry("m"))
    for name in (*TOKENIZER_FILES, "merges.txt", "chat_template.jinja"):
        assert any(Path(name).match(pattern) for pattern in patterns), name
