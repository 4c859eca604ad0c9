"""The asyncio client."""

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from typing import TYPE_CHECKING, Unpack, overload

from sie_sdk._core.endpoint import Endpoint
from sie_sdk.client._async_session import AsyncSession
from sie_sdk.client._shared import check_keywords
from sie_sdk.types import (
    ClientArguments,
    EncodeArguments,
    EncodeResult,
    ExtractArguments,
    ExtractResult,
    Item,
    ModelInfo,
    ScoreArguments,
    ScoreResult,
)

if TYPE_CHECKING:
    import httpx2


class SIEAsyncClient(AsyncSession):
    """The asyncio version of `SIEClient`, with the same methods, arguments, results and errors.

        >>> async def best(question: str, texts: list[str]) -> str:
        ...     items = [Item(text=text) for text in texts]
        ...     async with SIEAsyncClient("http://localhost:8080") as client:
        ...         result = await client.score("sentence-transformers/all-MiniLM-L6-v2", Item(text=question), items)
        ...     return result["scores"][0]["item_id"]
        >>> import asyncio
        >>> asyncio.run(best("What is Python?", ["Snakes are reptiles.", "Python is a language."]))
        'item-1'

    One argument is new: `max_concurrency` limits the calls in flight, including those that wait for the server; further
    calls queue in order. By default only `max_connections` (100) limits them.

    `arguments` are `timeout_s`, `connect_timeout_s`, `read_timeout_s`, `api_key`, `options`, `base_url_headers` and
    `remote`, as for `SIEClient`.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        max_connections: int | None = None,
        max_concurrency: int | None = None,
        http_client: "httpx2.AsyncClient | None" = None,
        **arguments: Unpack[ClientArguments],
    ) -> None:
        check_keywords(SIEAsyncClient, "__init__", arguments, ClientArguments)
        super().__init__(Endpoint(base_url, **arguments), max_connections, max_concurrency, http_client)

    async def score(
        self, model: str, query: Item | str, items: Sequence[Item | str], **arguments: Unpack[ScoreArguments]
    ) -> ScoreResult:
        """Ranks documents by their relevance to a query.

        `arguments` are `top_k`, `instruction`, `options`, `wait_for_capacity`, `provision_timeout_s` and
        `max_oom_retries`, as for `SIEClient.score`.
        """
        check_keywords(SIEAsyncClient, "score", arguments, ScoreArguments)
        return await self._all(self._endpoint.score(model, query, items, **arguments))

    # A text is an iterable of texts too; what comes first holds.
    @overload
    async def encode(  # type: ignore[overload-overlap]
        self, model: str, items: Item | str, **arguments: Unpack[EncodeArguments]
    ) -> EncodeResult: ...

    @overload
    async def encode(
        self, model: str, items: Iterable[Item | str], **arguments: Unpack[EncodeArguments]
    ) -> list[EncodeResult]: ...

    async def encode(
        self, model: str, items: Item | str | Iterable[Item | str], **arguments: Unpack[EncodeArguments]
    ) -> EncodeResult | list[EncodeResult]:
        """Computes the embeddings of items: one result for one item, a list of results for a list.

        `arguments` are `output_types`, `output_dtype`, `is_query` and `progress`, as for `SIEClient.encode`, and all
        of `score` but `top_k`.
        """
        check_keywords(SIEAsyncClient, "encode", arguments, EncodeArguments)
        return await self._all(self._endpoint.encode(model, items, **arguments))

    def encode_stream(
        self, model: str, items: Iterable[Item | str] | AsyncIterable[Item | str], **arguments: Unpack[EncodeArguments]
    ) -> AsyncGenerator[EncodeResult, None]:
        """Yields the embeddings of items, sync or async, in their order; see `SIEClient.encode_stream`.

        `arguments` are as for `encode`. After leaving the loop early, `aclose()` the generator, or use
        `contextlib.aclosing`.
        """
        check_keywords(SIEAsyncClient, "encode_stream", arguments, EncodeArguments)
        return self._stream(self._endpoint.encode_stream(model, items, **arguments))

    async def extract(
        self, model: str, items: Item | str | Sequence[Item | str], **arguments: Unpack[ExtractArguments]
    ) -> ExtractResult | list[ExtractResult]:
        """Extracts entities, relations and classes from items; see `SIEClient.extract`.

        `arguments` are `labels` and `output_schema`, as for `SIEClient.extract`, and all of `score` but `top_k`.
        """
        check_keywords(SIEAsyncClient, "extract", arguments, ExtractArguments)
        return await self._all(self._endpoint.extract(model, items, **arguments))

    async def list_models(self) -> list[ModelInfo]:
        """Lists the models that the server knows, loaded or not."""
        return await self._look_up(self._endpoint.list_models())

    async def get_model(self, name: str) -> ModelInfo:
        """Describes one model. Raises RequestError with code MODEL_NOT_FOUND if the server does not know it."""
        return await self._look_up(self._endpoint.get_model(name))
