"""TEI's routes that no other API has: predictions, tokens, and requests that only their body tells apart."""

import re
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

from msgspec import Raw, Struct, field
from starlette.requests import Request
from starlette.responses import Response

from sie_server import __version__, codec
from sie_server.api.answer_size import AnswerSizes, Size
from sie_server.api.default_model import DefaultModel
from sie_server.api.dialects.field_reader import FieldReader, given_fields, wrong
from sie_server.api.dialects.fields import RerankFields
from sie_server.api.dialects.predict import LABEL, PREDICT, Predictions
from sie_server.api.dialects.request import RankRequest, read
from sie_server.api.dialects.rerank import RerankAPI
from sie_server.api.dialects.tei import TEI, Info, Labels, ModelType, PoolingType, Ranks
from sie_server.api.disconnect import until_disconnect
from sie_server.api.embed_dialects.fields import EmbedFields
from sie_server.api.embed_dialects.request import EmbedRequest
from sie_server.api.embed_dialects.tei import EMBED, Vectors
from sie_server.api.embeddings import EmbeddingsAPI
from sie_server.api.request_options import scheduling_params
from sie_server.api.responses import MANY
from sie_server.engine.engine import Engine
from sie_server.errors import SIEError
from sie_server.http.answer_writer import AnswerWriter
from sie_server.http.body import BodyReader
from sie_server.http.body_memory import BodyHold
from sie_server.http.error_responses import foreign_response
from sie_server.http.ignored_fields import ignored_fields
from sie_server.http.negotiation import json
from sie_server.large_bodies.outline import Body, ListField
from sie_server.large_bodies.reader import Reader
from sie_server.nn.precision import dtype_name
from sie_server.request_context import current_request
from sie_server.settings import Settings
from sie_server.tokenization.token_list import TokenList

# Bytes of a body in which its kind is looked for: pairs of texts, or texts to rank.
_HEAD = 64 * 2**10
_PAIRS = re.compile(rb'(?<!\\)"inputs"\s*:\s*\[\s*\[\s*"')
_RANKED = re.compile(rb'(?<!\\)"(texts|query)"\s*:')
_PAIR = "must be a pair of texts, a query and a document, or a list of such pairs; no model classifies single texts"
_IDS = "must be a list of token ids, or a list of such lists"
_Input = str | int | list[int | str] | dict[str, Any]
# Bytes of the answer, and of memory, for each character of a text, which may be a token.
_LISTED, _IN_MEMORY = 96, 600


class PredictFields(RerankFields, kw_only=True):
    """Body of TEI's `/predict`. `inputs`: a query and a document, or a list of such pairs."""

    inputs: list[str | list[str]] | None = None


class TokenizeFields(Struct):
    """Body of TEI's `/tokenize`. `inputs`: a text, or a list of texts."""

    model: str | None = None
    inputs: str | list[str] | None = None
    add_special_tokens: bool | None = None
    prompt_name: str | None = None
    parameters: dict[str, Any] | None = None


class DecodeFields(Struct):
    """Body of TEI's `/decode`. `ids`: token ids of a text, or of several texts."""

    model: str | None = None
    ids: list[int | list[int]] | None = None
    skip_special_tokens: bool | None = None
    parameters: dict[str, Any] | None = None


