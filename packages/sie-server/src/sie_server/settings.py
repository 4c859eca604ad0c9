"""One dataclass is the command line, the environment and the TOML file."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from sie_server.options import Precision

_POSITIVE = Number(gte=1)


def _split(_: Any, value: str, delimiter: str | None = None) -> list[str]:
    """Environment variables hold lists as `a,b`."""
    return [part.strip() for part in value.split(delimiter or ",") if part.strip()]


def _split_keys(_: Any, value: str, delimiter: str | None = None) -> list[str]:
    # Empty ones stay, and are refused: a variable that is set to nothing must not open the doors.
    return [part.strip() for part in value.split(delimiter or ",")]


def _check_origins(_: Any, origins: tuple[str, ...]) -> None:
    # A browser sends scheme, host and port; with a path, or without a scheme, one would never match.
    for origin in origins:
        if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s]+", origin):
            raise ValueError(f"{origin!r} is not an origin, such as https://search.example")


def _check_idle(_: Any, seconds: float) -> None:
    # Below, a model would come and go between the requests of one client.
    if seconds and not 10 <= seconds <= 86400:
        raise ValueError("must be 0, or 10 to 86400")


ExtraModels = Annotated[tuple[str, ...], Parameter(env_var="SIE_EXTRA_MODELS", env_var_split=_split, negative=())]
Device = Annotated[str, Parameter(env_var="SIE_DEVICE", alias="-d")]
ChosenPrecision = Annotated[Precision, Parameter(env_var="SIE_PRECISION")]


@Parameter(name="*", negative=())
@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a server runs.

    Parameters
    ----------
    host
        Address to listen on. Without one: 127.0.0.1, which only this machine reaches, or 0.0.0.0 where there are API
        keys.
    port
        Port to listen on; 0 picks a free one.
    catalogue
        Models of the catalogue that clients may have downloaded and loaded: all, none, or ID,ID,... Those that --model,
        --preload and --pinned name are served in any case.
    model
        Model to serve beside the catalogue: a hub id, a folder, or NAME=FOLDER. Repeatable.
    prompt
        How a reranker that is a decoder reads a pair, as NAME=PROMPT: a prompt of docs/models.md by its name, none for
        the two texts as its tokenizer joins them, or chat-template for the folder's own. Repeatable. Without it, the
        catalogue or the folder's chat template says it.
    preload
        Model to load before the server says it is ready. Repeatable; others load on first use.
    pinned
        Model that is never unloaded to make room or because it is idle. Repeatable.
    models_dir
        Folder of models to serve beside the catalogue, watched while the server runs: each sub-folder with a
        checkpoint under its own name, and *.yaml or *.toml files that name one.
    memory_budget
        Most bytes that models may take; 0: 95 % of the GPU's memory, or of the machine's (of a container, its limit).
        The model that was not asked for the longest goes first.
    idle_evict_s
        Seconds without a request after which a model is unloaded, 10 to 86400; 0: never.
    device
        cpu, cuda, cuda:N, or auto: CUDA where there is one.
    precision
        Precision of the matrix products; auto: bfloat16 where the hardware multiplies it natively. int8: CPU only.
    verify
        Compare each loaded model with the scores published for it, and refuse one that differs.
    workers
        Device threads; 0: one per core on CPU (of a container, as far as its CPU quota goes), one per GPU.
    batch_tokens
        Most tokens in a batch; 0: 512 on CPU, 16384 on GPU.
    queue_tokens
        Tokens that may wait; a request that comes on top gets QUEUE_FULL, but an idle server takes one of any size.
        However much others have, a client may always have an even share of it, for each priority.
    model_queue_tokens
        Tokens that may wait for one model; 0: as many as for all. Shared in the same way.
    tokenizer_threads
        Threads that tokenize.
    wedged_after
        Seconds at one batch after which a device thread counts as stuck, and the server exits; 0: never.
    drain_s
        Seconds that requests have to finish after SIGTERM; the process ends within 3 more.
    drain_notice_s
        Seconds of these for which new requests are still taken while /readyz says 503, so that a load balancer that
        asks it looks elsewhere before they are refused.
    load_wait
        Seconds to hold a request for a model that is loading before answering MODEL_LOADING.
    load_timeout
        Seconds after which a load has failed, its download not counted.
    max_items
        Most items in a request.
    max_windows
        Most sequences that the items of a request may become, where long ones go in windows.
    max_request_tokens
        Most tokens that a request may come to: those of texts after they are cut, and the query with each of them.
    max_values
        Most values in a request's body: texts, numbers, lists and objects, in whatever stands in what.
    max_rendered_bytes
        Most bytes that templates and instructions put around the texts of a request, all texts together.
    max_answer_bytes
        Most bytes that an answer may come to, by what is asked for: embeddings, vectors of tokens, highlights.
    max_request_body_bytes
        Most bytes in a request body.
    max_bodies_bytes
        Most bytes in the bodies of all requests that are not answered yet, and in their answers where those are large,
        until they are sent; one on top gets QUEUE_FULL, but a small one. Several of a client may have half at most.
    max_item_text_bytes
        Most bytes of UTF-8 in one item's text, id and metadata.
    cors_origins
        Origin whose pages may call this server from a browser, e.g. https://search.example; * for all. Repeatable.
    api_keys
        Key that opens the server to whoever sends it as a bearer token. Repeatable, but better set in the environment,
        as other processes can read flags. Without a key or a file of keys, everybody may call it.
    api_keys_file
        File with a key per line, and comments behind #; read again when it changes.
    receive_timeout
        Seconds for a request's head to arrive, and that its body may be late, of which 8 KiB are to come per second.
    max_connections
        Most connections at once; those on top get QUEUE_FULL.
    log_level
        debug, info, warning or error.
    json_logs
        Write the log as one JSON object per line, with one at info for each request to /v1/*.
    tracing
        Send OpenTelemetry traces to where OTEL_EXPORTER_OTLP_ENDPOINT says; needs the extra `tracing`.
    """

    host: Annotated[str, Parameter(env_var="SIE_HOST")] = ""
    port: Annotated[int, Parameter(env_var="SIE_PORT", alias="-p", validator=Number(gte=0, lte=65535))] = 8080
    catalogue: Annotated[str, Parameter(env_var="SIE_CATALOGUE")] = "all"
    model: ExtraModels = ()
    prompt: Annotated[tuple[str, ...], Parameter(env_var="SIE_PROMPTS", env_var_split=_split)] = ()
    preload: Annotated[tuple[str, ...], Parameter(env_var="SIE_PRELOAD_MODELS", env_var_split=_split)] = ()
    pinned: Annotated[tuple[str, ...], Parameter(env_var="SIE_PINNED_MODELS", env_var_split=_split)] = ()
    models_dir: Annotated[str, Parameter(env_var="SIE_MODELS_DIR")] = ""
    memory_budget: Annotated[int, Parameter(env_var="SIE_MEMORY_BUDGET", validator=Number(gte=0))] = 0
    idle_evict_s: Annotated[float, Parameter(env_var="SIE_IDLE_EVICT_S", validator=_check_idle)] = 0.0
    device: Device = "auto"
    precision: ChosenPrecision = "auto"
    verify: Annotated[bool, Parameter(env_var="SIE_VERIFY")] = False
    workers: Annotated[int, Parameter(env_var="SIE_WORKERS", validator=Number(gte=0))] = 0
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
    cors_origins: Annotated[
        tuple[str, ...], Parameter(env_var="SIE_CORS_ORIGINS", env_var_split=_split, validator=_check_origins)
    ] = ()
    api_keys: Annotated[tuple[str, ...], Parameter(env_var="SIE_API_KEYS", env_var_split=_split_keys)] = field(
        default=(), repr=False
    )
    api_keys_file: Annotated[Path | None, Parameter(env_var="SIE_API_KEYS_FILE")] = None
    receive_timeout: Annotated[float, Parameter(env_var="SIE_RECEIVE_TIMEOUT", validator=Number(gt=0))] = 20.0
    max_connections: Annotated[int, Parameter(env_var="SIE_MAX_CONNECTIONS", validator=_POSITIVE)] = 1000
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Parameter(env_var="SIE_LOG_LEVEL", alias="-l")
    ] = "info"
    json_logs: Annotated[bool, Parameter(env_var="SIE_LOG_JSON")] = False
    tracing: Annotated[bool, Parameter(env_var="SIE_TRACING_ENABLED")] = False

    @property
    def keys(self) -> bool:
        """Whether a key is needed to use the server."""
        return bool(self.api_keys) or self.api_keys_file is not None

    @property
    def address(self) -> str:
        """The address to listen on."""
        return self.host or ("0.0.0.0" if self.keys else "127.0.0.1")
