"""Reads the body of any rerank API as one neutral request."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

from sie_server import wire
from sie_server.api.dialects.field_reader import FieldReader, given_fields, refuse, text_of, wrong
from sie_server.api.dialects.fields import IGNORED, MEANINGFUL, MUST, RerankFields
from sie_server.api.dialects.spans import RelevantSpans
from sie_server.catalog.catalog import did_you_mean
from sie_server.errors import Code, SIEError
from sie_server.http.ignored_fields import Beside, ignored_options
from sie_server.options import Side

_READER = FieldReader(RerankFields, MUST)
_KNOWN = RerankFields.__struct_fields__
_DEFAULT = ("default", "default/not-specified")
# Values of `truncate`, besides booleans as strings.
_TRUNCATE = ("START", "END", "NONE", "TRUE", "FALSE")
_SIDES: Mapping[str, Side] = {"left": "left", "right": "right", "start": "left", "end": "right"}
# Fields that hold the texts to rank, and pairs of fields of a score request.
LISTS = ("documents", "texts", "input", "passages")
_TOP = ("top_n", "top_k")
_GIVE_BACK = ("return_documents", "return_text", "return_input")
PAIRS = (("text_1", "text_2"), ("data_1", "data_2"), ("queries", "documents"), ("queries", "items"))
# All fields with texts.
_TEXTS = ("query", *LISTS, "text_1", "text_2", "data_1", "data_2", "queries", "items")


class RankRequest(Struct):
    """A rerank request, whichever API it came in.

    model: None for the server's default. queries: one, or one for each document. documents: their texts. given: the
    documents in the form they were sent in, if some were objects; otherwise empty. field: their field. top: number of
    results; None: all. give_back: whether results repeat the documents; None: as the API does by default. raw: whether
    scores are those before the activation; None: the API's default. waits: the client can wait. latency: "fast" or
    "slow". ignored: names of fields that change nothing. alone: the request has one pair, and no list. spans:
    the relevant spans that results should have. chosen: names of the fields that say which results there are, and
    whether they repeat the documents.
    """

    model: str | None
    queries: list[str]
    documents: list[str]
    given: list[Any]
    field: str
    top: int | None
    give_back: bool | None
    raw: bool | None
    waits: bool
    instruction: str | None
    options: wire.ScoreOptions
    latency: str
    ignored: list[str]
    alone: bool = False
    spans: RelevantSpans | None = None
    chosen: list[str] = []


def read(
    fields: Mapping[str, Raw],
    listed: list[Any] | None = None,
    field: str = "documents",
    fill: Callable[[RerankFields], Any] = lambda body: body,
) -> RankRequest:
    """The neutral request, checked field by field.

    listed: the elements of the list `field` if they are decoded already. fill: puts long texts into the other fields.

    Raises:
        SIEError: INVALID_INPUT, with the field that is wrong as `param`.
    """
    given = given_fields(fields)
    ignored = [name for name in given if name in IGNORED]
    if "documents" in given and not bytes(given.get("texts", Raw(b"["))).startswith(b"["):
        ignored.append("texts")  # Some clients send it as a flag of their own.
        del given["texts"]
    for name in given:
        if name not in IGNORED and name not in _KNOWN:
            similar = did_you_mean(name, [*_KNOWN, *IGNORED])
            told = f"field '{name}' is not supported" + (similar and f".{similar}")
            raise SIEError(Code.INVALID_INPUT, told, param=name)
    refuse(given, MEANINGFUL)
    body = _READER.read({name: raw for name, raw in given.items() if name not in IGNORED})
    fill(body)
    if listed is not None:
        setattr(body, field, listed)
    if (own := body.options) is not None:
        ignored += ignored_options(Beside(given["options"]), msgpack=False)
        ignored += [f"options.{name}" for name in ("return_tokens", "return_highlights") if getattr(own, name)]
    name, queries, documents = _texts(body)
    spans = body.relevant_spans
    return RankRequest(
        model=_model(body.model),
        queries=queries,
        documents=_documents(documents, name, body.rank_fields),
        given=[] if all(isinstance(text, str) for text in documents) else documents,
        field=name,
        top=_first(None if own is None else own.top_k, _agreed(body, _TOP)),
        give_back=_agreed(body, _GIVE_BACK, _flag),
        raw=_raw(body),
        waits=(body.priority or 0) > 0,
        instruction=_agreed(body, ("instruction", "instruct")),
        options=_options(body, ignored),
        latency=body.latency or "fast",
        ignored=ignored,
        spans=None if spans is None or spans.mode == "disabled" else spans,
        chosen=[name for name in (*_TOP, *_GIVE_BACK) if name in given and _flag(getattr(body, name))],
    )


def _model(name: str | None) -> str | None:
    if name is not None and not name.strip():
        raise wrong("model", MUST["model"])
    return None if name in _DEFAULT else name


def _documents(given: list[Any], field: str, rank_fields: list[str] | None) -> list[str]:
    documents = given
    if not all(isinstance(text, str) for text in given):
        documents = [text_of(text, f"{field}[{n}]", rank_fields) for n, text in enumerate(given)]
    if not any(map(str.strip, documents)):
        raise wrong(field, f"{MUST['documents']}. {field}[0] is blank")
    return documents


def _texts(body: RerankFields) -> tuple[str, list[str], list[Any]]:
    """The field of the documents, the queries and the documents."""
    for first, second in PAIRS:
        left, right = getattr(body, first), getattr(body, second)
        if left is None or right is None:
            continue
        for other in _TEXTS:
            if other not in (first, second) and getattr(body, other) is not None:
                raise wrong(other, "cannot be given with pairs of texts")
        queries = [text_of(text, first, None) for text in (left if isinstance(left, list) else [left])]
        documents = right if isinstance(right, list) else [right]
        if not queries or len(queries) not in (1, len(documents)):
            raise wrong(first, _unequal(first, second, len(queries), len(documents)))
        return second, queries, documents
    name = next((name for name in LISTS if isinstance(getattr(body, name), list)), "documents")
    documents = getattr(body, name)
    must = MUST["documents"]
    if not isinstance(documents, list) or not documents:
        raise wrong(name, must)
    for other in _TEXTS[1:]:
        if getattr(body, other) not in (None, documents):
            raise wrong(other, f"has other texts than '{name}'")
    if not body.query or (isinstance(body.query, dict) and not isinstance(body.query.get("text"), str)):
        raise wrong("query", MUST["query"])
    query = text_of(body.query, "query", None)
    if not query.strip():
        raise wrong("query", MUST["query"])
    return name, [query], documents


def _unequal(first: str, second: str, left: int, right: int) -> str:
    return f"has {left} texts and '{second}' has {right}: send one text in '{first}', or as many as in '{second}'"


def _options(body: RerankFields, ignored: list[str]) -> wire.ScoreOptions:
    """The options of the engine's own that the fields ask for. Those in `options` itself win."""
    asked = wire.ScoreOptions(
        query_max_length=body.max_tokens_per_query or None,
        max_document_length=_agreed(body, ("max_tokens_per_doc", "max_doc_length")) or None,
        max_seq_length=None if body.truncate_prompt_tokens in (None, -1) else body.truncate_prompt_tokens,
    )
    if asked.max_seq_length == 0:
        raise wrong("truncate_prompt_tokens", "must be -1 or positive")
    truncate = body.truncate
    if isinstance(truncate, str) and truncate.upper() not in _TRUNCATE:
        raise wrong("truncate", f"is {truncate[:20]!r}; it must be true, false, {', '.join(_TRUNCATE[:3])}")
    asked.truncation_side = _side(body, truncate)
    if _agreed(body, ("truncation", "truncate"), lambda value: str(value).upper() in ("FALSE", "NONE")):
        asked.overflow_policy = "error"
    elif body.max_chunks_per_doc is not None:
        asked.long_documents = "chunk_max" if body.max_chunks_per_doc > 1 else "truncate"
        if body.max_chunks_per_doc > 1:
            ignored.append("max_chunks_per_doc")  # All windows are scored, however many these are.
    own = body.options
    if own is not None:
        chosen = {name: value for name in own.__struct_fields__ if (value := getattr(own, name)) is not None}
        asked = msgspec.structs.replace(asked, **chosen)
    # An answer has nothing but documents and scores.
    return msgspec.structs.replace(asked, top_k=None, return_tokens=False, return_highlights=False)


