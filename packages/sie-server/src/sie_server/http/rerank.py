"""`POST /v1/rerank`: Cohere's rerank API over the same models. Bodies are JSON, errors OpenAI's."""

import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Raw
from starlette.requests import Request
from starlette.responses import Response

from sie_server import codec, wire
from sie_server.answering import stage
from sie_server.errors import Code, SIEError
from sie_server.http.body import Bodies
from sie_server.http.negotiation import json

_MISSING, _NULL, _FALSE = Raw(b""), Raw(b"null"), Raw(b"false")
_OPTIONS: Any = wire.ScoreOptions | None
_Answer = tuple[wire.ScoreResponse, dict[str, str]]
_Rank = Callable[[Request, wire.ScoreRequest, str, str, float], Coroutine[Any, Any, _Answer]]


class Rerank:
    """The route's handler. It leaves the model's id in `request.state.model`."""

    def __init__(self, rank: _Rank, bodies: Bodies) -> None:
        self._rank = rank
        self._bodies = bodies

    async def __call__(self, request: Request) -> Response:
        started = time.perf_counter()
        with stage("decode"):
            body = read(await self._bodies.bytes(request))
        request.state.model = body.model
        documents = body.documents
        self._bodies.check_count(len(documents), "documents", "documents")
        for index, document in enumerate(documents):
            self._bodies.check_size(document, f"documents[{index}]")
        items = [wire.Item(id=str(index), text=document) for index, document in enumerate(documents)]
        options = body.options or wire.ScoreOptions()
        # Everything that only an entry of `scores` could say is not asked for.
        options = msgspec.structs.replace(options, top_k=body.top_n, return_tokens=False, return_highlights=False)
        asked = wire.ScoreRequest(wire.Item(text=body.query), items, options=options)
        ranked, headers = await self._rank(request, asked, body.model, "rerank", started)
        return json(
            wire.RerankResponse(
                model=ranked.model,
                results=[
                    wire.RerankResult(
                        index=int(entry.item_id),
                        relevance_score=entry.score,
                        document=(
                            wire.RerankedDocument(documents[int(entry.item_id)]) if body.return_documents else UNSET
                        ),
                    )
                    for entry in ranked.scores
                ],
                usage=ranked.usage,
            ),
            headers=headers,
        )


def read(raw: bytes) -> wire.RerankRequest:
    """The decoded body, checked field by field, for the words that this route's clients know.

    Raises:
        SIEError: INVALID_INPUT, with the field that is wrong as `param`.
    """
    fields = codec.decode(raw, dict[str, Raw], msgpack=False)
    for name in fields:
        if name not in wire.RerankRequest.__struct_fields__:
            raise SIEError(Code.INVALID_INPUT, f"field '{name}' is not supported", param=name)
    documents: list[str] = _field(fields, "documents", list[str], "must be a non-empty array of strings")
    if not documents or not all(map(str.strip, documents)):
        raise _wrong("documents", "must be a non-empty array of strings")
    return wire.RerankRequest(
        model=_text(fields, "model"),
        query=_text(fields, "query"),
        documents=documents,
        top_n=_field(fields, "top_n", wire.Positive | None, "must be a positive integer", _NULL),
        return_documents=_field(fields, "return_documents", bool, "must be a boolean", _FALSE),
        options=codec.decode(bytes(fields.get("options", _NULL)), _OPTIONS, msgpack=False),
    )


def _text(fields: Mapping[str, Raw], name: str) -> str:
    text: str = _field(fields, name, str, "must be a non-empty string")
    if not text.strip():
        raise _wrong(name, "must be a non-empty string")
    return text


def _field(fields: Mapping[str, Raw], name: str, kind: Any, must: str, default: Raw = _MISSING) -> Any:
    try:
        return msgspec.json.decode(fields.get(name, default), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _wrong(name, must) from None


def _wrong(name: str, must: str) -> SIEError:
    return SIEError(Code.INVALID_INPUT, f"'{name}' {must}", param=name)
