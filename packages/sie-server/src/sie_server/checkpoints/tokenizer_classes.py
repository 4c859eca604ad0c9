"""The tokenizer classes of transformers: which one a checkpoint names, and how each builds a tokenizer.

Classes with their own constructor read only the vocabulary of `tokenizer.json`. The class and `tokenizer_config.json`
determine normalizer and pre-tokenizer (transformers 5, `TokenizersBackend.convert_to_native_format`).
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from sie_server.checkpoints.checkpoint import Checkpoint
from sie_server.checkpoints.files import check_file
from sie_server.errors import UnsupportedModelError

_BOTH = ("input_ids", "token_type_ids", "attention_mask")
_PLAIN = ("input_ids", "attention_mask")
_VOCAB = ("vocab.txt",)
_MERGES = ("vocab.json", "merges.txt")
# How Qwen2 splits a text (Qwen2Tokenizer of transformers).
_QWEN2 = (
    r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"""
    r"""|\s*[\r\n]+|\s+(?!\S)|\s+"""
)
_BERT = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
_DEBERTA = {"bos_token": "[CLS]", "eos_token": "[SEP]", **_BERT}
_ROBERTA = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "cls_token": "<s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}
_GEMMA = {
    "unk_token": "<unk>",
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}
_QWEN = dict.fromkeys(("unk_token", "eos_token", "pad_token"), "<|endoftext|>")


@dataclass(frozen=True, slots=True)
class Given:
    """The parts of a tokenizer.

    content: of `tokenizer.json`, if there is one; described: the same, parsed. settings: of `tokenizer_config.json`.
    special: tokens by role.
    """

    checkpoint: Checkpoint
    content: bytes | None
    described: Mapping[str, Any] | None
    settings: Mapping[str, Any]
    special: Mapping[str, str]

    @property
    def model(self) -> Mapping[str, Any]:
        """The model in `tokenizer.json`, or else in `vocab.json` and `merges.txt`."""
        if self.described is not None:
            model: Mapping[str, Any] = self.described["model"]
            return model
        vocabulary, merges = models.BPE.read_file(*map(self.path, _MERGES))
        return {"vocab": vocabulary, "merges": merges}

    def path(self, name: str) -> str:
        """The path of a file for the library to read.

        Raises:
            LoadError: as `check_file`.
        """
        path = self.checkpoint.folder / name
        check_file(path)
        return str(path)

    @property
    def charsmap(self) -> bytes | None:
        """SentencePiece's table of characters, from the normalizer in `tokenizer.json`."""
        normalizer = (self.described or {}).get("normalizer") or {}
        parts = normalizer["normalizers"] if normalizer.get("type") == "Sequence" else [normalizer]
        for part in parts:
            if part.get("type") == "Precompiled" and "precompiled_charsmap" in part:
                return base64.b64decode(part["precompiled_charsmap"])
        return None


@dataclass(frozen=True, slots=True)
class TokenizerClass:
    """A tokenizer class of transformers.

    build: makes the tokenizer, before special tokens are added. around: makes the post-processor that adds tokens
    around texts; None: as in `tokenizer.json`. files: sufficient in place of `tokenizer.json`. inputs: the inputs of a
    model that it produces. special: default special tokens by role; extra: default tokens without a role.
    """

    build: Callable[[Given], Tokenizer]
    around: Callable[[Tokenizer, Given], Any] | None = None
    files: tuple[str, ...] = ()
    inputs: tuple[str, ...] = _PLAIN
    special: Mapping[str, str] = field(default_factory=dict)
    extra: tuple[str, ...] = ()

    def vocabulary_in(self, checkpoint: Checkpoint) -> bool:
        """Whether the checkpoint has the files that the class can read in place of `tokenizer.json`."""
        return bool(self.files) and all(map(checkpoint.has, self.files))


def class_of(
    settings: Mapping[str, Any], config: Mapping[str, Any], described: Mapping[str, Any] | None
) -> tuple[str, TokenizerClass]:
    """The name and the class that `tokenizer_config.json` and `config.json` together determine.

    described: the content of `tokenizer.json`.

    Raises:
        UnsupportedModelError: the class is not supported.
    """
    named = settings.get("tokenizer_class") or config.get("tokenizer_class")
    own = _OWN.get(config.get("model_type", ""))
    if named is not None and not isinstance(named, str):
        raise UnsupportedModelError(f"tokenizer_class {named!r} is not the name of a class")
    code = settings.get("auto_map") is not None
    name = (named or own or "TokenizersBackend").removesuffix("Fast")
    # A model of another type than its own class builds can only be taken from the file as a whole.
    merged = ((described or {}).get("model") or {}).get("type", "BPE") == "BPE"
    wrong = config.get("model_type") in _NAMED_WRONGLY and merged
    if own is not None and not code and (own == "TokenizersBackend" or wrong):
        name = own
    if name not in CLASSES:
        raise UnsupportedModelError(
            f"tokenizer_class {named!r} is not supported; supported: {', '.join(CLASSES)} and PreTrainedTokenizerFast. "
            "Where a fast tokenizer gives the same tokens, save it as tokenizer.json with tokenizer_class "
            "'PreTrainedTokenizerFast'"
        )
    return name, CLASSES[name]


