"""Reads a decoder reranker's chat template, which formats pairs as in sentence-transformers 5.4 and later."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import product
from typing import Any

import msgspec

from sie_server.checkpoints import chat_template_renderer as rendering
from sie_server.checkpoints.checkpoint import Checkpoint
from sie_server.checkpoints.colbert import TRANSFORMER_FILE
from sie_server.checkpoints.sentence_transformers import SETTINGS_FILE
from sie_server.checkpoints.tokenizer_file import named_tokens
from sie_server.errors import UnsupportedModelError
from sie_server.tokenization.chat_template import ChatTemplate, PairTemplate

# Limit of a rendering on any machine, however slow; the process also has a limit of processor time.
_WAIT_S = 60.0
_QUERY, _DOCUMENT, _SYSTEM = "Qx7query7xQ", "Qx7document7xQ", "Qx7system7xQ"
# Texts that a template might treat specially; the longest exceeds any length at which a template would cut.
_PROBES = (
    "Paris",
    " two  spaces and a line \n",
    "\"quoted\" & 'single' <b>{{ x }} {% y %} \\n",
    "日本語 🐍 É",
    "<|im_end|></s>[SEP]",
    "12 3.5 none None true",
    "word " * 3000 + "end",
)
# By these, sentence-transformers recognizes a template that expects a list of parts per message (`InputFormatter`).
_STRUCTURED = ("content[0]", ".type", "'type'", '"type"', "item.type", "message.content[")
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT")


class _Processing(msgspec.Struct, frozen=True):
    """sentence-transformers' keyword arguments for the tokenizer, by purpose."""

    chat_template: dict[str, Any] = {}
    text: dict[str, Any] = {}
    common: dict[str, Any] = {}


class _Named(msgspec.Struct, frozen=True):
    """A template of several in `tokenizer_config.json`."""

    name: str
    template: str


class _Prompts(msgspec.Struct, frozen=True):
    prompts: dict[str, str | None] | None = None
    default_prompt_name: str | None = None


def default_prompt(checkpoint: Checkpoint) -> str | None:
    """The prompt that sentence-transformers uses for calls that name none.

    Raises:
        UnsupportedModelError: the prompts are not strings by name.
    """
    try:
        saved = msgspec.convert(checkpoint.optional_json(SETTINGS_FILE), _Prompts)
    except msgspec.ValidationError as error:
        raise UnsupportedModelError(f"{SETTINGS_FILE}: {error}") from None
    return (saved.prompts or {}).get(saved.default_prompt_name or "") or None


def reads_messages(checkpoint: Checkpoint) -> bool:
    """Whether sentence-transformers puts the checkpoint's texts into its chat template.

    That is saved in its own folders. In any other folder, it depends on whether there is a template.
    """
    if checkpoint.has("modules.json"):
        return "message" in _modalities(checkpoint.optional_json(TRANSFORMER_FILE))
    return _source(checkpoint) is not None


def chat_template_digest(checkpoint: Checkpoint) -> str | None:
    """SHA-256 of the checkpoint's chat template, in hexadecimal; None if it has none, or several."""
    source = _source(checkpoint)
    return hashlib.sha256(source.encode()).hexdigest() if isinstance(source, str) else None


def read_chat_template(checkpoint: Checkpoint) -> ChatTemplate:
    """The checkpoint's template for pairs, rendered and split around the document.

    Raises:
        UnsupportedModelError: there is none, or it can't be split into fixed parts before and after a document.
    """
    saved = checkpoint.optional_json(TRANSFORMER_FILE)
    try:
        processing = msgspec.convert(saved.get("processing_kwargs") or {}, _Processing)
    except msgspec.ValidationError as error:
        raise UnsupportedModelError(f"sentence_bert_config.json: processing_kwargs: {error}") from None
    for key, value in {**processing.text, **processing.common}.items():
        if (key, value) not in (("padding", True), ("truncation", True), ("return_tensors", "pt")):
            raise UnsupportedModelError(
                f"sentence_bert_config.json: processing_kwargs {key} {value!r} is not supported"
            )
    given = {key: value for key, value in processing.chat_template.items() if key != "restore_suffix"}
    sources = _source(checkpoint)
    name = given.pop("chat_template", None)
    source = sources if isinstance(sources, str) else (sources or {}).get(name or "default")
    if isinstance(sources, str) and name is not None:
        source = name
    if source is None:
        raise UnsupportedModelError(
            f"{checkpoint.folder} has no default chat template; it has {', '.join(sources or ()) or 'none'}"
        )
    form = (_modalities(saved).get("message") or {}).get("format", "auto")
    structured = any(part in source for part in _STRUCTURED) if form == "auto" else form == "structured"
    context = json.dumps({**named_tokens(checkpoint), **given}, sort_keys=True)
    plain = _take_apart(source, context, structured, system=False)
    instructed = _take_apart(source, context, structured, system=True)
    if plain.suffix != instructed.suffix or ("document" in plain.stripped) != ("document" in instructed.stripped):
        raise UnsupportedModelError("the chat template ends in another way if there is an instruction")
    return ChatTemplate(plain, instructed, default_prompt(checkpoint))


