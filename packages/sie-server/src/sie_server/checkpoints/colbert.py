"""How a late-interaction checkpoint reads its texts, as the tools that save such checkpoints write it down."""

import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from sie_server.checkpoints.files import read_json
from sie_server.errors import UnsupportedModelError
from sie_server.tokenization.config import MASKS, LateInteraction

T = TypeVar("T")

_PUNCTUATION = tuple(string.punctuation)
# Stanford's file in the folder of a checkpoint, JSON in spite of its name.
STANFORD_FILE = "artifact.metadata"


class _PyLate(msgspec.Struct, frozen=True):
    """PyLate's keys in `config_sentence_transformers.json`; null means its default, like a key that is missing."""

    query_prefix: str | None = None
    document_prefix: str | None = None
    query_length: int | None = None
    document_length: int | None = None
    do_query_expansion: bool | None = None
    attend_to_expansion_tokens: bool | None = None
    skiplist_words: tuple[str, ...] | None = None


class _Stanford(msgspec.Struct, frozen=True):
    """Keys of Stanford's `artifact.metadata`, with the defaults of its `ColBERTConfig`."""

    query_token_id: str = "[unused0]"
    doc_token_id: str = "[unused1]"
    query_maxlen: int = 32
    doc_maxlen: int = 220
    mask_punctuation: bool = True
    attend_to_mask_tokens: bool = False


class _Expansion(msgspec.Struct, frozen=True):
    strategy: str
    length: int
    attend: bool = False
    token: str | None = None


class _Transformer(msgspec.Struct, frozen=True):
    """sentence-transformers' own keys in `sentence_bert_config.json`."""

    query_length: int | None = None
    document_length: int | None = None
    query_expansion: _Expansion | None = None


class _Mask(msgspec.Struct, frozen=True):
    """`config.json` of its MultiVectorMask."""

    skiplist_words: tuple[str, ...] = ()
    skiplist_tasks: tuple[str, ...] = ("document",)
    keep_only_token_ids: tuple[int, ...] | None = None


def pylate(settings: Mapping[str, Any]) -> LateInteraction:
    """From the settings that PyLate saved.

    Raises:
        UnsupportedModelError: a key has a value of another type.
    """
    file = _convert(settings, _PyLate, "config_sentence_transformers.json")
    return LateInteraction(
        query_marker="[Q] " if file.query_prefix is None else file.query_prefix,
        document_marker="[D] " if file.document_prefix is None else file.document_prefix,
        query_length=file.query_length or 32,
        document_length=file.document_length or 180,
        expansion=file.do_query_expansion is not False,
        attend=bool(file.attend_to_expansion_tokens),
        skip=_PUNCTUATION if file.skiplist_words is None else file.skiplist_words,
    )


def stanford(folder: Path) -> tuple[LateInteraction, int]:
    """From Stanford's file, and the width of a token vector.

    Raises:
        UnsupportedModelError: as `pylate`.
    """
    path = folder / STANFORD_FILE
    file = _convert(read_json(path) if path.is_file() else {}, _Stanford, STANFORD_FILE)
    late = LateInteraction(
        query_marker=file.query_token_id,
        document_marker=file.doc_token_id,
        query_length=file.query_maxlen,
        document_length=file.doc_maxlen,
        expansion=True,
        attend=file.attend_to_mask_tokens,
        skip=_PUNCTUATION if file.mask_punctuation else (),
    )
    return late, _width(folder / "model.safetensors")


def _width(weights: Path) -> int:
    """Rows of Stanford's projection; its config says nothing of them."""
    # Here, so that what only lists models does not wait for torch.
    from sie_server.checkpoints.tensor_file import SafetensorsFile

    with SafetensorsFile(weights) as file:
        projection = file.tensors.get("linear.weight")
    if projection is None or not projection.shape:
        raise UnsupportedModelError(f"{weights} has no projection for token vectors: linear.weight is missing from it")
    return projection.shape[0]


def sentence_transformers(folder: Path, mask: str, prompts: Mapping[str, str]) -> LateInteraction:
    """From sentence-transformers' own files: the backbone's, that of the MultiVectorMask in sub-folder `mask`, prompts.

    Raises:
        UnsupportedModelError: they ask for something that we do not compute.
    """
    path = folder / "sentence_bert_config.json"
    file = _convert(read_json(path) if path.is_file() else {}, _Transformer, path.name)
    masked = _convert(read_json(folder / mask / "config.json"), _Mask, f"{mask}/config.json")
    expansion = file.query_expansion
    if expansion is not None and (expansion.strategy != "fixed" or expansion.token not in (None, *MASKS)):
        raise UnsupportedModelError(
            f"query_expansion by {expansion.strategy!r} with token {expansion.token!r} is not supported; "
            "supported: 'fixed' with the mask token"
        )
    if masked.skiplist_tasks != ("document",) or masked.keep_only_token_ids:
        raise UnsupportedModelError("MultiVectorMask is supported with skiplist_words of documents alone")
    return LateInteraction(
        query_marker=prompts.get("query") or "",
        document_marker=prompts.get("document") or "",
        query_length=file.query_length if expansion is None else expansion.length,
        document_length=file.document_length,
        expansion=expansion is not None,
        attend=expansion is not None and expansion.attend,
        skip=masked.skiplist_words,
    )


def overridden(late: LateInteraction, settings: Mapping[str, Any]) -> LateInteraction:
    """With what a catalogue entry says in place of a checkpoint's files.

    Raises:
        UnsupportedModelError: as `pylate`.
    """
    return _convert({**msgspec.to_builtins(late), **settings}, LateInteraction, "the catalogue")


def _convert(settings: Mapping[str, Any], kind: type[T], name: str) -> T:
    try:
        return msgspec.convert(settings, kind)
    except msgspec.ValidationError as error:
        raise UnsupportedModelError(f"{name}: {error}") from None