def _backend(given: Given) -> Tokenizer:
    assert given.content is not None
    if dropout := given.model.get("dropout"):
        raise UnsupportedModelError(f"tokenizer.json: dropout {dropout} makes tokenization random; supported: none")
    return Tokenizer.from_buffer(given.content)


def _word_piece(given: Given) -> Tokenizer:
    unknown = given.special["unk_token"]
    if given.described is not None:
        vocabulary = models.WordPiece(_by_token(given.model["vocab"]), unk_token=unknown)
    else:
        vocabulary = models.WordPiece.from_file(given.path(*_VOCAB), unk_token=unknown)
    tokenizer = Tokenizer(vocabulary)
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=given.settings.get("tokenize_chinese_chars", True),
        strip_accents=given.settings.get("strip_accents"),
        lowercase=given.settings.get("do_lower_case", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _roberta(given: Given) -> Tokenizer:
    tokenizer = Tokenizer(_merged(given.model, continuing_subword_prefix="", end_of_word_suffix="", fuse_unk=False))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=given.settings.get("add_prefix_space", False))
    return tokenizer


def _qwen2(given: Given) -> Tokenizer:
    tokenizer = Tokenizer(_merged(given.model, continuing_subword_prefix="", end_of_word_suffix="", fuse_unk=False))
    tokenizer.normalizer = normalizers.NFC()
    prefix = given.settings.get("add_prefix_space")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN2), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False if prefix is None else prefix, use_regex=False),
        ]
    )
    return _carrying(tokenizer, given)


def _gemma(given: Given) -> Tokenizer:
    tokenizer = Tokenizer(_merged(given.model, fuse_unk=True, unk_token=given.special["unk_token"], byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    return _carrying(tokenizer, given)


def _xlm_roberta(given: Given) -> Tokenizer:
    return _pieces(given, unknown=3)


def _camembert(given: Given) -> Tokenizer:
    tokens = [token for token, _ in given.model["vocab"]]
    unknown = given.special["unk_token"]
    return _pieces(given, tokens.index(unknown) if unknown in tokens else 0)


def _deberta(given: Given) -> Tokenizer:
    pieces = _weighed(given.model["vocab"])
    unknown = given.special["unk_token"], 0.0
    at = pieces.index(unknown) if unknown in pieces else given.settings.get("unk_id", 1)
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=at, byte_fallback=False))
    lower = [normalizers.Lowercase()] if given.settings.get("do_lower_case", False) else []
    tokenizer.normalizer = normalizers.Sequence(
        [
            *lower,
            normalizers.Replace(Regex(r"\s{2,}|[\n\r\t]"), " "),
            normalizers.NFC(),
            normalizers.Strip(left=False, right=True),
        ]
    )
    split = [pre_tokenizers.Punctuation(behavior="isolated")] if given.settings.get("split_by_punct", False) else []
    scheme = "always" if given.settings.get("add_prefix_space", True) else "first"
    metaspace = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*split, metaspace])
    return tokenizer


def _pieces(given: Given, unknown: int) -> Tokenizer:
    """The SentencePiece tokenizer of XLM-R and CamemBERT. unknown: id of its unknown token."""
    tokenizer = Tokenizer(models.Unigram(_weighed(given.model["vocab"]), unk_id=unknown, byte_fallback=False))
    if (table := given.charsmap) is not None:
        tokenizer.normalizer = normalizers.Precompiled(table)
    scheme = "always" if given.settings.get("add_prefix_space", True) else "never"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme)]
    )
    return tokenizer


def _merged(model: Mapping[str, Any], **settings: Any) -> models.BPE:
    merges = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in model["merges"]]
    return models.BPE(_by_token(model["vocab"]), merges, dropout=None, **settings)


def _by_token(vocabulary: Any) -> dict[str, int]:
    if isinstance(vocabulary, list):
        return {token[0] if isinstance(token, list) else token: index for index, token in enumerate(vocabulary)}
    by_token: dict[str, int] = vocabulary
    return by_token


def _weighed(vocabulary: Any) -> list[tuple[str, float]]:
    return [(token, weight) for token, weight in vocabulary]


