"""The bodies of requests and responses. `codec.py` encodes and decodes them."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from numpy.typing import NDArray

from sie_server.errors import LoadClass
from sie_server.options import Dtype, LongDocuments, Muvera, Output, Pooling, Precision, Score, ScoreMode, Side, State

Positive = Annotated[int, Meta(ge=1)]
Weight = Annotated[float, Meta(ge=0, lt=1e9)]
# In JSON nested lists, in MessagePack the map of msgpack-numpy.
Numbers = Annotated[NDArray[Any], Meta(extra_json_schema={"items": {"type": "number"}})]
Rows = Annotated[NDArray[Any], Meta(extra_json_schema={"items": {"type": "array", "items": {"type": "number"}}})]
Indices = Annotated[NDArray[Any], Meta(extra_json_schema={"items": {"type": "integer"}})]


class Item(Struct, gc=False):
    """A query, a document, or a text to embed."""

    id: str | None = None
    text: str | None = None
    # Values are ignored; kept as raw bytes, so that they are not decoded.
    metadata: dict[str, Raw] | None = None


class Options(Struct):
    """Options that score and encode share; unknown ones are ignored.

    `truncation_side`: end at which a text over the length limit is cut, `right` by default.
    """

    profile: str | None = None
    instruction: str | None = None
    max_seq_length: Positive | None = None
    query_max_length: Positive | None = None
    overflow_policy: Literal["default", "truncate_text", "error"] | None = None
    truncation_side: Side | None = None


class ScoreWeights(Struct):
    """Weights of the parts of a hybrid score."""

    dense: Weight = 0.4
    sparse: Weight = 0.2
    colbert: Weight = 0.4


class ScoreOptions(Options):
    """`score_mode`, `score_weights`: how a model with several kinds of embeddings, such as BGE-M3, compares them.

    `long_documents`: treatment of documents over the length limit. They are cut (`truncate`, the default), scored in
    overlapping windows, of which the best counts (`chunk_max`), or refused (`error`). Takes precedence over
    `overflow_policy`. `max_document_length`: limit on the tokens of a document; with `chunk_max`, it is cut to that
    before it is divided.
    `return_highlights`: with late interaction, the tokens of a document that made its score.
    """

    long_documents: LongDocuments | None = None
    max_document_length: Positive | None = None
    score_mode: ScoreMode | None = None
    score_weights: ScoreWeights | None = None
    top_k: Positive | None = None
    return_tokens: bool = False
    return_highlights: bool = False


class ScoreRequest(Struct):
    """Body of `POST /v1/score/{model}`."""

    query: Item
    items: list[Item]
    instruction: str | None = None
    options: ScoreOptions | None = None


class EncodeOptions(Options):
    """`is_query`: items are queries, formatted with `query_template`; otherwise documents, with `doc_template`.

    Templates contain `{text}` and, if the model takes one, `{instruction}`; `default_instruction` is used in requests
    without an instruction. All three default to the model's own. `muvera`: `dense` is a fixed dimensional encoding of
    the token vectors; the inner product of a query's and a document's approximates MaxSim.
    """

    is_query: bool | None = None
    query_template: str | None = None
    doc_template: str | None = None
    default_instruction: str | None = None
    output_types: list[str] | None = None
    output_dtype: Dtype | None = None
    pooling: Pooling | None = None
    normalize: bool | None = None
    muvera: Muvera | None = None


class EncodeParams(Struct):
    """`is_query`: as in `options`, which take precedence."""

    is_query: bool | None = None
    output_types: list[str] | None = None
    output_dtype: Dtype | None = None
    instruction: str | None = None
    options: EncodeOptions | None = None


class EncodeRequest(Struct):
    """Body of `POST /v1/encode/{model}`."""

    items: list[Item]
    params: EncodeParams | None = None


class ExtractRequest(Struct):
    """Body of `POST /v1/extract/{model}`. Only validated, as no model here extracts."""

    items: list[Item]


class Usage(Struct, gc=False):
    input_tokens: int


class Highlight(Struct, gc=False):
    """A token of the query and the nearest token of the item's text.

    `query`, `document`: [start, end), counted in code points of the two texts; `document` is null if a special token
    is nearest. `score`: their cosine similarity.
    """

    query: tuple[int, int]
    document: tuple[int, int] | None
    score: float


class ScoreEntry(Struct, gc=False):
    """`tokens`, `truncated`: with `return_tokens`. `span`: with `chunk_max`, the best-scoring part of the text.

    It is [start, end), counted in code points of the item's text. `highlights`: with `return_highlights`, one per token
    of the query's text, in order.
    """

    item_id: str
    score: float
    rank: int
    tokens: int | UnsetType = UNSET
    truncated: bool | UnsetType = UNSET
    span: tuple[int, int] | UnsetType = UNSET
    highlights: list[Highlight] | UnsetType = UNSET


class ScoreResponse(Struct):
    """`scores` by descending score; equal scores keep the order of the request."""

    model: str
    query_id: str | None
    scores: list[ScoreEntry]
    usage: Usage


class DenseVector(Struct, gc=False):
    dims: int
    dtype: str
    values: Numbers


class SparseVector(Struct, gc=False):
    """`indices`: token ids, ascending int32. `dims`: size of the vocabulary."""

    dims: int | None
    dtype: str
    indices: Indices
    values: Numbers


class MultiVector(Struct, gc=False):
    token_dims: int
    num_tokens: int
    dtype: str
    values: Rows


class EncodedItem(Struct, gc=False):
    id: str | UnsetType = UNSET
    dense: DenseVector | UnsetType = UNSET
    sparse: SparseVector | UnsetType = UNSET
    multivector: MultiVector | UnsetType = UNSET


class Timing(Struct):
    """Milliseconds."""

    total_ms: float
    queue_ms: float
    tokenization_ms: float
    inference_ms: float
    postprocessing_ms: float | None


class EncodeResponse(Struct):
    model: str
    items: list[EncodedItem]
    timing: Timing
    usage: Usage


class Embedding(Struct, gc=False):
    """`embedding`: numbers, or the base64 of their little-endian bytes."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class EmbeddingsUsage(Struct):
    """`sie_token_source`: origin of the counts; `worker` means counted, not estimated."""

    prompt_tokens: int
    total_tokens: int
    sie_token_source: Literal["worker"] = "worker"


