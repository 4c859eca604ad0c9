"""Types of requests and results.

Each one is a `TypedDict`, a plain dict at run time: `Item(text="x") == {"text": "x"}`, and a result is read with
`result["scores"]`. Keys that a newer server adds are passed through.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NotRequired, Required, TypedDict

import numpy as np
from numpy.typing import NDArray

from sie_sdk._unsupported import gateway_type

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        return gateway_type(name)


OutputType = Literal["dense", "sparse", "multivector"]
WatchMode = Literal["auto", "worker"]
OutputDType = Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"]


class Item(TypedDict, total=False):
    """A query or a document. Every key is optional; text models need `text`.

    >>> Item(id="q1", text="What is Python?") == {"id": "q1", "text": "What is Python?"}
    True
    """

    id: str | None
    text: str | None
    metadata: Mapping[str, Any]
    multivector: NDArray[Any]


class RequestInfo(TypedDict, total=False):
    """Details of a request from the response headers. A key is present if its header was."""

    id: str
    model_revision: str
    units: dict[str, float]
    credits_debited: float


class Usage(TypedDict, total=False):
    """Tokens that a request took."""

    input_tokens: int
    input_tokens_details: dict[str, int]


class Highlight(TypedDict):
    """A token of the query and the nearest token of a document; `score` is their cosine.

    `query` and `document` are `[start, end]`: the token is `text[start:end]`. `document` is None if the nearest token
    is a special one.
    """

    query: list[int]
    document: list[int] | None
    score: float


class ScoreEntry(TypedDict):
    """One document's place in the ranking.

    `item_id` is the id of the document, or `item-N` for the N-th (from 0) if it had none. `rank` 0 is the best.
    Higher scores are better; the model decides whether a score is a probability or a raw logit. The option
    `return_tokens` adds `tokens` and `truncated`. `long_documents="chunk_max"` adds `span`: the part of the text that
    scored best is `text[span[0]:span[1]]`. `return_highlights` adds `highlights`, one per token of the query's text.
    """

    item_id: str
    score: float
    rank: int
    truncated: NotRequired[bool]
    tokens: NotRequired[int]
    span: NotRequired[list[int]]
    highlights: NotRequired[list[Highlight]]


class ScoreResult(TypedDict):
    """A ranking, with `scores` in descending order. `query_id` is present only if the query had an id."""

    model: str
    scores: list[ScoreEntry]
    query_id: NotRequired[str]
    usage: NotRequired[Usage]
    request: NotRequired[RequestInfo]


class SparseEmbedding(TypedDict):
    """Vocabulary ids (int32) and their weights (float), two 1-D arrays of the same length."""

    indices: NDArray[np.integer[Any]]
    values: NDArray[np.floating[Any]]


class TimingInfo(TypedDict, total=False):
    """Time that the server spent in each stage, in milliseconds."""

    total_ms: float
    queue_ms: float
    tokenization_ms: float
    inference_ms: float
    postprocessing_ms: float | None


class EncodeResult(TypedDict, total=False):
    """The embeddings of one item: those that were requested. Arrays are read-only.

    To a type checker, all three are there, so that `result["dense"]` needs no test; at run time, an output that was not
    requested raises KeyError. `dense` is 1-D `[dim]`, `multivector` is 2-D `[tokens, dim]`; both are float32
    unless the request set another `output_dtype` (`binary` and `ubinary` pack eight dimensions into a byte). `timing`
    is that of the whole request.
    """

    id: str
    dense: Required[NDArray[Any]]
    sparse: Required[SparseEmbedding]
    multivector: Required[NDArray[Any]]
    model: str
    timing: TimingInfo
    request: RequestInfo


class ExtractResult(TypedDict, total=False):
    """Findings in one item; offsets are in characters."""

    id: str
    entities: list[dict[str, Any]]
    relations: list[dict[str, Any]]
    classifications: list[dict[str, Any]]
    objects: list[dict[str, Any]]
    data: dict[str, Any]
    error: dict[str, Any]


class ModelError(TypedDict, total=False):
    """The error that kept a model from loading. A `permanent` one is not retried automatically."""

    code: str
    message: str
    attempts: int
    permanent: bool


class ModelInfo(TypedDict):
    """A model that the server knows. `max_sequence_length` counts tokens; `dims` maps an output to its width.

    `score` is the kind of score (`"probability"`, `"logit"`, ...), None if the model does not score; `prompt` is the
    name of its prompt, if it has one. `precision` is that of its matrix products (`"bfloat16"`, ...), None if the model
    is not loaded.
    """

    name: str
    inputs: list[str]
    outputs: list[str]
    dims: dict[str, int]
    loaded: bool
    state: Literal["available", "loading", "loaded", "unloading", "failed"]
    last_error: ModelError | None
    max_sequence_length: int | None
    profiles: dict[str, dict[str, Any]]
    revision: NotRequired[str | None]
    score: NotRequired[str | None]
    prompt: NotRequired[str | None]
    license: NotRequired[str | None]
    precision: NotRequired[str | None]


class ServerStatus(TypedDict):
    """The server process."""

    version: str
    uptime_seconds: int
    user: str
    working_dir: str
    pid: int


class GpuStatus(TypedDict):
    """A GPU. `utilization_pct` is the share of the time since the last status in which it was busy."""

    device: str
    name: str
    gpu_type: str
    utilization_pct: float
    memory_used_bytes: int
    memory_total_bytes: int
    memory_threshold_pct: float


class ModelStatusConfig(TypedDict):
    """Properties of a model."""

    hf_id: str
    adapter: str
    inputs: list[str]
    outputs: list[str]
    dims: dict[str, int | None]
    max_sequence_length: int | None


class ModelStatus(TypedDict):
    """A model and its queue, in requests (`queue_depth`), in texts or pairs, and in seconds of device time."""

    name: str
    state: Literal["available", "loading", "loaded", "unloading", "failed"]
    device: str | None
    memory_bytes: int
    config: ModelStatusConfig
    queue_depth: int
    queue_pending_items: int
    queue_seconds: NotRequired[float]


class StatusMessage(TypedDict):
    """The status of a server. `timestamp` is in Unix seconds; `models` starts with the largest in memory.

    `queue_seconds`, `queued_tokens`: the work that waits for the device. `computed_tokens`: the tokens that it has
    computed since the server started. `utilization_pct`: the share of the time since the last status that it was busy.
    """

    timestamp: float
    ready: bool
    saturated: NotRequired[bool]
    queue_seconds: NotRequired[float]
    queued_tokens: NotRequired[int]
    computed_tokens: NotRequired[int]
    utilization_pct: NotRequired[float]
    name: str
    machine_profile: str
    pool_name: str
    gpu_count: int
    bundle: str
    bundle_config_hash: str
    loaded_models: list[str]
    max_batch_requests: int
    server: ServerStatus
    gpus: list[GpuStatus]
    models: list[ModelStatus]


class ClientArguments(TypedDict, total=False):
    """Keyword arguments that both clients take; `SIEClient` describes them."""

    timeout_s: float | None
    connect_timeout_s: float | None
    read_timeout_s: float | None
    api_key: str | None
    options: Mapping[str, Any] | None
    base_url_headers: Mapping[str, str] | None
    remote: Literal["forbid"] | None
    gpu: str | None
    pool: str | None
    control_plane_url: str | None
    org: str | None


class InferenceArguments(TypedDict, total=False):
    """Keyword arguments of every method that runs a model; `SIEClient.score` describes them."""

    instruction: str | None
    options: Mapping[str, Any] | None
    gpu: str | None
    wait_for_capacity: bool
    provision_timeout_s: float | None
    max_oom_retries: int


class ScoreArguments(InferenceArguments, total=False):
    """Keyword arguments of `score`; `SIEClient.score` describes them."""

    top_k: int | None


class EncodeArguments(InferenceArguments, total=False):
    """Keyword arguments of `encode` and `encode_stream`; `SIEClient.encode` describes them."""

    output_types: Sequence[OutputType] | None
    output_dtype: OutputDType | None
    is_query: bool | None
    progress: Callable[[int], None] | bool


class ExtractArguments(InferenceArguments, total=False):
    """Keyword arguments of `extract`; `SIEClient.extract` describes them."""

    labels: Sequence[str] | None
    output_schema: Mapping[str, Any] | None