class SimpleToken(Struct, gc=False):
    """`start`, `stop`: of the token in its text, in code points; null for a special token."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class Tokens(Struct):
    tokens: list[list[SimpleToken]] = field(default_factory=list)


class Texts(Struct):
    texts: list[str] = field(default_factory=list)


_ANY = ((RerankFields, EmbedFields, PredictFields), (Ranks, Vectors, Predictions))
# By path: the bodies that are read, and the types of the lists that are answered.
TEI_ROUTES: Mapping[str, tuple[tuple[type[Struct], ...], tuple[type[Struct], ...]]] = {
    **dict.fromkeys(("/", "/invocations", "/tei", "/tei/invocations"), _ANY),
    **dict.fromkeys(("/predict", "/tei/predict"), ((PredictFields,), (Predictions,))),
    **dict.fromkeys(("/tokenize", "/tei/tokenize"), ((TokenizeFields,), (Tokens,))),
    **dict.fromkeys(("/decode", "/tei/decode"), ((DecodeFields,), (Texts,))),
}
_PREDICT = FieldReader(PredictFields, {"inputs": _PAIR})
_TOKENIZE = FieldReader(TokenizeFields, {"inputs": "must be a text, or a list of texts"})
_DECODE = FieldReader(DecodeFields, {"ids": _IDS})


class TEIAPI:
    """Handlers of TEI's routes that no other API has. rerank, embeddings: compute what has other routes as well."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        bodies: BodyReader,
        answers: AnswerWriter,
        sizes: AnswerSizes,
        default: DefaultModel,
        rerank: RerankAPI,
        embeddings: EmbeddingsAPI,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._bodies = bodies
        self._answers = answers
        self._sizes = sizes
        self._default = default
        self._rerank = rerank
        self._embeddings = embeddings

    def handler(self, path: str) -> Callable[[Request, BodyHold], Coroutine[Any, Any, Response]]:
        """The handler of one of TEI's routes."""
        named = {"predict": self.predict, "tokenize": self.tokenize, "decode": self.decode}
        return named.get(path.rpartition("/")[2], self.by_body)

    async def info(self, request: Request) -> Response:
        """Answer `GET /info`: the default model, as a reranker if it scores."""
        try:
            try:
                name = self._default.able("score")
            except SIEError:
                name = self._default.able("dense")
            address = self._engine.residency.names.resolve(name)
        except SIEError as error:
            return foreign_response(error, plain=True, busy=TEI.busy)
        entry, model = address.entry, address.slot.model
        if "score" in (entry.outputs or ("score",)):
            kind = ModelType(reranker=Labels({"0": LABEL}, {LABEL: 0}))
        else:
            kind = ModelType(embedding=PoolingType(entry.pooling or "mean"))
        return json(
            Info(
                model_id=address.id,
                model_sha=entry.revision,
                model_dtype="float32" if model is None else dtype_name(model.dtype),
                model_type=kind,
                max_input_length=entry.max_length,
                max_client_batch_size=self._settings.max_items,
                tokenization_workers=self._settings.tokenizer_threads,
                version=__version__,
            )
        )

    async def by_body(self, request: Request, hold: BodyHold) -> Response:
        """Answer `POST /` or `/invocations`: rank texts, score pairs or embed, as the body has fields for."""

        def asked(raw: Body, fields: Mapping[str, Raw], reader: Reader | None) -> RankRequest | EmbedRequest:
            if _RANKED.search(raw, 0, _HEAD):
                return self._rerank.asked(fields, reader)
            return self._pairs(fields, reader) if _PAIRS.search(raw, 0, _HEAD) else embed.request(fields, reader)

        embed = self._embeddings.reader(EMBED)
        kept: list[bytes] = []

        def listed(raw: bytes) -> ListField:
            kept.append(raw[:_HEAD])
            name = "texts" if _RANKED.search(raw, 0, _HEAD) else "inputs"
            return ListField(name, "texts", _Input, self._bodies.max_items)

        try:
            found = await self._bodies.decoded(
                request,
                hold,
                lambda raw: asked(raw, codec.decode(raw, dict[str, Raw], msgpack=False), None),
                lambda reader: asked(kept[0], reader.beside(dict[str, Raw]), reader),
                listed,
            )
            if isinstance(found, EmbedRequest):
                return await self._embeddings.embedded(request, hold, EMBED, found)
            return await self._rerank.ranked(request, hold, PREDICT if found.field == "inputs" else TEI, found)
        except SIEError as error:
            return foreign_response(error, plain=True, busy=TEI.busy)

    async def predict(self, request: Request, hold: BodyHold) -> Response:
        """Answer `POST /predict`: the score of pairs of texts."""
        listed = ListField("inputs", "pairs", str | list[str], self._bodies.max_items)
        try:
            asked = await self._bodies.decoded(
                request,
                hold,
                lambda raw: self._pairs(codec.decode(raw, dict[str, Raw], msgpack=False), None),
                lambda reader: self._pairs(reader.beside(dict[str, Raw]), reader),
                listed,
            )
            return await self._rerank.ranked(request, hold, PREDICT, asked)
        except SIEError as error:
            return foreign_response(error, plain=True, busy=TEI.busy)

    async def tokenize(self, request: Request, hold: BodyHold) -> Response:
        """Answer `POST /tokenize`: the tokens of texts, as the model embeds them."""
        listed = ListField("inputs", "texts", str, self._bodies.max_items)
        try:
            body = await self._body(request, hold, _TOKENIZE, TokenizeFields, listed)
            if body.prompt_name is not None:
                raise wrong("prompt_name", "is not supported here: send the text with its prompt")
            texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs or []
            self._bodies.check_count(len(texts), "inputs", "texts")
            for index, text in enumerate(texts):
                self._bodies.check_size(text, f"inputs[{index}]")
            characters = sum(map(len, texts)) + len(texts)
            self._sizes.hold(hold, [Size(_LISTED * characters, _IN_MEMORY * characters)], "inputs")
            call = self._engine.with_tokenizer(
                self._model(body.model),
                scheduling_params(request.headers),
                characters,
                lambda tokenizer: tokenizer.lists.of.steps(texts),
            )
            lists = await until_disconnect(request, call)
            special = body.add_special_tokens is not False
            elements = (_tokens(text, each, special=special) for text, each in zip(texts, lists, strict=True))
            return await self._answer(hold, Tokens(), "tokens", elements, large=characters > MANY)
        except SIEError as error:
            return foreign_response(error, plain=True, busy=TEI.busy)

    async def decode(self, request: Request, hold: BodyHold) -> Response:
        """Answer `POST /decode`: the texts of token ids."""
        most = self._bodies.max_items
        listed = ListField("ids", "texts", int | list[int], most, each=262_144, numbers=262_144)
        try:
            body = await self._body(request, hold, _DECODE, DecodeFields, listed)
            ids: list[Any] = body.ids or []
            if len({*map(type, ids)}) > 1:
                raise wrong("ids", _IDS)
            lists: list[list[int]] = ids if ids and isinstance(ids[0], list) else [ids]
            self._bodies.check_count(len(lists) if ids else 0, "ids", "lists of ids")
            tokens = sum(map(len, lists))
            call = self._engine.with_tokenizer(
                self._model(body.model),
                scheduling_params(request.headers),
                tokens,
                lambda tokenizer: tokenizer.lists.decode.steps(
                    lists, skip_special=body.skip_special_tokens is not False
                ),
            )
            texts = await until_disconnect(request, call)
            return await self._answer(hold, Texts(), "texts", iter(texts), large=tokens > MANY)
        except SIEError as error:
            return foreign_response(error, plain=True, busy=TEI.busy)

    def _model(self, name: str | None) -> str:
        """The id of the model of a request; by default the one that embeds."""
        context = current_request()
        context.model = name or self._default.able("dense")
        return self._engine.residency.names.resolve(context.model).slot.entry.id

    async def _body(
        self, request: Request, hold: BodyHold, reader: FieldReader[Any], kind: type[Struct], listed: ListField
    ) -> Any:
        def body(fields: Mapping[str, Raw]) -> Any:
            given = given_fields(fields)
            ignored.extend(ignored_fields(given, kind))
            return reader.read({name: raw for name, raw in given.items() if name in kind.__struct_fields__})

        def pieces(large: Reader) -> Any:
            found = large.filled(body(large.beside(dict[str, Raw])))
            if large.has_list:
                setattr(found, listed.field, list(large.elements()))
            return found

        def whole(raw: Body) -> Any:
            return body(codec.decode(raw, dict[str, Raw], msgpack=False))

        ignored = current_request().ignored = []
        return await self._bodies.decoded(request, hold, whole, pieces, listed)

    def _pairs(self, fields: Mapping[str, Raw], reader: Reader | None) -> RankRequest:
        """The pairs of `/predict`, to be scored."""
        given = given_fields(fields)
        inputs = _PREDICT.read({name: raw for name, raw in given.items() if name == "inputs"}).inputs
        given.pop("inputs", None)
        if reader is not None and reader.has_list:
            inputs = list(reader.elements())
        if not inputs:
            raise wrong("inputs", _PAIR)
        alone = isinstance(inputs[0], str)
        pairs: list[Any] = [inputs] if alone else inputs
        for index, pair in enumerate(pairs):
            if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
                raise wrong("inputs" if alone else f"inputs[{index}]", _PAIR)

        def fill(body: RerankFields) -> None:
            body.queries, body.documents = ([pair[side] for pair in pairs] for side in (0, 1))

        asked = read(given, fill=fill)
        asked.field, asked.alone = "inputs", alone
        return self._rerank.checked(asked)

    async def _answer(
        self, hold: BodyHold, body: Struct, name: str, elements: Iterator[Any], *, large: bool
    ) -> Response:
        large = large or hold.is_large
        if not large:
            setattr(body, name, list(elements))
        return await self._answers.write(body, name, {}, hold, elements, large=large, msgpack=False, bare=True)


def _tokens(text: str, found: TokenList, *, special: bool) -> list[SimpleToken]:
    own = [
        SimpleToken(token, text[start:stop], special=False, start=start, stop=stop)
        for token, (start, stop) in zip(found.ids, found.spans, strict=True)
    ]
    if not special:
        return own
    before, after = (
        [SimpleToken(token, name, special=True, start=None, stop=None) for token, name in side]
        for side in (found.before, found.after)
    )
    return [*before, *own, *after]
