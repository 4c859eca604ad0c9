"""The address and the settings of a client; turns the arguments of its methods into calls."""

import math
import os
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import replace
from typing import Any, TypeVar, Unpack, cast
from urllib.parse import quote, urlsplit

from sie_sdk._core import codec, results
from sie_sdk._core.chunks import Chunk, as_item, check_text_only, checked, listed
from sie_sdk._core.exchange import Call
from sie_sdk._core.pipeline import Batch, Stream
from sie_sdk._core.progress import Report, reporting
from sie_sdk._core.reply import ErrorContext, Reply
from sie_sdk._core.watch import check_mode
from sie_sdk._unsupported import warn_ignored
from sie_sdk._version import CONTRACT_VERSION
from sie_sdk.retry import RetryOptions
from sie_sdk.types import (
    EncodeArguments,
    EncodeResult,
    ExtractResult,
    InferenceArguments,
    Item,
    ModelInfo,
    ScoreResult,
    StatusMessage,
    WatchMode,
)

R = TypeVar("R")
T = TypeVar("T")

DEFAULT_CONNECT_TIMEOUT_S = 10.0
DEFAULT_READ_TIMEOUT_S = 150.0
DEFAULT_BUDGET_S = 900.0
# Long enough for a process that starts beside its server; short enough for a user with a wrong address.
DEFAULT_UNREACHED_S = 5.0
_LOOK_UP = RetryOptions(wait_for_capacity=False, inference=False)