def _modalities(saved: Mapping[str, Any]) -> dict[str, dict[str, Any] | None]:
    """The kinds of input that sentence-transformers saved, with the settings of each.

    Raises:
        UnsupportedModelError: they are malformed.
    """
    try:
        return msgspec.convert(saved.get("modality_config") or {}, dict[str, dict[str, Any] | None])
    except msgspec.ValidationError as error:
        raise UnsupportedModelError(f"sentence_bert_config.json: modality_config: {error}") from None


def _source(checkpoint: Checkpoint) -> str | Mapping[str, str] | None:
    """The template, or several by name. As in transformers, files take precedence over `tokenizer_config.json`."""
    files = {"default": "chat_template.jinja"}
    others = sorted((checkpoint.folder / "additional_chat_templates").glob("*.jinja"))
    files |= {path.stem: f"{path.parent.name}/{path.name}" for path in others}
    found = {name: checkpoint.text(file) for name, file in files.items() if checkpoint.has(file)}
    if found:
        return found["default"] if list(found) == ["default"] else found
    listed = checkpoint.optional_json("tokenizer_config.json").get("chat_template")
    try:
        given = msgspec.convert(listed, str | dict[str, str] | list[_Named] | None)
    except msgspec.ValidationError as error:
        raise UnsupportedModelError(f"tokenizer_config.json: chat_template: {error}") from None
    return {entry.name: entry.template for entry in given} if isinstance(given, list) else given


def _take_apart(source: str, context: str, structured: bool, system: bool) -> PairTemplate:
    """The parts of a rendered pair, with or without a system message."""
    pairs = [(_QUERY, _DOCUMENT, _SYSTEM)]
    pairs += [(probe, "bravo", "charlie") for probe in _PROBES]
    pairs += [("alpha", probe, "charlie") for probe in _PROBES]
    pairs += [("alpha", "bravo", probe) for probe in _PROBES] if system else []
    conversations = [_messages(*pair[: 2 + system], structured=structured) for pair in pairs]
    whole, *texts = _rendered(source, context, json.dumps(conversations))
    if whole.count(_DOCUMENT) != 1 or _QUERY not in whole:
        missing = "document" if _DOCUMENT not in whole else "query" if _QUERY not in whole else None
        fault = f"does not write the {missing}" if missing else "writes the document more than once"
        raise UnsupportedModelError(
            f"the chat template {fault} of a pair of messages with the roles query and document"
        )
    front, behind = whole.split(_DOCUMENT)
    if _QUERY in behind or _SYSTEM in behind:
        raise UnsupportedModelError("the chat template writes the query or the instruction after the document")
    template = PairTemplate(tuple(_slots(front)), behind)
    for roles in product((False, True), repeat=3):
        stripped = {role for role, on in zip(("query", "document", "instruction"), roles, strict=True) if on}
        tried = replace(template, stripped=frozenset(stripped))
        if all(text == tried.render(*pair) for text, pair in zip(texts, pairs[1:], strict=True)):
            return tried
    raise UnsupportedModelError("the chat template changes its texts, or treats some of them differently")


def _slots(front: str) -> list[tuple[str, str | None]]:
    parts: list[tuple[str, str | None]] = []
    for index, piece in enumerate(front.split(_QUERY)):
        if index:
            parts[-1] = (parts[-1][0], "query")
        inner = piece.split(_SYSTEM)
        parts += [(literal, "instruction") for literal in inner[:-1]] + [(inner[-1], None)]
    return parts


def _messages(query: str, document: str, system: str | None = None, *, structured: bool) -> list[dict[str, Any]]:
    said = ([("system", system)] if system is not None else []) + [("query", query), ("document", document)]
    return [{"role": role, "content": [{"type": "text", "text": text}] if structured else text} for role, text in said]


@lru_cache(maxsize=8)
def _rendered(source: str, context: str, conversations: str) -> list[str]:
    """The text of each conversation. context, conversations: JSON."""
    request = {"template": source, "context": json.loads(context), "conversations": json.loads(conversations)}
    try:
        process = subprocess.run(
            [sys.executable, "-I", rendering.__file__],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=_WAIT_S,
            env={key: value for key, value in os.environ.items() if key in _ENVIRONMENT},
            check=True,
        )
        answer = json.loads(process.stdout)
    except (subprocess.SubprocessError, ValueError) as error:
        limits = f"{rendering.CPU_S} s of a processor and {rendering.MEMORY_BYTES // 2**20} MB of memory"
        raise UnsupportedModelError(f"the chat template could not be rendered within {limits}: {error}") from None
    if isinstance(answer, dict):
        raise UnsupportedModelError(f"the chat template can't be used for pairs: {answer['error']}")
    texts: list[str] = answer
    return texts
