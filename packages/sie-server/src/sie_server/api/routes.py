"""The table of routes, and what every request to an API has around its handler."""

from collections.abc import Callable, Coroutine
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from sie_server.api.answer_size import AnswerSizes
from sie_server.api.default_model import DefaultModel
from sie_server.api.dialects.rerank import RerankAPI
from sie_server.api.dialects.table import LISTED, ROUTES
from sie_server.api.embed_dialects.table import EMBED_ROUTES
from sie_server.api.embeddings import EmbeddingsAPI
from sie_server.api.native import NativeAPI
from sie_server.api.operator_routes import Health
from sie_server.api.playground import Playground
from sie_server.api.scoring import Scoring
from sie_server.api.status_feed import StatusStream
from sie_server.api.tei import TEI_ROUTES, TEIAPI
from sie_server.engine.engine import Engine
from sie_server.errors import CLIENT_CLOSED_REQUEST, SIEError
from sie_server.http.answer_writer import AnswerWriter
from sie_server.http.body import BodyReader
from sie_server.http.body_memory import BodyHold, BodyMemory
from sie_server.http.body_threads import BodyThreads
from sie_server.http.ignored_fields import IGNORED, header
from sie_server.http.shutdown import Drain
from sie_server.metrics import UNKNOWN, Metrics
from sie_server.request_context import current_request
from sie_server.settings import Settings

Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]
# Gets the hold of the request's body as well.
Handler = Callable[[Request, BodyHold], Coroutine[Any, Any, Response]]


class Routes:
    """The routes of one engine. health: its probes."""

    def __init__(self, engine: Engine, settings: Settings, metrics: Metrics, drain: Drain) -> None:
        self._engine = engine
        self._metrics = metrics
        self._memory = BodyMemory(settings.max_bodies_bytes)
        self._threads = BodyThreads()
        bodies = BodyReader(settings, self._memory, self._threads)
        answers = AnswerWriter(self._memory, self._threads)
        sizes = AnswerSizes(settings, self._memory)
        scoring = Scoring(engine, settings, sizes)
        self._native = NativeAPI(engine, settings, bodies, answers, sizes, scoring, metrics)
        default = DefaultModel(engine.residency.names, settings)
        self._reranking = RerankAPI(bodies, answers, scoring, default, metrics)
        self._embeddings = EmbeddingsAPI(engine, settings, bodies, answers, sizes, self._threads, default, metrics)
        self._tei = TEIAPI(engine, settings, bodies, answers, sizes, default, self._reranking, self._embeddings)
        keyed = bool(settings.api_keys or settings.api_keys_file)
        self.health = Health(engine, metrics, drain, keyed=keyed)
        self._playground = Playground(served=settings.playground)
        self._status = StatusStream(engine, settings, lambda: self.health.ready)
        metrics.body_bytes.set_function(lambda: self._memory.bytes)

    def close(self) -> None:
        """Stop the threads that work on bodies."""
        self._threads.close()

    def table(self) -> list[BaseRoute]:
        """Paths and handlers. Starlette tries them in this order."""
        native = self._native
        rerank = self._measured("rerank", self._reranking.rerank)
        embeddings = self._measured("embeddings", self._embeddings.embed)
        return [
            Route("/v1/score/{model:path}", self._measured("score", native.score), methods=["POST"]),
            Route("/v1/encode/{model:path}", self._measured("encode", native.encode), methods=["POST"]),
            Route("/v1/extract/{model:path}", self._measured("extract", native.extract), methods=["POST"]),
            *(Route(path, rerank, methods=["POST"]) for path in ROUTES),
            *(Route(path, embeddings, methods=["POST"]) for path in EMBED_ROUTES),
            *(Route(path, self._measured("tei", self._tei.handler(path)), methods=["POST"]) for path in TEI_ROUTES),
            *(Route(path, self._tei.info) for path in ("/info", "/tei/info")),
            *self._playground.routes(),
            *self.health.routes(),
            *(Route(f"{prefix}/v1/models", native.models) for prefix in LISTED),
            *(Route(f"{prefix}/v1/models/{{model:path}}", native.model) for prefix in LISTED),
            *self._status.routes(),
        ]

    def _measured(self, endpoint: str, handler: Handler) -> Endpoint:
        """The handler, with the hold of its body, and with its answers counted by status, errors included."""

        async def measured(request: Request) -> Response:
            status = 500
            context = current_request()
            context.endpoint = endpoint
            # Routes of other APIs read it in the body.
            context.model = request.path_params.get("model", UNKNOWN)
            hold = BodyHold(self._memory, context.client)
            try:
                response = await handler(request, hold)
                status = response.status_code
                if context.ignored:
                    response.headers[IGNORED] = header(context.ignored)
                return response
            except SIEError as error:
                status = error.answer.status
                raise
            except ClientDisconnect:
                status = CLIENT_CLOSED_REQUEST
                return Response(status_code=status)
            finally:
                if hold.leavings is not None:
                    self._threads.free(hold.leavings)
                residency = self._engine.residency
                if context.model not in residency.slots:  # Profiles are counted with their model.
                    context.model = residency.names.model_id(context.model) or UNKNOWN
                self._metrics.requests.labels(context.model, endpoint, str(status)).inc()
                if status == CLIENT_CLOSED_REQUEST:
                    self._metrics.disconnects.labels(context.model, endpoint).inc()

        return measured
