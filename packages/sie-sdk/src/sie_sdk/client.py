"""The blocking client."""

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

from sie_sdk._endpoint import Endpoint
from sie_sdk._exchange import Attempt, Call, Failure, Pause
from sie_sdk._reply import Reply
from sie_sdk._session import Session
from sie_sdk.async_client import SIEAsyncClient
from sie_sdk.types import EncodeResult, ExtractResult, Item, ModelInfo, OutputDType, OutputType, ScoreResult

if TYPE_CHECKING:
    import httpx2

__all__ = ["SIEAsyncClient", "SIEClient"]

T = TypeVar("T")


class SIEClient(Session):
    """A connection to an SIE server. Safe to share between threads; use it as a context manager or `close()` it.

        with SIEClient("http://localhost:8080") as client:
            result = client.score("BAAI/bge-reranker-v2-m3", Item(text="What is Python?"), [Item(text="A language.")])

    Args:
        base_url: Where the server is, e.g. `"http://localhost:8080"`; by default the environment's SIE_BASE_URL.
            Redirects are not followed.
        timeout_s: Sets both of the next two, in seconds.
        connect_timeout_s: How long to wait for a connection to open (10).
        read_timeout_s: How long to wait for the next bytes of an answer (150). What times out is not sent again.
        api_key: Sent as a bearer token; by default the environment's SIE_API_KEY, `""` for none.
        gpu: Machine profile, `"l4"`, or pool and profile, `"batch/l4"`; a single server only checks that it is one.
        pool: Pool of machines. Needs a gateway; a single server ignores it.
        options: Options of every call; those given to a call win.
        max_connections: Most connections open at once (100).
        base_url_headers: Further headers of every request.
        remote: `"forbid"` refuses to have requests answered by another deployment.
        http_client: An `httpx2.Client` to send with, e.g. for a proxy or a test; it stays open on `close()`.
        control_plane_url: Accepted for programs written for a hosted deployment; not used.
        org: Likewise.

    Raises:
        ValueError: There is no base URL, or one of the arguments can't be right.

    Every method raises the errors of `sie_sdk.errors`. While a server is not ready (a model is loading, its queue is
    full, the connection is refused) a call waits and asks again, for up to `provision_timeout_s` (900) in all; with
    `wait_for_capacity=False` it waits neither for a machine nor for the server to come up. Look-ups never wait for
    either.
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
        http_client: "httpx2.Client | None" = None,
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
        import httpx2

        from sie_sdk import _http

        self._owns_http = http_client is None
        self._http = http_client or httpx2.Client(limits=_http.limits(max_connections or 100))

    def score(
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
        """Ranks documents by their relevance to a query.

        Args:
            model: Id of a reranker or a late-interaction model, e.g. `"BAAI/bge-reranker-v2-m3"`.
            query: The query.
            items: The documents.
            instruction: What relevance means, for models that read one.
            options: Among others `top_k`, `return_tokens`, `max_seq_length` (tokens), `long_documents`, `profile`.
            gpu: As for the client.
            wait_for_capacity: Whether to wait for a machine, and for a server that does not answer.
            provision_timeout_s: Seconds this call may take, waiting included (900); 0 sends it only once.
            max_oom_retries: How often to ask again when the server is out of memory.

        Returns:
            Every document once, in descending order of score; documents that score the same stay in their order.

        Raises:
            ValueError: A text is not valid Unicode, or an argument can't be right.
            SIEError: See `sie_sdk.errors`.
        """
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
        return self._run(call)

    @overload
    def encode(
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
    def encode(
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

    def encode(
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
        """Turns items into embeddings: one result for one item, a list of results for a list.

        Args:
            model: Id of an encoder, e.g. `"sentence-transformers/all-MiniLM-L6-v2"`.
            items: An item or a list of items.
            output_types: Any of `"dense"`, `"sparse"`, `"multivector"`; by default dense.
            instruction: The task, for models that read one.
            output_dtype: `"float32"` (the default), `"float16"`, `"int8"`, `"uint8"`, `"binary"`, `"ubinary"`.
            is_query: Whether the items are queries, for models that tell queries from documents.
            options: Among others `normalize`, `pooling`, `max_seq_length` (tokens), `profile`.
            gpu, wait_for_capacity, provision_timeout_s, max_oom_retries: As for `score`.

        Returns:
            `dense` is an array `[dim]`, `multivector` an array `[tokens, dim]`, `sparse` a pair of arrays.

        Raises:
            ValueError: A text is not valid Unicode, or an argument can't be right.
            IncompleteBatchError: The server did not answer for every item.
            SIEError: See `sie_sdk.errors`.
        """
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
        return self._run(call)

    def extract(
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
        """Finds entities, relations and classes in items: one result for one item, a list of results for a list.

        Raises RequestError if the model does not extract; otherwise as `encode`.
        """
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
        return self._run(call)

    def list_models(self) -> list[ModelInfo]:
        """The models the server knows, loaded or not."""
        return self._run(self._endpoint.list_models())

    def get_model(self, name: str) -> ModelInfo:
        """One model. Raises RequestError with code MODEL_NOT_FOUND if the server does not know it."""
        return self._run(self._endpoint.get_model(name))

    def close(self) -> None:
        """Closes the connections."""
        if self._owns_http:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, call: Call[T]) -> T:
        answer: Reply | Failure | None = None
        with self._exchange(call) as steps:
            while True:
                try:
                    step = steps.send(answer)
                except StopIteration as end:
                    result: T = end.value
                    return result
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    answer = None
                else:
                    answer = self._send(step)

    def _send(self, attempt: Attempt) -> Reply | Failure:
        from sie_sdk import _http

        try:
            return _http.reply(self._http.request(**_http.arguments(attempt)))
        except _http.TransportError as error:
            return _http.failure(error)
