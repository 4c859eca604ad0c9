"""The native routes: score, encode, models, health, metrics."""

import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from sie_server import wire
from sie_server.api.answer_size import Answers, of_highlights, of_ids, of_rendered, of_vectors
from sie_server.api.cohere import Rerank
from sie_server.api.disconnect import until_disconnect
from sie_server.api.docs_page import asked_at, docs
from sie_server.api.extract import Extract
from sie_server.api.model_info import model_info
from sie_server.api.openai import Embeddings
from sie_server.api.openapi import openapi
from sie_server.api.options import around_texts, is_query, written
from sie_server.api.profile import completed
from sie_server.api.responses import MANY, embeddings, is_large, ranking, written_highlights
from sie_server.api.scheduling_headers import terms_of
from sie_server.api.status import StatusStream
from sie_server.api.timing import in_body, observe
from sie_server.cooperative import one_step
from sie_server.engine.capabilities import unsupported
from sie_server.engine.engine import FEW, Engine
from sie_server.engine.results import Encoded, Scored
from sie_server.engine.scheduling_params import SchedulingParams
from sie_server.errors import Code, SIEError
from sie_server.http.body import BodyReader
from sie_server.http.client_identity import Clients
from sie_server.http.negotiation import json, wants_msgpack
from sie_server.metrics import CONTENT_TYPE, UNKNOWN, Metrics
from sie_server.models.loaded_model import Comparison, LoadedModel
from sie_server.nn.muvera import FixedDimensional
from sie_server.options import LongDocuments, Muvera, ScoreMode
from sie_server.request_context import current_request
from sie_server.residency.address import ModelAddress
from sie_server.settings import Settings
from sie_server.tokenization.config import LengthLimits