class Endpoint:
    """A server's address with the credentials, options and timeouts that all calls of a client share."""

    def __init__(
        self,
        base_url: str | None,
        *,
        timeout_s: float | None = None,
        connect_timeout_s: float | None = None,
        read_timeout_s: float | None = None,
        api_key: str | None = None,
        options: Mapping[str, Any] | None = None,
        base_url_headers: Mapping[str, str] | None = None,
        remote: str | None = None,
        gpu: str | None = None,
        pool: str | None = None,
        control_plane_url: str | None = None,
        org: str | None = None,
    ) -> None:
        warn_ignored(gpu=gpu, pool=pool, control_plane_url=control_plane_url, org=org)
        if remote not in (None, "forbid"):
            raise ValueError(f"remote must be None or 'forbid', got {remote!r}")
        key = (os.environ.get("SIE_API_KEY", "") if api_key is None else api_key).strip()
        self.base_url: str = _checked_base_url(os.environ.get("SIE_BASE_URL") if base_url is None else base_url)
        self._connect_timeout_s = _timeout("connect_timeout_s", connect_timeout_s, timeout_s, DEFAULT_CONNECT_TIMEOUT_S)
        self._read_timeout_s = _timeout("read_timeout_s", read_timeout_s, timeout_s, DEFAULT_READ_TIMEOUT_S)
        self._options = dict(options or {})
        own = {
            "x-sie-sdk-version": CONTRACT_VERSION,
            "authorization": f"Bearer {key}" if key else None,
            "x-sie-remote": remote,
        }
        self._headers = _checked_headers({**(base_url_headers or {}), **_without_none(**own)})

    def score(
        self,
        model: str,
        query: Item | str,
        items: Iterable[Item | str],
        *,
        top_k: int | None = None,
        **arguments: Unpack[InferenceArguments],
    ) -> Batch[ScoreResult, ScoreResult]:
        check_text_only(query, "query")
        arguments["options"] = options = self._merged(arguments.get("options"), top_k=top_k)
        call = self._inference(
            "score",
            model,
            lambda params: {"query": as_item(query), **params},
            lambda reply, _: [results.score_result(reply)],
            **arguments,
        )
        stream = Stream(listed(items), call, has_ids=True, progress=reporting(False, None), sends_empty=True)
        return Batch(stream, lambda rankings: results.merged_scores(rankings, options.get("top_k")))

    def encode(
        self, model: str, items: Item | str | Iterable[Item | str], **arguments: Unpack[EncodeArguments]
    ) -> Batch[EncodeResult, EncodeResult | list[EncodeResult]]:
        stream = self.encode_stream(model, _batch(items), **arguments)
        return Batch(replace(stream, sends_empty=True), _like_input(items))

    def encode_stream(
        self,
        model: str,
        items: Iterable[Item | str] | AsyncIterable[Item | str],
        *,
        output_types: Sequence[str] | None = None,
        output_dtype: str | None = None,
        is_query: bool | None = None,
        progress: Report | bool = False,
        **arguments: Unpack[InferenceArguments],
    ) -> Stream[EncodeResult]:
        types = None if output_types is None else list(output_types)
        arguments["options"] = self._merged(arguments.get("options"), is_query=is_query)
        body = _in_params(output_types=types, output_dtype=output_dtype)
        call = self._inference("encode", model, body, results.encode_results, **arguments)
        total = len(items) if isinstance(items, Sized) else None
        return Stream(checked(items), call, has_ids=False, progress=reporting(progress, total))

    def extract(
        self,
        model: str,
        items: Item | str | Iterable[Item | str],
        *,
        labels: Sequence[str] | None = None,
        output_schema: Mapping[str, Any] | None = None,
        **arguments: Unpack[InferenceArguments],
    ) -> Batch[ExtractResult, ExtractResult | list[ExtractResult]]:
        body = _in_params(labels=None if labels is None else list(labels), output_schema=output_schema)
        call = self._inference("extract", model, body, results.extract_results, **arguments)
        stream = Stream(_batch(items), call, has_ids=True, progress=reporting(False, None), sends_empty=True)
        return Batch(stream, _like_input(items))

    def list_models(self) -> Call[list[ModelInfo]]:
        return self._look_up("/v1/models", None, results.model_infos)

    def get_model(self, name: str) -> Call[ModelInfo]:
        return self._look_up(f"/v1/models/{_model_path(name)}", name, results.model_info)

    def watch(
        self, mode: WatchMode, *, wait_for_capacity: bool, provision_timeout_s: float | None
    ) -> Call[StatusMessage]:
        check_mode(mode)
        retrying = RetryOptions(wait_for_capacity=wait_for_capacity, inference=False)
        return self._look_up("/ws/status", None, results.status_message, retrying, provision_timeout_s)

    def _merged(self, options: Mapping[str, Any] | None, **own: Any) -> dict[str, Any]:
        """Returns the options of a call: its own take precedence over those of the client, arguments over both."""
        return {**self._options, **(options or {}), **_without_none(**own)}

    def _inference(
        self,
        task: str,
        model: str,
        body: Callable[[dict[str, Any]], Mapping[str, Any]],
        parse: Callable[[Reply, Chunk], list[R]],
        *,
        instruction: str | None = None,
        options: Mapping[str, Any] | None = None,
        gpu: str | None = None,
        wait_for_capacity: bool = True,
        provision_timeout_s: float | None = None,
        max_oom_retries: int = 3,
    ) -> Callable[[Chunk], Call[list[R]]]:
        """Returns the function that makes the request for one chunk of items.

        `body` places the instruction and the options, those of them that are set, into the body without its items.
        """
        warn_ignored(gpu=gpu)
        options = self._merged(options)
        fields = body(_without_none(instruction=instruction, options=options or None))
        retrying = RetryOptions(wait_for_capacity=wait_for_capacity, max_oom_retries=max_oom_retries)
        path = _model_path(model)
        route = f"/v1/{task}/{path}"
        # The model again, for balancers that route by a header.
        own = {"content-type": codec.CONTENT_TYPE, "accept": codec.CONTENT_TYPE, "x-sie-model": path}
        headers = {**self._headers, **own}
        budget_s, unreached_s = _budgets(provision_timeout_s)

        def call(chunk: Chunk) -> Call[list[R]]:
            return Call(
                method="POST",
                url=self.base_url + route,
                headers=headers,
                body=codec.encode({"items": chunk.packed, **fields}),
                parse=lambda reply: parse(reply, chunk),
                context=ErrorContext(self.base_url, route, model, options.get("lora_id"), chunk.start),
                retrying=retrying,
                budget_s=budget_s,
                unreached_s=unreached_s,
                connect_timeout_s=self._connect_timeout_s,
                read_timeout_s=self._read_timeout_s,
            )

        return call

    def _look_up(
        self,
        path: str,
        model: str | None,
        parse: Callable[[Reply], T],
        retrying: RetryOptions = _LOOK_UP,
        provision_timeout_s: float | None = None,
    ) -> Call[T]:
        """Returns a GET request for something that needs no model, answered in JSON."""
        budget_s, unreached_s = _budgets(provision_timeout_s)
        return Call(
            method="GET",
            url=self.base_url + path,
            headers={**self._headers, "accept": "application/json"},
            body=None,
            parse=parse,
            context=ErrorContext(self.base_url, path, model),
            retrying=retrying,
            budget_s=budget_s,
            unreached_s=unreached_s,
            connect_timeout_s=self._connect_timeout_s,
            read_timeout_s=self._read_timeout_s,
        )


