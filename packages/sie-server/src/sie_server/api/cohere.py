"""`POST /v1/rerank`: Cohere's rerank API over the same models. Bodies are JSON, errors OpenAI's."""

import time
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Items
from typing import Any

import msgspec
from msgspec import UNSET, Raw
from starlette.requests import Request
from starlette.responses import Response

from sie_server import codec, wire
from sie_server.api.responses import MANY
from sie_server.api.scoring import Scoring
from sie_server.api.timing import observe
from sie_server.engine.results import Ranking
from sie_server.errors import Code, SIEError
from sie_server.http.answer_writer import AnswerWriter
from sie_server.http.body import BodyReader
from sie_server.http.body_memory import BodyHold
from sie_server.large_bodies.outline import Body, ListField
from sie_server.large_bodies.reader import Reader
from sie_server.metrics import Metrics
from sie_server.request_context import current_request

_MISSING, _NULL, _FALSE = Raw(b""), Raw(b"null"), Raw(b"false")
_OPTIONS: Any = wire.ScoreOptions | None
_TEXT = "must be a non-empty string"
_DOCUMENTS = "must be a non-empty array of strings"


class CohereAPI:
    """Handler of Cohere's route."""

    def __init__(self, bodies: BodyReader, answers: AnswerWriter, scoring: Scoring, metrics: Metrics) -> None:
        self._bodies = bodies
        self._answers = answers
        self._scoring = scoring
        self._metrics = metrics

    async def rerank(self, request: Request, hold: BodyHold) -> Response:
        """Answer `POST /v1/rerank`."""
        listed = ListField("documents", "documents", str, self._bodies.max_items)
        body = await self._bodies.decoded(request, hold, self._whole, self._pieces, listed)
        current_request().model = body.model
        documents = body.documents
        self._bodies.leave(hold, documents)
        # An answer has nothing but documents and scores.
        options = msgspec.structs.replace(
            body.options or wire.ScoreOptions(), top_k=body.top_n, return_tokens=False, return_highlights=False
        )
        address, ranking = await self._scoring.rank(request, hold, body.model, body.query, documents, options)
        done = time.perf_counter()
        large = len(documents) > MANY or hold.is_large
        results = _results(documents, ranking, return_documents=body.return_documents)
        response = wire.RerankResponse(
            model=address.id, results=[] if large else list(results), usage=wire.Usage(ranking.tokens)
        )
        headers = observe(self._metrics, address.slot.entry.id, done, ranking.timing, ranking.tokens)
        return await self._answers.write(response, "results", headers, hold, results, large=large, msgpack=False)

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
            # An error for a limit names its field already.
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


def _results(documents: Items[str], ranking: Ranking, *, return_documents: bool) -> Iterator[wire.RerankResult]:
    for index in ranking.order:
        document = wire.RerankedDocument(documents[index]) if return_documents else UNSET
        yield wire.RerankResult(index=index, relevance_score=ranking.scores[index], document=document)


def read(fields: Mapping[str, Raw], documents: list[str] | None = None) -> wire.RerankRequest:
    """The decoded body, checked field by field, since this route's errors name fields as Cohere does.

    documents: None unless they are decoded already.

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
        detail = "" if blank is None else f". documents[{blank}] is blank"
        raise _wrong("documents", _DOCUMENTS + detail)
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
