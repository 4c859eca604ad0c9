"""Reads the settings of late-interaction checkpoints, in the formats of the tools that save them."""

import string
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from sie_server.checkpoints.checkpoint import WEIGHTS, Checkpoint
from sie_server.errors import UnsupportedModelError
from sie_server.tokenization.config import MASKS, LateInteraction

T = TypeVar("T")

_PUNCTUATION = tuple(string.punctuation)
# The settings of Stanford's package: JSON, in spite of the name.
STANFORD_FILE = "artifact.metadata"
TRANSFORMER_FILE = "sentence_bert_config.json"


class _PyLate(msgspec.Struct, frozen=True):
    """PyLate's keys in `config_sentence_transformers.json`; null or a missing key means PyLate's default."""

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
    """sentence-transformers' keys in `sentence_bert_config.json`."""

    query_length: int | None = None
    document_length: int | None = None
    query_expansion: _Expansion | None = None


class _Mask(msgspec.Struct, frozen=True):
    """sentence-transformers' keys in the `config.json` of a MultiVectorMask."""

    skiplist_words: tuple[str, ...] = ()
    skiplist_tasks: tuple[str, ...] = ("document",)
    keep_only_token_ids: tuple[int, ...] | None = None


def pylate(settings: Mapping[str, Any]) -> LateInteraction:
    """Translate settings saved by PyLate.

    Raises:
        UnsupportedModelError: a value has the wrong type.
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


def stanford(checkpoint: Checkpoint) -> tuple[LateInteraction, int]:
    """Translate Stanford's settings; also returns the width of a token vector.

    Raises:
        UnsupportedModelError: as `pylate`.
    """
    file = _convert(checkpoint.optional_json(STANFORD_FILE), _Stanford, STANFORD_FILE)
    late = LateInteraction(
        query_marker=file.query_token_id,
        document_marker=file.doc_token_id,
        query_length=file.query_maxlen,
        document_length=file.doc_maxlen,
        expansion=True,
        attend=file.attend_to_mask_tokens,
        skip=_PUNCTUATION if file.mask_punctuation else (),
    )
    return late, _width(checkpoint)


def _width(checkpoint: Checkpoint) -> int:
    """Rows of Stanford's projection, which its settings don't mention."""
    file = checkpoint.tensors(WEIGHTS)
    projection = file.tensors.get("linear.weight")
    if projection is None or not projection.shape:
        raise UnsupportedModelError(f"{file.path} has no projection for token vectors: linear.weight is missing")
    return projection.shape[0]


def sentence_transformers(checkpoint: Checkpoint, mask: str, prompts: Mapping[str, str]) -> LateInteraction:
    """Translate the settings of sentence-transformers: those of its Transformer and its MultiVectorMask, and prompts.

    mask: the sub-folder of the MultiVectorMask.

    Raises:
        UnsupportedModelError: they ask for something unsupported.
    """
    file = _convert(checkpoint.optional_json(TRANSFORMER_FILE), _Transformer, TRANSFORMER_FILE)
    masked = _convert(checkpoint.json(f"{mask}/config.json"), _Mask, f"{mask}/config.json")
    expansion = file.query_expansion
    if expansion is not None and (expansion.strategy != "fixed" or expansion.token not in (None, *MASKS)):
        raise UnsupportedModelError(
            f"query_expansion by {expansion.strategy!r} with token {expansion.token!r} is not supported; "
            "supported: 'fixed' with the mask token"
        )
    if masked.skiplist_tasks != ("document",) or masked.keep_only_token_ids:
        raise UnsupportedModelError("MultiVectorMask is supported only with skiplist_words for documents")
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
    """The settings of a checkpoint with those of its catalogue entry in their place.

    Raises:
        UnsupportedModelError: as `pylate`.
    """
    return _convert({**msgspec.to_builtins(late), **settings}, LateInteraction, "the catalogue")


def _convert(settings: Mapping[str, Any], kind: type[T], name: str) -> T:
    try:
        return msgspec.convert(settings, kind)
    except msgspec.ValidationError as error:
        raise UnsupportedModelError(f"{name}: {error}") from None