_MAX_ENCODING_DIMS = 65536
# nginx's number for a client that closed the connection; nobody is left to read an answer.
_GONE = 499

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Routes:
    """Request handlers over one engine."""

    def __init__(self, engine: Engine, settings: Settings, metrics: Metrics) -> None:
        self._engine = engine
        self._settings = settings
        self._metrics = metrics
        self._bodies = BodyReader(settings)
        self._answers = Answers(settings, self._bodies.account)
        self._embeddings = Embeddings(engine, settings, self._bodies, self._answers, metrics)
        self._extract = Extract(engine, self._bodies)
        self._rerank = Rerank(self.ranked, self._bodies)
        self._clients = Clients()
        self._status = StatusStream(engine, settings, lambda: self.ready)
        self.ready = False
        metrics.ready.set_function(lambda: self.ready)
        metrics.body_bytes.set_function(lambda: self._bodies.account.bytes)

    def close(self) -> None:
        """Stop what the routes do on threads of their own."""
        self._bodies.close()

    def table(self) -> list[BaseRoute]:
        """Path → handler."""
        # They are tried in turn.
        return [
            Route("/v1/score/{model:path}", self._measured("score", self.score), methods=["POST"]),
            Route("/v1/encode/{model:path}", self._measured("encode", self.encode), methods=["POST"]),
            Route("/v1/extract/{model:path}", self._measured("extract", self._extract), methods=["POST"]),
            Route("/v1/rerank", self._measured("rerank", self._rerank), methods=["POST"]),
            Route("/v1/embeddings", self._measured("embeddings", self._embeddings), methods=["POST"]),
            Route("/", self.root),
            Route("/healthz", self.healthz),
            Route("/readyz", self.readyz),
            Route("/livez", self.livez),
            Route("/metrics", self.metrics),
            Route("/docs", self.docs),
            Route("/openapi.json", self.openapi),
            Route("/v1/models", self.models),
            Route("/v1/models/{model:path}", self.model),
            *self._status.routes(),
        ]

    async def score(self, request: Request) -> Response:
        started = time.perf_counter()
        body = await self._bodies.items(request, wire.ScoreRequest)
        response, headers = await self.ranked(request, body, request.path_params["model"], "score", started)
        large = len(body.items) > MANY or bool(body.options and body.options.return_highlights)
        large = large or self._bodies.is_large(request)
        msgpack = wants_msgpack(request)
        return await self._bodies.answer(response, "scores", headers, large=large, msgpack=msgpack)

    async def ranked(
        self, request: Request, body: wire.ScoreRequest, model_id: str, endpoint: str, started: float
    ) -> tuple[wire.ScoreResponse, dict[str, str]]:
        """The answer to a request for scores, whose items are known to fit, and its headers.

        started: `time.perf_counter()` when it came in.

        Raises:
            SIEError: as `Engine.score`; INVALID_INPUT; MODEL_NOT_FOUND, MODEL_LOADING or MODEL_LOAD_FAILED.
        """
        terms = terms_of(request, started)
        asked = body.options or wire.ScoreOptions()
        # However many items there are, an instruction is read with the query alone.
        self._bodies.check_repeated({"instruction": body.instruction, "options.instruction": asked.instruction}, 1)
        address = self._engine.residency.address(model_id, asked.profile)
        scored, scores = await until_disconnect(request, self._ranked(request, body, asked, address, terms))
        done = time.perf_counter()
        response = wire.ScoreResponse(
            model=address.id, query_id=body.query.id, scores=scores, usage=wire.Usage(scored.tokens)
        )
        model = address.slot.entry.id
        return response, observe(self._metrics, model, endpoint, started, done, scored.timing, scored.tokens)

    async def _ranked(
        self,
        request: Request,
        body: wire.ScoreRequest,
        asked: wire.ScoreOptions,
        address: ModelAddress,
        terms: SchedulingParams,
    ) -> tuple[Scored, list[wire.ScoreEntry]]:
        options = completed(asked, address.profile)
        model = await self._engine.model(address.slot.entry.id, ["score"], terms)
        large = self._bodies.is_large(request)
        query, documents = await self._bodies.perhaps_aside(lambda: _texts_to_score(body, model), large=large)
        documents = self._bodies.kept(request, documents)
        msgpack = wants_msgpack(request)
        if large:
            self._answers.hold(request, [of_ids([body.query, *body.items], msgpack=msgpack)], "items")
        instruction = body.instruction or options.instruction
        long_documents = asked.long_documents or _overflow(asked, address.long_documents)
        limits = LengthLimits(options.max_seq_length, options.query_max_length, long_documents)

        def check(tokens: int) -> None:
            if options.return_highlights:
                size = of_highlights(min(options.top_k or len(documents), len(documents)), tokens)
                self._answers.hold(request, [size], "options.return_highlights")

        comparison = _comparison(options)
        scored = await self._engine.score(model, query, documents, limits, instruction, comparison, terms, check)
        quick = len(documents) <= FEW
        rank = one_step(lambda: ranking(body.items, scored, options))
        order, scores = await self._engine.aside(rank, terms, quick=quick)
        if options.return_highlights:
            write = partial(written_highlights, msgpack=msgpack)
            found = self._engine.highlights(model, scored, query, instruction, documents, order, write, terms)
            for entry, highlights in zip(scores, await found, strict=True):
                entry.highlights = highlights
        return scored, scores

    async def encode(self, request: Request) -> Response:
        started = time.perf_counter()
        terms = terms_of(request, started)
        body = await self._bodies.items(request, wire.EncodeRequest)
        params = body.params or wire.EncodeParams()
        asked = params.options or wire.EncodeOptions()
        self._bodies.check_repeated(around_texts(params), len(body.items))
        address = self._engine.residency.address(request.path_params["model"], asked.profile)
        options = completed(asked, address.profile)
        if options.muvera is not None:
            _check_dims(options.muvera)
        encoding = self._encoded(request, body.items, params, options, address.slot.entry.id, terms)
        model, encoded = await until_disconnect(request, encoding)
        done = time.perf_counter()
        dtype = params.output_dtype or options.output_dtype or "float32"
        large = is_large(encoded.vectors) or self._bodies.is_large(request)
        embedded = embeddings(body.items, encoded.vectors, dtype, model.entry.sparse_dims)
        items = [] if large else list(embedded)
        tokens, timing = encoded.tokens, encoded.timing
        response = wire.EncodeResponse(
            model=address.id, items=items, timing=in_body(started, done, timing), usage=wire.Usage(tokens)
        )
        headers = observe(self._metrics, model.id, "encode", started, done, timing, tokens)
        msgpack = wants_msgpack(request)
        return await self._bodies.answer(response, "items", headers, embedded, large=large, msgpack=msgpack)

    async def _encoded(
        self,
        request: Request,
        items: Sequence[wire.Item],
        params: wire.EncodeParams,
        options: wire.EncodeOptions,
        model_id: str,
        terms: SchedulingParams,
    ) -> tuple[LoadedModel, Encoded]:
        outputs = options.output_types or params.output_types or ["dense"]
        needed = outputs
        if options.muvera is not None:
            outputs = [*outputs, "dense"]
            needed = ["multivector", *(output for output in outputs if output != "dense")]
        model = await self._engine.model(model_id, needed, terms)
        if "score" in outputs:  # an output of the model, but not of this route
            raise unsupported(model.entry, ["score"])
        dtype = params.output_dtype or options.output_dtype or "float32"
        msgpack = wants_msgpack(request)
        field = "params.output_types" if options.muvera is None else "params.options.muvera"
        dims = model.entry.dims or 0
        sizes = []
        if "dense" in outputs:
            width = dims if options.muvera is None else options.muvera.dims
            sizes.append(of_vectors(len(items), width, dtype, msgpack=msgpack))
            # Refused before the texts are read, where that can be.
            self._answers.check(sizes, field)
        large = self._bodies.is_large(request) or len(items) > MANY
        if large:
            sizes.append(of_ids(items, msgpack=msgpack))
        given, most = _texts(items, "Encoder"), self._settings.max_rendered_bytes
        fill = partial(written, given, model.entry, params, options, most)
        texts = self._bodies.kept(request, await self._bodies.perhaps_aside(fill, large=large))
        self._answers.hold(request, [of_rendered(given, texts)], field)
        queries = is_query(params, options)
        heads = model.embedders(options.pooling, options.normalize is not False)
        if options.muvera is not None:
            heads["dense"] = FixedDimensional(heads["multivector"], options.muvera, is_query=queries)
        limits = LengthLimits(options.max_seq_length, options.query_max_length, _overflow(options, "truncate"))
        chosen = {name: heads[name] for name in heads if name in outputs}

        def check(vectors: int) -> None:
            if "multivector" in outputs:
                sizes.append(of_vectors(vectors, dims, dtype, msgpack=msgpack))
            self._answers.hold(request, sizes, field)

        weigh = self._answers.sparse(dtype, field, msgpack=msgpack) if "sparse" in chosen else None
        return model, await self._engine.encode(model, texts, chosen, limits, queries, terms, check, weigh)

    async def models(self, request: Request) -> Response:
        return json(wire.ModelList([model_info(address) for address in self._engine.residency.addresses]))

    async def model(self, request: Request) -> Response:
        return json(model_info(self._engine.residency.address(request.path_params["model"])))

    async def root(self, request: Request) -> Response:
        return RedirectResponse("/docs", status_code=307)

    async def docs(self, request: Request) -> Response:
        # It has in it what the client's headers say: for nobody else.
        return HTMLResponse(docs(openapi(), asked_at(request)), headers={"Cache-Control": "no-store"})

    async def openapi(self, request: Request) -> Response:
        return json(openapi())

    async def metrics(self, request: Request) -> Response:
        return Response(self._metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    async def healthz(self, request: Request) -> Response:
        return PlainTextResponse("ok")

    async def readyz(self, request: Request) -> Response:
        return PlainTextResponse("ok") if self.ready else PlainTextResponse("not ready", 503)

    async def livez(self, request: Request) -> Response:
        trouble = self._engine.trouble
        return PlainTextResponse("ok") if trouble is None else PlainTextResponse(trouble.splitlines()[0], 503)

    def _measured(self, endpoint: str, handler: Handler) -> Handler:
        """Count answers by status, errors included."""

        async def measured(request: Request) -> Response:
            status = 500
            current_request().endpoint = endpoint
            try:
                with self._clients.present(request.scope) as request.state.client:
                    response = await handler(request)
                self._bodies.sends(request, response)
                status = response.status_code
                return response
            except SIEError as error:
                status = error.answer.status
                raise
            except ClientDisconnect:
                status = _GONE
                return Response(status_code=status)
            finally:
                self._bodies.release(request)
                # The routes of other APIs have it in the body, and leave it here.
                named = request.path_params.get("model", getattr(request.state, "model", ""))
                current_request().model = model = self._known(named)
                self._metrics.requests.labels(model, endpoint, str(status)).inc()
                if status == _GONE:
                    self._metrics.disconnects.labels(model, endpoint).inc()

        return measured

    def _known(self, model_id: str) -> str:
        """The model that a request is counted for, with those to its profiles."""
        return self._engine.residency.knows(model_id) or UNKNOWN


def _text(item: wire.Item, field: str, adapter: str) -> str:
    if item.text is None:
        raise SIEError(Code.INVALID_INPUT, f"{adapter} adapter requires text input", param=f"{field}.text")
    return item.text


def _texts(items: Sequence[wire.Item], adapter: str) -> list[str]:
    return [_text(item, f"items[{i}]", adapter) for i, item in enumerate(items)]


def _overflow(options: wire.Options, default: LongDocuments) -> LongDocuments:
    policies: dict[str | None, LongDocuments] = {"error": "error", "truncate_text": "truncate"}
    return policies.get(options.overflow_policy, default)


def _comparison(options: wire.ScoreOptions) -> Comparison:
    given = options.score_weights or wire.ScoreWeights()
    weights: dict[ScoreMode, float] = {"dense": given.dense, "sparse": given.sparse, "colbert": given.colbert}
    if not any(weights.values()):
        raise SIEError(Code.INVALID_INPUT, "Field 'options.score_weights' needs one weight above zero")
    return Comparison(options.score_mode or "dense", weights, matches=options.return_highlights)


def _check_dims(muvera: Muvera) -> None:
    if muvera.dims > _MAX_ENCODING_DIMS:
        field = "params.options.muvera"
        raise SIEError(
            Code.INVALID_INPUT,
            f"Field '{field}' makes vectors of {muvera.dims} dimensions; the limit is {_MAX_ENCODING_DIMS}",
            param=field,
        )


def _texts_to_score(body: wire.ScoreRequest, model: LoadedModel) -> tuple[str, list[str]]:
    if model.tokenizer.prompt is None:
        return _text(body.query, "query", "CrossEncoder"), _texts(body.items, "CrossEncoder")
    query, documents = _text(body.query, "query", "CausalReranker"), _texts(body.items, "CausalReranker")
    for field, text in [("query", query), *((f"items[{i}]", text) for i, text in enumerate(documents))]:
        if not text.strip():
            raise SIEError(
                Code.INVALID_INPUT, f"CausalReranker adapter requires text input: '{field}.text' is blank", param=field
            )
    return query, documents
