"""The asyncio client: the same calls as the blocking one, awaited."""

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from sie_sdk._core.endpoint import Endpoint
from sie_sdk.client._async_session import AwaitedSession
from sie_sdk.types import (
    EncodeArguments,
    EncodeResult,
    ExtractResult,
    Item,
    ModelInfo,
    OutputDType,
    OutputType,
    ScoreResult,
)

if TYPE_CHECKING:
    import httpx2


class SIEAsyncClient(AwaitedSession):
    """`SIEClient` for asyncio: the same arguments, results and errors, each call awaited.

        >>> async def best(question: str, texts: list[str]) -> str:
        ...     items = [Item(text=text) for text in texts]
        ...     async with SIEAsyncClient("http://localhost:8080") as client:
        ...         result = await client.score("sentence-transformers/all-MiniLM-L6-v2", Item(text=question), items)
        ...     return result["scores"][0]["item_id"]
        >>> import asyncio
        >>> asyncio.run(best("What is Python?", ["Snakes are reptiles.", "Python is a language."]))
        'item-1'

    One argument more, `max_concurrency`: the most calls under way at once, waits for the server included; the rest
    queue here, in order. By default only `max_connections` (100) bounds them.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        timeout_s: float | None = None,
        api_key: str | None = None,
        gpu: str | None = None,
        options: Mapping[str, Any] | None = None,
        pool: str | None = None,
        max_connections: int | None = None,
        control_plane_url: str | None = None,
        org: str | None = None,
        base_url_headers: Mapping[str, str] | None = None,
        connect_timeout_s: float | None = None,
        read_timeout_s: float | None = None,
        remote: Literal["forbid"] | None = None,
        max_concurrency: int | None = None,
        http_client: "httpx2.AsyncClient | None" = None,
    ) -> None:
        endpoint = Endpoint(
            base_url,
            timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s,
            read_timeout_s=read_timeout_s,
            api_key=api_key,
            gpu=gpu,
            pool=pool,
            control_plane_url=control_plane_url,
            org=org,
            options=options,
            base_url_headers=base_url_headers,
            remote=remote,
        )
        super().__init__(endpoint, max_connections, max_concurrency, http_client)

    async def score(
        self,
        model: str,
        query: Item,
        items: Sequence[Item],
        *,
        instruction: str | None = None,
        options: Mapping[str, Any] | None = None,
        gpu: str | None = None,
        wait_for_capacity: bool = True,
        provision_timeout_s: float | None = None,
        max_oom_retries: int = 3,
    ) -> ScoreResult:
        """Ranks documents by their relevance to a query; see `SIEClient.score`."""
        batch = self._endpoint.score(
            model,
            query,
            items,
            instruction=instruction,
            options=options,
            gpu=gpu,
            wait_for_capacity=wait_for_capacity,
            provision_timeout_s=provision_timeout_s,
            max_oom_retries=max_oom_retries,
        )
        return await self._all(batch)

    @overload
    async def encode(self, model: str, items: Item, **arguments: Unpack[EncodeArguments]) -> EncodeResult: ...

    @overload
    async def encode(
        self, model: str, items: Iterable[Item], **arguments: Unpack[EncodeArguments]
    ) -> list[EncodeResult]: ...

    async def encode(
        self,
        model: str,
        items: Item | Iterable[Item],
        *,
        output_types: Sequence[OutputType] | None = None,
        instruction: str | None = None,
        output_dtype: OutputDType | None = None,
        is_query: bool | None = None,
        options: Mapping[str, Any] | None = None,
        gpu: str | None = None,
        wait_for_capacity: bool = True,
        provision_timeout_s: float | None = None,
        max_oom_retries: int = 3,
        progress: Callable[[int], None] | bool = False,
    ) -> EncodeResult | list[EncodeResult]:
        """Turns items into embeddings, one result for one item, a list for a list; see `SIEClient.encode`."""
        batch = self._endpoint.encode(
            model,
            items,
            output_types=output_types,
            instruction=instruction,
            output_dtype=output_dtype,
            is_query=is_query,
            options=options,
            gpu=gpu,
            wait_for_capacity=wait_for_capacity,
            provision_timeout_s=provision_timeout_s,
            max_oom_retries=max_oom_retries,
            progress=progress,
        )
        return await self._all(batch)

    def encode_stream(
        self,
        model: str,
        items: Iterable[Item] | AsyncIterable[Item],
        *,
        output_types: Sequence[OutputType] | None = None,
        instruction: str | None = None,
        output_dtype: OutputDType | None = None,
        is_query: bool | None = None,
        options: Mapping[str, Any] | None = None,
        gpu: str | None = None,
        wait_for_capacity: bool = True,
        provision_timeout_s: float | None = None,
        max_oom_retries: int = 3,
        progress: Callable[[int], None] | bool = False,
    ) -> AsyncGenerator[EncodeResult, None]:
        """Yields the embeddings of items, sync or async, in their order; see `SIEClient.encode_stream`.

        Whoever leaves the loop early should `aclose()` the generator, or use `contextlib.aclosing`.
        """
        stream = self._endpoint.encode_stream(
            model,
            items,
            output_types=output_types,
            instruction=instruction,
            output_dtype=output_dtype,
            is_query=is_query,
            options=options,
            gpu=gpu,
            wait_for_capacity=wait_for_capacity,
            provision_timeout_s=provision_timeout_s,
            max_oom_retries=max_oom_retries,
            progress=progress,
        )
        return self._stream(stream)

    async def extract(
        self,
        model: str,
        items: Item | Sequence[Item],
        *,
        labels: Sequence[str] | None = None,
        output_schema: Mapping[str, Any] | None = None,
        instruction: str | None = None,
        options: Mapping[str, Any] | None = None,
        gpu: str | None = None,
        wait_for_capacity: bool = True,
        provision_timeout_s: float | None = None,
        max_oom_retries: int = 3,
    ) -> ExtractResult | list[ExtractResult]:
        """Finds entities, relations and classes in items; see `SIEClient.extract`."""
        batch = self._endpoint.extract(
            model,
            items,
            labels=labels,
            output_schema=output_schema,
            instruction=instruction,
            options=options,
            gpu=gpu,
            wait_for_capacity=wait_for_capacity,
            provision_timeout_s=provision_timeout_s,
            max_oom_retries=max_oom_retries,
        )
        return await self._all(batch)

    async def list_models(self) -> list[ModelInfo]:
        """The models the server knows, loaded or not."""
        return await self._look_up(self._endpoint.list_models())

    async def get_model(self, name: str) -> ModelInfo:
        """One model. Raises RequestError with code MODEL_NOT_FOUND if the server does not know it."""
        return await self._look_up(self._endpoint.get_model(name))
