"""A decoder reranker's own chat template, as sentence-transformers (5.4 and later) reads a pair with it."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import msgspec

from sie_server.checkpoints import chat_template_renderer as rendering
from sie_server.checkpoints.files import read_file, read_json
from sie_server.checkpoints.tokenizer_file import named_tokens
from sie_server.errors import UnsupportedModelError
from sie_server.tokenization.chat_template import ChatTemplate, PairTemplate

# Of a render, however slow the machine: the process has its own limit of processor time.
_WAIT_S = 60.0
_QUERY, _DOCUMENT, _SYSTEM = "Qx7query7xQ", "Qx7document7xQ", "Qx7system7xQ"
# What a template might do something else with than with others; the longest is longer than any that cuts would allow.
_PROBES = (
    "Paris",
    " two  spaces and a line \n",
    "\"quoted\" & 'single' <b>{{ x }} {% y %} \\n",
    "日本語 🐍 É",
    "<|im_end|></s>[SEP]",
    "12 3.5 none None true",
    "word " * 3000 + "end",
)
# What sentence-transformers takes for a template that wants a list of parts in each message (`InputFormatter`).
_STRUCTURED = ("content[0]", ".type", "'type'", '"type"', "item.type", "message.content[")
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT")


class _Processing(msgspec.Struct, frozen=True):
    """sentence-transformers' keywords for the tokenizer, by what they are for."""

    chat_template: dict[str, Any] = {}
    text: dict[str, Any] = {}
    common: dict[str, Any] = {}


class _Named(msgspec.Struct, frozen=True):
    """One of several templates in `tokenizer_config.json`."""

    name: str
    template: str


class _Prompts(msgspec.Struct, frozen=True):
    prompts: dict[str, str | None] | None = None
    default_prompt_name: str | None = None


def default_prompt(folder: Path) -> str | None:
    """The prompt that sentence-transformers takes where a call names none.

    Raises:
        UnsupportedModelError: prompts are no texts by name.
    """
    path = folder / "config_sentence_transformers.json"
    try:
        saved = msgspec.convert(read_json(path) if path.is_file() else {}, _Prompts)
    except msgspec.ValidationError as error:
        raise UnsupportedModelError(f"{path.name}: {error}") from None
    return (saved.prompts or {}).get(saved.default_prompt_name or "") or None


def reads_messages(folder: Path) -> bool:
    """Whether sentence-transformers puts the folder's texts into its chat template.

    It does where that was so when the folder was saved, or where it was not saved by it and has a template.
    """
    if (folder / "modules.json").is_file():
        return "message" in _modalities(_saved(folder))
    return _source(folder) is not None


def chat_template_digest(folder: Path) -> str | None:
    """SHA-256 of the folder's chat template, in hexadecimal; None: it has none, or several."""
    source = _source(folder)
    return hashlib.sha256(source.encode()).hexdigest() if isinstance(source, str) else None


def read_chat_template(folder: Path) -> ChatTemplate:
    """The folder's template for pairs, rendered and taken apart.

    Raises:
        UnsupportedModelError: there is none, or one that can't be taken apart into what stands in front of a document
            and behind it.
    """
    saved = _saved(folder)
    try:
        processing = msgspec.convert(saved.get("processing_kwargs") or {}, _Processing)
    except msgspec.ValidationError as error:
        raise UnsupportedModelError(f"sentence_bert_config.json: processing_kwargs: {error}") from None
    for key, value in {**processing.text, **processing.common}.items():
        if (key, value) not in (("padding", True), ("truncation", True), ("return_tensors", "pt")):
            raise UnsupportedModelError(
                f"processing_kwargs {key} {value!r} of sentence_bert_config.json is not supported"
            )
    given = {key: value for key, value in processing.chat_template.items() if key != "restore_suffix"}
    sources = _source(folder)
    name = given.pop("chat_template", None)
    source = sources if isinstance(sources, str) else (sources or {}).get(name or "default")
    if isinstance(sources, str) and name is not None:
        source = name
    if source is None:
        raise UnsupportedModelError(
            f"the chat template of {folder} has no default; it names {', '.join(sources or ())}"
        )
    form = (_modalities(saved).get("message") or {}).get("format", "auto")
    structured = any(part in source for part in _STRUCTURED) if form == "auto" else form == "structured"
    context = json.dumps({**named_tokens(folder), **given}, sort_keys=True)
    plain = _take_apart(source, context, structured, system=False)
    instructed = _take_apart(source, context, structured, system=True)
    if plain.suffix != instructed.suffix or ("document" in plain.stripped) != ("document" in instructed.stripped):
        raise UnsupportedModelError("the chat template writes something else behind a document with an instruction")
    return ChatTemplate(plain, instructed, default_prompt(folder))


