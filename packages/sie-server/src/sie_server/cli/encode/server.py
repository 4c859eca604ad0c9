"""An encoder that asks a server of SIE, through its Python SDK."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

from sie_sdk import SIEAsyncClient
from sie_sdk.errors import SIEError
from sie_sdk.types import OutputType
from sie_server.cli.encode.encoder import EncodeFlags, Encoder, Vectors
from sie_server.cli.rankers.server import ranker_error, server_model

_CONCURRENT = 8


class ServerEncoder:
    """Embeds with one model of a server."""

    def __init__(self, client: SIEAsyncClient, model: str, flags: EncodeFlags) -> None:
        self.name = f"{model} at {client.base_url}"
        self._client = client
        self._model = model
        self._flags = flags

    async def encode(self, texts: Sequence[str]) -> list[Vectors]:
        flags = self._flags
        try:
            results = await self._client.encode(
                self._model,
                [*texts],
                output_types=cast(list[OutputType], [*flags.outputs]) or None,
                output_dtype="float32",
                is_query=flags.is_query,
                instruction=flags.instruction,
            )
        except SIEError as error:
            raise ranker_error(error, self._client.base_url) from error
        found: list[Vectors] = []
        for result in results:
            vectors: Vectors = {name: result[name] for name in ("dense", "multivector") if name in result}
            if "sparse" in result:
                vectors["sparse"] = (result["sparse"]["indices"], result["sparse"]["values"])
            found.append(vectors)
        return found


@asynccontextmanager
async def server_encoder(
    url: str, model: str | None, flags: EncodeFlags, api_key: str | None
) -> AsyncIterator[Encoder]:
    """An encoder with a model of the server at `url`; None: the only one that it has loaded.

    Raises:
        ValueError: `url` is no URL, there are several models to choose from, or vectors should be cut.
        UnavailableError: the server can't be reached, needs another key, or does not have the model or its outputs.
    """
    if flags.dimensions is not None:
        raise ValueError("--dimensions is for a model in this process: a server does not say which widths a model has")
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url!r} is not the URL of a server of SIE, such as http://localhost:8080")
    async with SIEAsyncClient(url, api_key=api_key, max_concurrency=_CONCURRENT) as client:
        chosen = await server_model(client, model, flags.outputs[0] if flags.outputs else "dense")
        yield ServerEncoder(client, chosen, flags)