def _batch(items: Item | str | Iterable[Item | str]) -> list[Item | str]:
    return [cast(Item | str, items)] if isinstance(items, str | Mapping) else listed(items)


def _like_input(items: Item | str | Iterable[Item | str]) -> Callable[[list[R]], R | list[R]]:
    """Returns a function that unwraps the result of a single item and keeps a list of results."""
    return lambda results: results[0] if isinstance(items, str | Mapping) else results


def _in_params(**own: Any) -> Callable[[dict[str, Any]], Mapping[str, Any]]:
    """Returns a function that places all parameters, `own` first, into the field `params`, if any is set."""
    return lambda params: _without_none(params={**_without_none(**own), **params} or None)


def _without_none(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Returns the headers by their lower-case names. Raises ValueError for one that HTTP can't carry."""
    for name, value in headers.items():
        # The value stays out of the message: it may be a secret.
        if not (value.isascii() and value.isprintable()):
            raise ValueError(f"the {name.lower()} header must be printable ASCII")
    return {name.lower(): value for name, value in headers.items()}


def _checked_base_url(base_url: str | None) -> str:
    if not base_url:
        raise ValueError("no server given: pass base_url or set SIE_BASE_URL")
    try:
        parts = urlsplit(base_url)
        absolute = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError as error:
        raise ValueError(f"base_url {base_url!r} is not a URL: {error}") from error
    if not absolute or parts.query or parts.fragment:
        raise ValueError(f"base_url must be an absolute http or https URL without query or fragment, got {base_url!r}")
    return base_url.rstrip("/")


def _timeout(name: str, specific_s: float | None, common_s: float | None, default_s: float) -> float:
    seconds = specific_s if specific_s is not None else common_s if common_s is not None else default_s
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"{name} must be a positive number of seconds, got {seconds!r}")
    return seconds


def _budgets(provision_timeout_s: float | None) -> tuple[float, float]:
    """Returns the time for a call, and for reaching a server that has never responded."""
    if provision_timeout_s is None:
        return DEFAULT_BUDGET_S, DEFAULT_UNREACHED_S
    if not (math.isfinite(provision_timeout_s) and provision_timeout_s >= 0):
        raise ValueError(f"provision_timeout_s must be 0 or a positive number of seconds, got {provision_timeout_s!r}")
    return provision_timeout_s, provision_timeout_s


def _model_path(model: str) -> str:
    # Model ids contain slashes, as on the hub. Dot segments would be resolved to another route.
    if not model or any(segment in ("", ".", "..") for segment in model.split("/")):
        raise ValueError(f"invalid model id: {model!r}")
    try:
        return quote(model, safe="/:@")
    except UnicodeEncodeError as error:
        raise ValueError(f"model {model!r} is not valid Unicode") from error
