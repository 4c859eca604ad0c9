"""Settings of a server: one dataclass for command line, environment and TOML file."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from sie_server.options import Pinning, Precision, TokenIds

_POSITIVE = Number(gte=1)
_MIN_SCORE_CACHE = 2**16


def _split(_: Any, value: str, delimiter: str | None = None) -> list[str]:
    """Split a list in an environment variable, `a,b`."""
    return [part.strip() for part in value.split(delimiter or ",") if part.strip()]


def _split_keys(_: Any, value: str, delimiter: str | None = None) -> list[str]:
    # Empty keys are kept, and refused later: a variable that is set but empty must not open the server.
    return [part.strip() for part in value.split(delimiter or ",")]


def _check_origins(_: Any, origins: tuple[str, ...]) -> None:
    # Browsers send scheme, host and port; an origin with a path or without a scheme would never match.
    for origin in origins:
        if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s]+", origin):
            raise ValueError(f"{origin!r} is not an origin, such as https://search.example")


def _check_idle(_: Any, seconds: float) -> None:
    # Shorter times would unload a model between the requests of one client.
    if seconds and not 10 <= seconds <= 86400:
        raise ValueError("must be 0, or between 10 and 86400")


def _check_score_cache(_: Any, size: int) -> None:
    # Less has no room for any score, or for few of one request.
    if size and size < _MIN_SCORE_CACHE:
        raise ValueError(f"must be 0, or at least {_MIN_SCORE_CACHE}")


def _check_aliases(_: Any, aliases: tuple[str, ...]) -> None:
    for alias in aliases:
        name, _, model = alias.partition("=")
        if not name or not model:
            raise ValueError(f"{alias!r} is not NAME=ID, such as rerank-v3.5=BAAI/bge-reranker-v2-m3")


ExtraModels = Annotated[tuple[str, ...], Parameter(env_var="SIE_EXTRA_MODELS", env_var_split=_split, negative=())]
Device = Annotated[str, Parameter(env_var="SIE_DEVICE", alias="-d")]
ChosenPrecision = Annotated[Precision, Parameter(env_var="SIE_PRECISION")]


@Parameter(name="*", negative=())
@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a server.

    Parameters
    ----------
    host
        Address to listen on. Default: 127.0.0.1, reachable from this machine only, or 0.0.0.0 if there are API keys.
    port
        Port to listen on; 0 picks a free one.
    catalogue
        Catalogue models that requests may download and load: all, none, or ID,ID,... Models named by --model, --preload
        and --pinned are always served.
    model
        Additional model to serve: a hub id, a folder, or NAME=FOLDER, where the settings of a catalogue model apply if
        NAME is its id. Repeatable.
    prompt
        Prompt of a decoder reranker, as NAME=PROMPT, where PROMPT is a name from docs/models.md, none for the two texts
        joined by the tokenizer, or chat-template for the folder's own. Repeatable. Default: the catalogue's prompt, or
        the folder's chat template.
    preload
        Model to load before the server reports ready. Repeatable; others load on first use.
    default_model
        Model for requests to rerank routes that name none. Default: the only preloaded model.
    alias
        Another name of a model, as NAME=ID or NAME=ID:PROFILE, for clients that offer only the names of their vendor's
        models. Repeatable.
    pinned
        Model that is never unloaded, neither to make room nor when idle. Repeatable.
    models_dir
        Folder of additional models, watched while the server runs: sub-folders with checkpoints, each served under its
        name, and *.yaml or *.toml files that describe a model.
    memory_budget
        Limit on bytes of loaded models; 0: 95 % of the GPU's memory, or of the machine's (in a container, its limit).
        The least recently used model is unloaded first.
    score_cache
        Bytes of memory for computed scores: a pair of a query and a document that is found there is not computed again.
        0: none.
    score_cache_scope
        shared: all clients share the cached scores; key: each API key has its own.
    idle_evict_s
        Seconds without a request after which a model is unloaded, 10 to 86400; 0: never.
    device
        cpu, cuda, cuda:N, or auto: CUDA if available.
    precision
        Precision of matrix products; auto: the fastest here of float32 and bfloat16. int8: CPU only.
    verify
        Compare each loaded model with its published scores, and refuse it if they differ.
    workers
        Device threads; 0: one per core on CPU (in a container, within its CPU quota), one per GPU.
    pin_workers
        Cores that each device thread may use: none: all; node: those of one NUMA node; core: one.
    batch_tokens
        Limit on tokens in a batch; 0: 512 on CPU, 16384 on GPU.
    queue_tokens
        Limit on queued tokens; further requests get QUEUE_FULL, but an idle server accepts a request of any size. In
        each priority class, every client can use an equal share, however much others have queued.
    model_queue_tokens
        Limit on queued tokens per model, shared in the same way; 0: the limit for all models.
    tokenizer_threads
        Threads for tokenization.
    wedged_after
        Seconds per batch after which a device thread counts as stuck and the server exits; 0: never.
    drain_s
        Seconds for requests in progress after SIGTERM; the process exits at most 3 s later.
    drain_notice_s
        Seconds of drain_s during which new requests are still accepted while /readyz returns 503, so that load
        balancers stop sending requests before these are refused.
    load_wait
        Seconds that a request waits for a loading model before it gets MODEL_LOADING.
    load_timeout
        Seconds after which a load fails; its download is not counted.
    max_items
        Limit on items in a request.
    max_windows
        Limit on sequences of a request: one per item, or one per window if long documents are split.
    max_request_tokens
        Limit on tokens of a request, after truncation, counting the query once per item.
    max_values
        Limit on values in a request body: texts, numbers, lists and objects, at any depth.
    max_rendered_bytes
        Limit on bytes that templates and instructions add to all texts of a request.
    max_answer_bytes
        Limit on bytes of a response, estimated from the requested embeddings, token vectors and highlights.
    max_request_body_bytes
        Limit on bytes in a request body.
    max_bodies_bytes
        Limit on bytes of all request bodies in progress and of large responses until they are sent; further requests
        get QUEUE_FULL unless their bodies are small. Several requests of one client can use at most half.
    max_item_text_bytes
        Limit on bytes of UTF-8 in the text, id and metadata of an item.
    token_ids
        Token ids that /v1/embeddings accepts in place of texts: refuse, none; model, those of the model's own
        tokenizer; cl100k, those of OpenAI's encoding cl100k_base, read as their text (needs the package tiktoken).
    cors_origins
        Origin of web pages that may call this server, e.g. https://search.example; * for all. Repeatable.
    api_keys
        API key, which clients send as a bearer token. Repeatable; better set in the environment, as other processes can
        read flags. Without a key or a file of keys, the server is open.
    api_keys_file
        File with one key per line and comments after #; read again when it changes.
    playground
        Whether browsers get the playground at /; otherwise they are led to /docs.
    receive_timeout
        Seconds for a request's head to arrive, and how far its body may fall behind a rate of 8 KiB per second.
    max_connections
        Limit on simultaneous connections; further ones get QUEUE_FULL.
    log_level
        debug, info, warning or error.
    json_logs
        Write the log as one JSON object per line, with one at info for each request to an API route.
    tracing
        Send OpenTelemetry traces to OTEL_EXPORTER_OTLP_ENDPOINT; needs the extra `tracing`.
    """

    host: Annotated[str, Parameter(env_var="SIE_HOST")] = ""
    port: Annotated[int, Parameter(env_var="SIE_PORT", alias="-p", validator=Number(gte=0, lte=65535))] = 8080
    catalogue: Annotated[str, Parameter(env_var="SIE_CATALOGUE")] = "all"
    model: ExtraModels = ()
    prompt: Annotated[tuple[str, ...], Parameter(env_var="SIE_PROMPTS", env_var_split=_split)] = ()
    preload: Annotated[tuple[str, ...], Parameter(env_var="SIE_PRELOAD_MODELS", env_var_split=_split)] = ()
    default_model: Annotated[str, Parameter(env_var="SIE_DEFAULT_MODEL")] = ""
    alias: Annotated[
        tuple[str, ...], Parameter(env_var="SIE_ALIASES", env_var_split=_split, validator=_check_aliases)
    ] = ()
    pinned: Annotated[tuple[str, ...], Parameter(env_var="SIE_PINNED_MODELS", env_var_split=_split)] = ()
    models_dir: Annotated[str, Parameter(env_var="SIE_MODELS_DIR")] = ""
    memory_budget: Annotated[int, Parameter(env_var="SIE_MEMORY_BUDGET", validator=Number(gte=0))] = 0
    score_cache: Annotated[int, Parameter(env_var="SIE_SCORE_CACHE", validator=_check_score_cache)] = 0
    score_cache_scope: Annotated[Literal["shared", "key"], Parameter(env_var="SIE_SCORE_CACHE_SCOPE")] = "shared"
    idle_evict_s: Annotated[float, Parameter(env_var="SIE_IDLE_EVICT_S", validator=_check_idle)] = 0.0
    device: Device = "auto"
    precision: ChosenPrecision = "auto"
    verify: Annotated[bool, Parameter(env_var="SIE_VERIFY")] = False
    workers: Annotated[int, Parameter(env_var="SIE_WORKERS", validator=Number(gte=0))] = 0
    pin_workers: Annotated[Pinning, Parameter(env_var="SIE_PIN_WORKERS")] = "none"
    batch_tokens: Annotated[int, Parameter(env_var="SIE_BATCH_TOKENS", validator=Number(gte=0))] = 0
    queue_tokens: Annotated[int, Parameter(env_var="SIE_QUEUE_TOKENS", validator=_POSITIVE)] = 1_000_000
    model_queue_tokens: Annotated[int, Parameter(env_var="SIE_MODEL_QUEUE_TOKENS", validator=Number(gte=0))] = 0
    tokenizer_threads: Annotated[int, Parameter(env_var="SIE_TOKENIZER_THREADS", validator=_POSITIVE)] = 4
    wedged_after: Annotated[float, Parameter(env_var="SIE_WEDGED_AFTER", validator=Number(gte=0))] = 120.0
    drain_s: Annotated[float, Parameter(env_var="SIE_DRAIN_S", validator=Number(gte=0))] = 25.0
    drain_notice_s: Annotated[float, Parameter(env_var="SIE_DRAIN_NOTICE_S", validator=Number(gte=0))] = 0.0
    load_wait: Annotated[float, Parameter(env_var="SIE_LOAD_WAIT", validator=Number(gte=0))] = 10.0
    load_timeout: Annotated[float, Parameter(env_var="SIE_LOAD_TIMEOUT", validator=_POSITIVE)] = 600.0
    max_items: Annotated[int, Parameter(env_var="SIE_MAX_ITEMS", validator=_POSITIVE)] = 10_000
    max_windows: Annotated[int, Parameter(env_var="SIE_MAX_WINDOWS", validator=_POSITIVE)] = 40_000
    max_request_tokens: Annotated[int, Parameter(env_var="SIE_MAX_REQUEST_TOKENS", validator=_POSITIVE)] = 10_000_000
    max_values: Annotated[int, Parameter(env_var="SIE_MAX_VALUES", validator=_POSITIVE)] = 2_000_000
    max_rendered_bytes: Annotated[int, Parameter(env_var="SIE_MAX_RENDERED_BYTES", validator=_POSITIVE)] = 32 * 2**20
    max_answer_bytes: Annotated[int, Parameter(env_var="SIE_MAX_ANSWER_BYTES", validator=_POSITIVE)] = 256 * 2**20
    max_request_body_bytes: Annotated[int, Parameter(env_var="SIE_MAX_REQUEST_BODY_BYTES", validator=_POSITIVE)] = (
        34 * 2**20
    )
    max_bodies_bytes: Annotated[int, Parameter(env_var="SIE_MAX_BODIES_BYTES", validator=_POSITIVE)] = 512 * 2**20
    max_item_text_bytes: Annotated[int, Parameter(env_var="SIE_MAX_ITEM_TEXT_BYTES", validator=_POSITIVE)] = 2 * 2**20
    token_ids: Annotated[TokenIds, Parameter(env_var="SIE_TOKEN_IDS")] = "refuse"
    cors_origins: Annotated[
        tuple[str, ...], Parameter(env_var="SIE_CORS_ORIGINS", env_var_split=_split, validator=_check_origins)
    ] = ()
    api_keys: Annotated[tuple[str, ...], Parameter(env_var="SIE_API_KEYS", env_var_split=_split_keys)] = field(
        default=(), repr=False
    )
    api_keys_file: Annotated[Path | None, Parameter(env_var="SIE_API_KEYS_FILE")] = None
    playground: Annotated[bool, Parameter(env_var="SIE_PLAYGROUND", negative="--no-playground")] = True
    receive_timeout: Annotated[float, Parameter(env_var="SIE_RECEIVE_TIMEOUT", validator=Number(gt=0))] = 20.0
    max_connections: Annotated[int, Parameter(env_var="SIE_MAX_CONNECTIONS", validator=_POSITIVE)] = 1000
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Parameter(env_var="SIE_LOG_LEVEL", alias="-l")
    ] = "info"
    json_logs: Annotated[bool, Parameter(env_var="SIE_LOG_JSON")] = False
    tracing: Annotated[bool, Parameter(env_var="SIE_TRACING_ENABLED")] = False

    @property
    def keys(self) -> bool:
        """Whether requests need an API key."""
        return bool(self.api_keys) or self.api_keys_file is not None

    @property
    def aliases(self) -> dict[str, str]:
        """The model by each of its other names."""
        return {name: model for name, _, model in (alias.partition("=") for alias in self.alias)}

    @property
    def address(self) -> str:
        """The address to listen on."""
        return self.host or ("0.0.0.0" if self.keys else "127.0.0.1")