def _side(body: RerankFields, truncate: bool | str | None) -> Side | None:
    """The end at which documents are cut; None if no field says."""
    side = _SIDES.get(truncate.lower()) if isinstance(truncate, str) else None
    for name in ("truncation_direction", "truncation_side"):
        if (value := getattr(body, name)) is None:
            continue
        if (asked := _SIDES.get(value.lower())) is None:
            raise wrong(name, f"is {value[:20]!r}; it must be left or right")
        if side not in (None, asked):
            raise wrong(name, f"is {value!r}, but another field asks to cut at the other end")
        side = asked
    return side


def _raw(body: RerankFields) -> bool | None:
    activation = _agreed(body, ("use_activation", "activation", "softmax"), _flag)
    raw = _flag(body.raw_scores)
    if raw is not None and raw is activation:
        raise wrong("raw_scores", "contradicts the field that asks for the score before or after its activation")
    return raw if activation is None else not activation


def _flag(value: Any) -> bool | None:
    if isinstance(value, str):
        return value.lower() == "true"
    return None if value is None else bool(value)


def _agreed(body: RerankFields, names: tuple[str, ...], meaning: Callable[[Any], Any] = lambda value: value) -> Any:
    """The value that all the given ones of these fields agree on; None if none is given.

    Raises:
        SIEError: INVALID_INPUT, two of them contradict each other.
    """
    found = [(name, meaning(value)) for name in names if (value := getattr(body, name)) is not None]
    for name, meant in found[1:]:
        if meant != found[0][1]:
            raise wrong(name, f"contradicts '{found[0][0]}'")
    return found[0][1] if found else None


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)
