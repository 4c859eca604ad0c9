"""`POST /v1/extract/{model}`: what a server without models for it says."""

from starlette.requests import Request
from starlette.responses import Response

from sie_server import wire
from sie_server.engine.engine import Engine
from sie_server.errors import Code, SIEError
from sie_server.http.body import BodyReader


class Extract:
    """The route's handler."""

    def __init__(self, engine: Engine, bodies: BodyReader) -> None:
        self._engine = engine
        self._bodies = bodies

    async def __call__(self, request: Request) -> Response:
        await self._bodies.items(request, wire.ExtractRequest)
        address = self._engine.residency.address(request.path_params["model"])
        raise SIEError(
            Code.INVALID_INPUT,
            f"Model '{address.id}' does not support extraction. Use an extraction model like GLiNER, GLiClass, or "
            "Florence-2.",
        )