def _saved(folder: Path) -> dict[str, Any]:
    path = folder / "sentence_bert_config.json"
    return read_json(path) if path.is_file() else {}


def _modalities(saved: Mapping[str, Any]) -> dict[str, dict[str, Any] | None]:
    """What sentence-transformers reads, each with its settings.

    Raises:
        UnsupportedModelError: it is written in another way.
    """
    try:
        return msgspec.convert(saved.get("modality_config") or {}, dict[str, dict[str, Any] | None])
    except msgspec.ValidationError as error:
        raise UnsupportedModelError(f"sentence_bert_config.json: modality_config: {error}") from None


def _source(folder: Path) -> str | Mapping[str, str] | None:
    """The template, or several by name: files go before `tokenizer_config.json`, as in transformers."""
    files = {"default": folder / "chat_template.jinja"}
    files |= {path.stem: path for path in sorted((folder / "additional_chat_templates").glob("*.jinja"))}
    found = {name: read_file(path).decode() for name, path in files.items() if path.is_file()}
    if found:
        return found["default"] if list(found) == ["default"] else found
    settings = folder / "tokenizer_config.json"
    listed = read_json(settings).get("chat_template") if settings.is_file() else None
    try:
        given = msgspec.convert(listed, str | dict[str, str] | list[_Named] | None)
    except msgspec.ValidationError as error:
        raise UnsupportedModelError(f"{settings.name}: chat_template: {error}") from None
    return {entry.name: entry.template for entry in given} if isinstance(given, list) else given


def _take_apart(source: str, context: str, structured: bool, system: bool) -> PairTemplate:
    """What the template writes of a pair, with a system message or without."""
    pairs = [(_QUERY, _DOCUMENT, _SYSTEM)]
    pairs += [(probe, "bravo", "charlie") for probe in _PROBES]
    pairs += [("alpha", probe, "charlie") for probe in _PROBES]
    pairs += [("alpha", "bravo", probe) for probe in _PROBES] if system else []
    conversations = [_messages(*pair[: 2 + system], structured=structured) for pair in pairs]
    whole, *texts = _rendered(source, context, json.dumps(conversations))
    if whole.count(_DOCUMENT) != 1 or _QUERY not in whole:
        lacking = "document" if _DOCUMENT not in whole else "query" if _QUERY not in whole else None
        fault = f"does not write the {lacking}" if lacking else "writes the document more than once"
        raise UnsupportedModelError(
            f"the chat template {fault} of a pair of messages with the roles query and document"
        )
    front, behind = whole.split(_DOCUMENT)
    if _QUERY in behind or _SYSTEM in behind:
        raise UnsupportedModelError("the chat template writes the query or the instruction behind the document")
    template = PairTemplate(tuple(_slots(front)), behind)
    for roles in product((False, True), repeat=3):
        stripped = {role for role, on in zip(("query", "document", "instruction"), roles, strict=True) if on}
        tried = replace(template, stripped=frozenset(stripped))
        if all(text == tried.render(*pair) for text, pair in zip(texts, pairs[1:], strict=True)):
            return tried
    raise UnsupportedModelError(
        "the chat template changes the texts that it is given, or writes something else for some"
    )


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
    """The text of each conversation; both are JSON."""
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
