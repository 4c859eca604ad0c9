"""The blocking client."""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from sie_sdk._core.endpoint import Endpoint
from sie_sdk.client._sync_session import SyncSession
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


class SIEClient(SyncSession):
    """A client of an SIE server. Threads may share it; use it as a context manager, or `close()` it.

        >>> with SIEClient("http://localhost:8080") as client:
        ...     client.get_model("sentence-transformers/all-MiniLM-L6-v2")["max_sequence_length"]
        256

    Args:
        base_url: Address of the server, e.g. `"http://localhost:8080"`; by default the environment variable
            SIE_BASE_URL. Redirects are not followed.
        timeout_s: Sets both of the next two.
        connect_timeout_s: Seconds to wait for a connection to open (10).
        read_timeout_s: Seconds to wait for the next bytes of a response (150). A request that timed out is not retried.
        api_key: Sent as a bearer token; by default the environment variable SIE_API_KEY, `""` for none.
        options: Options of every call; those given to a call take precedence.
        max_connections: Maximum number of open connections (100).
        base_url_headers: Additional headers of every request.
        remote: `"forbid"` asks the server not to pass requests on to another deployment.
        http_client: An `httpx2.Client` to send with, e.g. for a proxy or a test; `close()` leaves it open.
        gpu, pool, control_plane_url, org: No effect; accepted, with a DeprecationWarning, for programs written for the
            public SDK.

    Raises:
        ValueError: There is no base URL, or an argument is invalid.

    Every method raises the errors of `sie_sdk.errors`. While a server is not ready (a model is loading, its queue is
    full, the connection is refused), a call waits and retries, for up to `provision_timeout_s` in total: 900 by
    default, but only 5 for a server that has never responded to this client. With `wait_for_capacity=False` it does not
    wait for a server that is down. `list_models` and `get_model` never do.

    An option that the server does not know has no effect; an `IgnoredOptionWarning` names it, once per client.

    More items than fit one request are split into several, four in flight at a time: up to 256 items and 1 MiB each to
    embed, 1,000 items and 16 MiB to rank. Each request waits and retries by itself. An error names an item by its index
    in the whole input.
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
        super().__init__(endpoint, max_connections, http_client)

    def score(
        self,
        model: str,
        query: Item | str,
        items: Sequence[Item | str],
        *,
        top_k: int | None = None,
        instruction: str | None = None,
        options: Mapping[str, Any] | None = None,
        gpu: str | None = None,
        wait_for_capacity: bool = True,
        provision_timeout_s: float | None = None,
        max_oom_retries: int = 3,
    ) -> ScoreResult:
        """Ranks documents by their relevance to a query.

            >>> items = ["Snakes are reptiles.", Item(id="doc-2", text="Python is a language.")]
            >>> with SIEClient("http://localhost:8080") as client:
            ...     result = client.score("sentence-transformers/all-MiniLM-L6-v2", "What is Python?", items)
            >>> [(entry["rank"], entry["item_id"]) for entry in result["scores"]]
            [(0, 'doc-2'), (1, 'item-0')]

        Args:
            model: Id of a reranker or a late-interaction model, e.g. `"BAAI/bge-reranker-v2-m3"`.
            query: The query, an item or a text.
            items: The documents, items or texts.
            top_k: Maximum number of documents to return (all); takes precedence over the option of this name.
            instruction: The meaning of relevance, for models that read an instruction.
            options: E.g. `return_tokens`, `max_seq_length` (tokens), `long_documents`, `profile`.
            gpu: No effect, as for the client.
            wait_for_capacity: Whether to wait for a server that does not respond.
            provision_timeout_s: Seconds that each request may take, including waits (900, or 5 for a server that
                has never responded); 0 sends it only once.
            max_oom_retries: Maximum number of retries when the server is out of memory.

        Returns:
            The documents in descending order of score; documents with equal scores stay in their order.

        Raises:
            ValueError: A text is not valid Unicode, or an argument is invalid.
            SIEError: See `sie_sdk.errors`.
        """
        batch = self._endpoint.score(
            model,
            query,
            items,
            top_k=top_k,
            instruction=instruction,
            options=options,
            gpu=gpu,
            wait_for_capacity=wait_for_capacity,
            provision_timeout_s=provision_timeout_s,
            max_oom_retries=max_oom_retries,
        )
        return self._all(batch)

    # A text is an iterable of texts too; what comes first holds.
    @overload
    def encode(  # type: ignore[overload-overlap]
        self, model: str, items: Item | str, **arguments: Unpack[EncodeArguments]
    ) -> EncodeResult: ...

    @overload
    def encode(
        self, model: str, items: Iterable[Item | str], **arguments: Unpack[EncodeArguments]
    ) -> list[EncodeResult]: ...

    def encode(
        self,
        model: str,
        items: Item | str | Iterable[Item | str],
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
        """Computes the embeddings of items: one result for one item, a list of results for a list.

            >>> with SIEClient("http://localhost:8080") as client:
            ...     client.encode("sentence-transformers/all-MiniLM-L6-v2", "A text.")["dense"].shape
            (384,)

        Args:
            model: Id of an encoder, e.g. `"sentence-transformers/all-MiniLM-L6-v2"`.
            items: An item or a text, or a list of them, of any length.
            output_types: Any of `"dense"` (the default), `"sparse"` and `"multivector"`.
            instruction: The task, for models that read an instruction.
            output_dtype: `"float32"` (the default), `"float16"`, `"int8"`, `"uint8"`, `"binary"`, `"ubinary"`.
            is_query: Whether the items are queries, for models that distinguish queries and documents.
            options: E.g. `normalize`, `pooling`, `max_seq_length` (tokens), `profile`.
            gpu, wait_for_capacity, provision_timeout_s, max_oom_retries: As for `score`.
            progress: A function that takes the number of items done, or True for a progress bar on standard error.

        Returns:
            `dense` is an array `[dim]`, `multivector` an array `[tokens, dim]`, `sparse` a pair of arrays.

        Raises:
            ImportError: `progress=True` needs `rich`.
            ValueError: A text is not valid Unicode, or an argument is invalid.
            IncompleteBatchError: The response does not have one result per item.
            SIEError: See `sie_sdk.errors`.
        """
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
        return self._all(batch)

    def encode_stream(
        self,
        model: str,
        items: Iterable[Item | str],
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
    ) -> Generator[EncodeResult, None, None]:
        """Yields the embeddings of items in their order, without holding all items in memory.

        Args:
            model: As for `encode`.
            items: An iterable, which may be endless. At most about a thousand items are read ahead of the last result.
            output_types, instruction, output_dtype, is_query, options, progress: As for `encode`.
            gpu, wait_for_capacity, provision_timeout_s, max_oom_retries: As for `score`.

        Yields:
            The result of `encode` for each item. Requests start with the first `next()` and end with `close()` or an
            error.

        Raises:
            ImportError: `progress=True` needs `rich`.
            ValueError, IncompleteBatchError, SIEError: As for `encode`, after the results that precede the failure.
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

    def extract(
        self,
        model: str,
        items: Item | str | Sequence[Item | str],
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
        """Extracts entities, relations and classes from items: one result for one item, a list of results for a list.

        Raises RequestError if the model does not extract; otherwise as `encode`.
        """
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
        return self._all(batch)

    def list_models(self) -> list[ModelInfo]:
        """Lists the models that the server knows, loaded or not."""
        return self._look_up(self._endpoint.list_models())

    def get_model(self, name: str) -> ModelInfo:
        """Describes one model. Raises RequestError with code MODEL_NOT_FOUND if the server does not know it."""
        return self._look_up(self._endpoint.get_model(name))