def _carrying(tokenizer: Tokenizer, given: Given) -> Tokenizer:
    """The tokenizer with the post-processor in `tokenizer.json`, which is read without its vocabulary."""
    if given.described is not None:
        model = {**given.model, "vocab": {}, "merges": []}
        without = {**given.described, "model": model, "added_tokens": []}
        carried = Tokenizer.from_str(msgspec.json.encode(without).decode())
        if carried.post_processor is not None:
            tokenizer.post_processor = carried.post_processor
    return tokenizer


def _typed(tokenizer: Tokenizer, given: Given) -> Any:
    """The form of BERT and DeBERTa: `[CLS] A [SEP] B [SEP]`, with another token type in the second part."""
    first, last = given.special["cls_token"], given.special["sep_token"]
    return processors.TemplateProcessing(
        single=f"{first}:0 $A:0 {last}:0",
        pair=f"{first}:0 $A:0 {last}:0 $B:1 {last}:1",
        special_tokens=_with_ids(tokenizer, first, last),
    )


def _doubled(tokenizer: Tokenizer, given: Given) -> Any:
    """The form of XLM-R and CamemBERT, with two tokens between the parts."""
    first, last = given.special["bos_token"], given.special["eos_token"]
    return processors.TemplateProcessing(
        single=[first, "$A", last],
        pair=[first, "$A", last, last, "$B", last],
        special_tokens=_with_ids(tokenizer, first, last),
    )


def _robertas(tokenizer: Tokenizer, given: Given) -> Any:
    first, last = _with_ids(tokenizer, given.special["cls_token"], given.special["sep_token"])
    return processors.RobertaProcessing(
        last, first, given.settings.get("trim_offsets", True), given.settings.get("add_prefix_space", False)
    )


def _mpnets(tokenizer: Tokenizer, given: Given) -> Any:
    first, last = _with_ids(tokenizer, given.special["cls_token"], given.special["sep_token"])
    return processors.RobertaProcessing(last, first, True, False)


def _with_ids(tokenizer: Tokenizer, *tokens: str) -> list[tuple[str, int]]:
    found = [(token, tokenizer.token_to_id(token)) for token in tokens]
    return [(token, index) for token, index in found if index is not None]


CLASSES: dict[str, TokenizerClass] = {
    "BertTokenizer": TokenizerClass(_word_piece, _typed, _VOCAB, _BOTH, _BERT),
    "ElectraTokenizer": TokenizerClass(_word_piece, _typed, _VOCAB, _BOTH, _BERT),
    "DistilBertTokenizer": TokenizerClass(_word_piece, _typed, _VOCAB, _PLAIN, _BERT),
    "MPNetTokenizer": TokenizerClass(_word_piece, _mpnets, _VOCAB, _PLAIN, {**_ROBERTA, "unk_token": "[UNK]"}),
    "RobertaTokenizer": TokenizerClass(_roberta, _robertas, _MERGES, _PLAIN, _ROBERTA),
    "XLMRobertaTokenizer": TokenizerClass(_xlm_roberta, _doubled, special=_ROBERTA),
    "CamembertTokenizer": TokenizerClass(
        _camembert, _doubled, special=_ROBERTA, extra=("<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED")
    ),
    "DebertaV2Tokenizer": TokenizerClass(_deberta, _typed, inputs=_BOTH, special=_DEBERTA),
    "Qwen2Tokenizer": TokenizerClass(_qwen2, None, _MERGES, special=_QWEN),
    "GemmaTokenizer": TokenizerClass(_gemma, special=_GEMMA),
    "TokenizersBackend": TokenizerClass(_backend),
}
# Aliases.
CLASSES["PreTrainedTokenizer"] = CLASSES["TokenizersBackend"]
CLASSES["LongformerTokenizer"] = CLASSES["BartTokenizer"] = CLASSES["RobertaTokenizer"]
# transformers' class for each model type, used by folders that name none.
_OWN = {
    **dict.fromkeys(("bert", "distilbert", "electra", "nomic_bert"), "BertTokenizer"),
    "roberta": "RobertaTokenizer",
    **dict.fromkeys(("xlm-roberta", "gte"), "XLMRobertaTokenizer"),
    "camembert": "CamembertTokenizer",
    "mpnet": "MPNetTokenizer",
    "modernbert": "TokenizersBackend",
    "deberta-v2": "DebertaV2Tokenizer",
    **dict.fromkeys(("qwen2", "qwen3"), "Qwen2Tokenizer"),
    "gemma": "GemmaTokenizer",
}
# Folders of these types often name a wrong class, so transformers takes its own.
_NAMED_WRONGLY = {"qwen2"}