class EmbeddingsResponse(Struct):
    """`data` in the order of the inputs."""

    model: str
    data: list[Embedding]
    usage: EmbeddingsUsage
    object: Literal["list"] = "list"


class ModelLoadError(Struct):
    """Why the last load of a model failed. `permanent`: it is not tried again."""

    code: LoadClass
    message: str
    attempts: int
    permanent: bool


class ModelProfile(Struct):
    is_default: bool


class Model(Struct):
    """A model of `GET /v1/models`. `dims`: width of each kind of embedding. `score`: what its scores mean.

    `precision`: that of its matrix products, if it is loaded. `id`, `object`, `created` and `owned_by` are OpenAI's.
    `model_type` is Xinference's: "embedding" for a model with dense embeddings, otherwise "rerank".
    """

    name: str
    inputs: list[Literal["text"]]
    outputs: Sequence[Output]
    dims: dict[str, int]
    loaded: bool
    state: State
    last_error: ModelLoadError | None
    max_sequence_length: int | None
    profiles: dict[str, ModelProfile]
    revision: str | None
    score: Score | None
    prompt: str | None
    license: str | None
    precision: Precision | None
    id: str
    model_type: Literal["embedding", "rerank"]
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: Literal["sie"] = "sie"


class ServerPrecision(Struct):
    """The precision in which models are loaded. `setting`: `--precision`, and `reason`: why that means `name` here.

    `tokens_per_second`: rates of the precisions that were compared, on one core, through a typical layer.
    """

    name: Precision
    setting: Precision
    reason: str
    tokens_per_second: dict[Precision, float]


class ModelName(Struct):
    """A model as OpenAI's API lists it. `created`: 0, as no model has a date."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: Literal["sie"] = "sie"


class ModelList(Struct):
    """`data`: the names of all models, aliases included, as OpenAI's API lists them."""

    models: list[Model]
    precision: ServerPrecision
    data: list[ModelName]
    object: Literal["list"] = "list"


class ServerStatus(Struct):
    version: str
    uptime_seconds: int
    user: str
    working_dir: str
    pid: int


class GpuStatus(Struct):
    """`memory_threshold_pct`: the budget for models, in per cent of the GPU's memory."""

    device: str
    name: str
    gpu_type: str
    utilization_pct: float
    memory_used_bytes: int
    memory_total_bytes: int
    memory_threshold_pct: float


class StatusModelConfig(Struct):
    hf_id: str
    adapter: str
    inputs: list[Literal["text"]]
    outputs: Sequence[Output]
    dims: dict[str, int]
    max_sequence_length: int | None


class ModelStatus(Struct):
    """`queue_depth`: waiting requests; `queue_pending_items`: their sequences; `queue_seconds`: to compute them."""

    name: str
    state: State
    device: str | None
    memory_bytes: int
    config: StatusModelConfig
    queue_depth: int
    queue_pending_items: int
    queue_seconds: float


class StatusFrame(Struct):
    """A frame of `WS /ws/status`. `models` by descending memory. Pool and bundle are those of a server alone.

    `queue_seconds`, `queued_tokens`: the work that waits for the device. `computed_tokens`: the tokens that it has
    computed since the server started. `utilization_pct`: the share of the time since the last frame that it was busy.
    """

    timestamp: float
    ready: bool
    name: str
    machine_profile: str
    pool_name: Literal["default"]
    gpu_count: int
    bundle: Literal["default"]
    bundle_config_hash: Literal[""]
    loaded_models: list[str]
    max_batch_requests: int
    saturated: bool
    queue_seconds: float
    queued_tokens: int
    computed_tokens: int
    utilization_pct: float
    server: ServerStatus
    gpus: list[GpuStatus]
    models: list[ModelStatus]
