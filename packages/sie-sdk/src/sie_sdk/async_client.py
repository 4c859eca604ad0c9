"""The asyncio client: the same calls as the blocking one, awaited.

asyncio and httpx2 are imported when a client is made, not when the package is: together they take longer to import than
all the rest.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

from sie_sdk._endpoint import Endpoint
from sie_sdk._exchange import Attempt, Call, Failure, Pause
from sie_sdk._reply import Reply
from sie_sdk._session import Session
from sie_sdk.types import EncodeResult, ExtractResult, Item, ModelInfo, OutputDType, OutputType, ScoreResult

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")


class SIEAsyncClient(Session):
    """`SIEClient` for asyncio: the same arguments, results and errors, each call awaited.

        async with SIEAsyncClient("http://localhost:8080") as client:
            result = await client.score("BAAI/bge-reranker-v2-m3", Item(text="What is Python?"), items)

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
        del control_plane_url, org
        endpoint = Endpoint(
            base_url,
            timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s,
            read_timeout_s=read_timeout_s,
            api_key=api_key,
            gpu=gpu,
            pool=pool,
            options=options,
            base_url_headers=base_url_headers,
            remote=remote,
        )
        super().__init__(endpoint)
        import asyncio

        import httpx2

        from sie_sdk import _http

        self._owns_http = http_client is None
        self._http = http_client or httpx2.AsyncClient(limits=_http.limits(max_connections or 100))
        self._turns: AbstractAsyncContextManager[None] = nullcontext()
        if max_concurrency is not None:
            self._turns = asyncio.Semaphore(max_concurrency)

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
        call = self._endpoint.score(
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
        return await self._run(call)

    @overload
    async def encode(
        self,
        model: str,
        items: Item,
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
    ) -> EncodeResult: ...

    @overload
    async def encode(
        self,
        model: str,
        items: Sequence[Item],
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
    ) -> list[EncodeResult]: ...

    async def encode(
        self,
        model: str,
        items: Item | Sequence[Item],
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
    ) -> EncodeResult | list[EncodeResult]:
        """Turns items into embeddings, one result for one item, a list for a list; see `SIEClient.encode`."""
        call = self._endpoint.encode(
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
        )
        return await self._run(call)

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
        call = self._endpoint.extract(
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
        return await self._run(call)

    async def list_models(self) -> list[ModelInfo]:
        """The models the server knows, loaded or not."""
        return await self._run(self._endpoint.list_models())

    async def get_model(self, name: str) -> ModelInfo:
        """One model. Raises RequestError with code MODEL_NOT_FOUND if the server does not know it."""
        return await self._run(self._endpoint.get_model(name))

    async def close(self) -> None:
        """Closes the connections."""
        if self._owns_http:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, call: Call[T]) -> T:
        import asyncio

        answer: Reply | Failure | None = None
        async with self._turns:
            with self._exchange(call) as steps:
                while True:
                    try:
                        step = steps.send(answer)
                    except StopIteration as end:
                        result: T = end.value
                        return result
                    if isinstance(step, Pause):
                        await asyncio.sleep(step.seconds)
                        answer = None
                    else:
                        answer = await self._send(step)

    async def _send(self, attempt: Attempt) -> Reply | Failure:
        from sie_sdk import _http

        try:
            return _http.reply(await self._http.request(**_http.arguments(attempt)))
        except _http.TransportError as error:
            return _http.failure(error)
