"""`POST /v1/rerank`: Cohere's rerank API over the same models. Bodies are JSON, errors OpenAI's."""

import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Raw
from starlette.requests import Request
from starlette.responses import Response

from sie_server import codec, wire
from sie_server.api.responses import MANY
from sie_server.errors import Code, SIEError
from sie_server.http.body import BodyReader
from sie_server.large_bodies.outline import Body, Listed
from sie_server.large_bodies.reader import Reader

_MISSING, _NULL, _FALSE = Raw(b""), Raw(b"null"), Raw(b"false")
_OPTIONS: Any = wire.ScoreOptions | None
_TEXT = "must be a non-empty string"
_DOCUMENTS = "must be a non-empty array of strings"
_Answer = tuple[wire.ScoreResponse, dict[str, str]]
_Rank = Callable[[Request, wire.ScoreRequest, str, str, float], Coroutine[Any, Any, _Answer]]


class Rerank:
    """The route's handler. It leaves the model's id in `request.state.model`."""

    def __init__(self, rank: _Rank, bodies: BodyReader) -> None:
        self._rank = rank
        self._bodies = bodies

    async def __call__(self, request: Request) -> Response:
        started = time.perf_counter()
        listed = Listed("documents", "documents", str, self._bodies.most_items)
        body = await self._bodies.decoded(request, self._whole, self._pieces, listed)
        request.state.model = body.model
        documents = body.documents
        self._bodies.leave(request, documents)
        items = [wire.Item(id=str(index), text=document) for index, document in enumerate(documents)]
        options = body.options or wire.ScoreOptions()
        # Everything that only an entry of `scores` could say is not asked for.
        options = msgspec.structs.replace(options, top_k=body.top_n, return_tokens=False, return_highlights=False)
        asked = wire.ScoreRequest(wire.Item(text=body.query), items, options=options)
        ranked, headers = await self._rank(request, asked, body.model, "rerank", started)

        def results() -> list[wire.RerankResult]:
            return [
                wire.RerankResult(
                    index=int(entry.item_id),
                    relevance_score=entry.score,
                    document=wire.RerankedDocument(documents[int(entry.item_id)]) if body.return_documents else UNSET,
                )
                for entry in ranked.scores
            ]

        large = len(documents) > MANY or self._bodies.is_large(request)
        found = await self._bodies.perhaps_aside(results, large=large)
        answer = wire.RerankResponse(model=ranked.model, results=found, usage=ranked.usage)
        return await self._bodies.answer(answer, "results", headers, large=large, msgpack=False)

    def _whole(self, raw: Body) -> wire.RerankRequest:
        body = read(codec.decode(raw, dict[str, Raw], msgpack=False))
        self._bodies.check_count(len(body.documents), "documents", "documents")
        self._bodies.check_size(body.query, "query")
        for index, document in enumerate(body.documents):
            self._bodies.check_size(document, f"documents[{index}]")
        return body

    def _pieces(self, reader: Reader) -> wire.RerankRequest:
        fields = reader.beside(dict[str, Raw])
        try:
            documents = list(reader.elements()) if reader.has_list else None
        except SIEError as error:
            # What is over a limit has a name already.
            raise error if "param" in error.extras else _wrong("documents", _DOCUMENTS) from None
        body = read(fields, documents)
        body.model, body.query = reader.filled(body.model, "model"), reader.filled(body.query, "query")
        body.options = reader.filled(body.options, "options")
        if not body.query.strip():
            raise _wrong("query", _TEXT)
        for index, document in enumerate(body.documents):
            self._bodies.check_size(document, f"documents[{index}]")
        self._bodies.check_size(body.query, "query")
        return body


def read(fields: Mapping[str, Raw], documents: list[str] | None = None) -> wire.RerankRequest:
    """The decoded body, checked field by field, for the words that this route's clients know.

    documents: where they were decoded already.

    Raises:
        SIEError: INVALID_INPUT, with the field that is wrong as `param`.
    """
    for name in fields:
        if name not in wire.RerankRequest.__struct_fields__:
            raise SIEError(Code.INVALID_INPUT, f"field '{name}' is not supported", param=name)
    if documents is None:
        documents = _field(fields, "documents", list[str], _DOCUMENTS)
    if not documents or not all(map(str.strip, documents)):
        blank = next((index for index, document in enumerate(documents) if not document.strip()), None)
        which = "" if blank is None else f". documents[{blank}] is blank"
        raise _wrong("documents", _DOCUMENTS + which)
    return wire.RerankRequest(
        model=_text(fields, "model"),
        query=_text(fields, "query"),
        documents=documents,
        top_n=_field(fields, "top_n", wire.Positive | None, "must be a positive integer", _NULL),
        return_documents=_field(fields, "return_documents", bool, "must be a boolean", _FALSE),
        options=codec.decode(bytes(fields.get("options", _NULL)), _OPTIONS, msgpack=False),
    )


def _text(fields: Mapping[str, Raw], name: str) -> str:
    text: str = _field(fields, name, str, _TEXT)
    if not text.strip():
        raise _wrong(name, _TEXT)
    return text


def _field(fields: Mapping[str, Raw], name: str, kind: Any, must: str, default: Raw = _MISSING) -> Any:
    try:
        return msgspec.json.decode(fields.get(name, default), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _wrong(name, must) from None


def _wrong(name: str, must: str) -> SIEError:
    return SIEError(Code.INVALID_INPUT, f"'{name}' {must}", param=name)
