"""Routes for operators and people: probes, metrics and the documentation."""

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from sie_server.api.dialects.xinference import XinferenceAuth
from sie_server.api.docs_page import base_url_of, docs
from sie_server.api.openapi import openapi
from sie_server.engine.engine import Engine
from sie_server.http.api_keys import XINFERENCE_AUTH
from sie_server.http.negotiation import json
from sie_server.http.shutdown import READINESS, Drain
from sie_server.metrics import CONTENT_TYPE, Metrics


class Health:
    """Probes of one engine, its metrics, and the documentation.

    started: whether start-up is over. keyed: whether requests need an API key.
    """

    def __init__(self, engine: Engine, metrics: Metrics, drain: Drain, *, keyed: bool) -> None:
        self._engine = engine
        self._metrics = metrics
        self._keyed = keyed
        self._drain = drain
        self.started = False
        metrics.ready.set_function(lambda: self.ready)

    @property
    def ready(self) -> bool:
        """Whether balancers should send requests."""
        return self.started and not self._drain.noticed and not self._drain.begun

    def routes(self) -> list[BaseRoute]:
        """Their paths and handlers."""
        return [
            Route("/healthz", self.healthz),
            *(Route(path, self.readyz) for path in READINESS),
            Route("/livez", self.livez),
            *(Route(path, self.auth) for path in XINFERENCE_AUTH),
            Route("/metrics", self.metrics),
            Route("/docs", self.docs),
            Route("/openapi.json", self.openapi),
        ]

    async def healthz(self, request: Request) -> Response:
        return PlainTextResponse("ok")

    async def readyz(self, request: Request) -> Response:
        return PlainTextResponse("ok") if self.ready else PlainTextResponse("not ready", 503)

    async def livez(self, request: Request) -> Response:
        trouble = self._engine.trouble
        return PlainTextResponse("ok") if trouble is None else PlainTextResponse(trouble.splitlines()[0], 503)

    async def auth(self, request: Request) -> Response:
        return json(XinferenceAuth(self._keyed))

    async def metrics(self, request: Request) -> Response:
        return Response(self._metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    async def docs(self, request: Request) -> Response:
        # The page shows a URL out of the client's headers: it must not be cached for others.
        return HTMLResponse(docs(openapi(), base_url_of(request)), headers={"Cache-Control": "no-store"})

    async def openapi(self, request: Request) -> Response:
        return json(openapi())
