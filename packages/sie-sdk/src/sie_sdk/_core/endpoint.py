"""Where a client's requests go and what each of them carries; turns the arguments of a method into `Call`s."""

import math
import os
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence, Sized
from typing import Any, TypedDict, TypeVar, Unpack, cast
from urllib.parse import quote, urlsplit

from sie_sdk._core import codec, results
from sie_sdk._core.chunks import Part
from sie_sdk._core.exchange import Call
from sie_sdk._core.headers import checked_headers, gpu_headers
from sie_sdk._core.items import checked, listed, wire_item
from sie_sdk._core.pipeline import Batch, Stream
from sie_sdk._core.progress import Report, reporting
from sie_sdk._core.reply import Reply, Subject
from sie_sdk._core.results import status_message
from sie_sdk._core.watch import CLUSTER_PATH, Watch, path_of
from sie_sdk._version import CONTRACT_VERSION
from sie_sdk.retry import RetryOptions
from sie_sdk.types import EncodeResult, ExtractResult, Item, ModelInfo, ScoreResult, WatchMode

R = TypeVar("R")
T = TypeVar("T")

DEFAULT_CONNECT_TIMEOUT_S = 10.0
DEFAULT_READ_TIMEOUT_S = 150.0
DEFAULT_BUDGET_S = 900.0
_HASTY = RetryOptions(wait_for_capacity=False, inference=False)


class Capacity(TypedDict):
    """Which machine a call wants, and how long it waits for it."""

    gpu: str | None
    wait_for_capacity: bool
    provision_timeout_s: float | None
    max_oom_retries: int


class Encoding(Capacity):
    """What an encoder is to make of its items."""

    output_types: Sequence[str] | None
    instruction: str | None
    output_dtype: str | None
    is_query: bool | None
    options: Mapping[str, Any] | None


class Endpoint:
    """A server's address with the credentials, options and timeouts that all calls of a client share."""

    def __init__(
        self,
        base_url: str | None,
        *,
        timeout_s: float | None,
        connect_timeout_s: float | None,
        read_timeout_s: float | None,
        api_key: str | None,
        gpu: str | None,
        pool: str | None,
        options: Mapping[str, Any] | None,
        base_url_headers: Mapping[str, str] | None,
        remote: str | None,
    ) -> None:
        if remote not in (None, "forbid"):
            raise ValueError(f"remote must be None or 'forbid', got {remote!r}")
        key = (os.environ.get("SIE_API_KEY", "") if api_key is None else api_key).strip()
        self.base_url: str = _checked_base_url(os.environ.get("SIE_BASE_URL") if base_url is None else base_url)
        self._connect_timeout_s = _timeout("connect_timeout_s", connect_timeout_s, timeout_s, DEFAULT_CONNECT_TIMEOUT_S)
        self._read_timeout_s = _timeout("read_timeout_s", read_timeout_s, timeout_s, DEFAULT_READ_TIMEOUT_S)
        self._gpu = gpu
        self._options = dict(options or {})
        own = {
            "x-sie-sdk-version": CONTRACT_VERSION,
            "authorization": f"Bearer {key}" if key else None,
            "x-sie-pool": pool,
            "x-sie-remote": remote,
        }
        self._headers = checked_headers({**(base_url_headers or {}), **_present(**own)})

    def score(
        self,
        model: str,
        query: Item,
        items: Iterable[Item],
        *,
        instruction: str | None,
        options: Mapping[str, Any] | None,
        **capacity: Unpack[Capacity],
    ) -> Batch[ScoreResult, ScoreResult]:
        options = {**self._options, **(options or {})}
        fields = {"query": wire_item(query), **_present(instruction=instruction, options=options or None)}
        call = self._inference(
            "score", model, fields, options, lambda reply, _: [results.score_result(reply)], **capacity
        )
        stream = Stream(listed(items), call, named=True, progress=reporting(False, None), sends_empty=True)
        return Batch(stream, lambda parts: results.merged_scores(parts, options.get("top_k")))

    def encode(
        self,
        model: str,
        items: Item | Iterable[Item],
        *,
        progress: Report | bool,
        **arguments: Unpack[Encoding],
    ) -> Batch[EncodeResult, EncodeResult | list[EncodeResult]]:
        batch = _batch(items)
        call = self._encoding(model, **arguments)
        stream = Stream(batch, call, named=False, progress=reporting(progress, len(batch)), sends_empty=True)
        return Batch(stream, _as_given(items))

    def encode_stream(
        self,
        model: str,
        items: Iterable[Item] | AsyncIterable[Item],
        *,
        progress: Report | bool,
        **arguments: Unpack[Encoding],
    ) -> Stream[EncodeResult]:
        call = self._encoding(model, **arguments)
        total = len(items) if isinstance(items, Sized) else None
        return Stream(checked(items), call, named=False, progress=reporting(progress, total))

    def extract(
        self,
        model: str,
        items: Item | Iterable[Item],
        *,
        labels: Sequence[str] | None,
        output_schema: Mapping[str, Any] | None,
        instruction: str | None,
        options: Mapping[str, Any] | None,
        **capacity: Unpack[Capacity],
    ) -> Batch[ExtractResult, ExtractResult | list[ExtractResult]]:
        options = {**self._options, **(options or {})}
        params = _present(
            labels=None if labels is None else list(labels),
            output_schema=output_schema,
            instruction=instruction,
            options=options or None,
        )
        fields = {"params": params} if params else {}
        call = self._inference("extract", model, fields, options, results.extract_results, **capacity)
        stream = Stream(_batch(items), call, named=True, progress=reporting(False, None), sends_empty=True)
        return Batch(stream, _as_given(items))

    def list_models(self) -> Call[list[ModelInfo]]:
        return self.look_up("/v1/models", None, results.model_infos)

    def get_model(self, name: str) -> Call[ModelInfo]:
        return self.look_up(f"/v1/models/{_model_path(name)}", name, results.model_info)

    def watch(self, mode: WatchMode, *, wait_for_capacity: bool, provision_timeout_s: float | None) -> Watch:
        retrying = RetryOptions(wait_for_capacity=wait_for_capacity, inference=False)
        budget_s = _budget(provision_timeout_s)

        def ask(path: str, parse: Callable[[Reply], T]) -> Call[T]:
            return self.look_up(path, None, parse, retrying, budget_s)

        return Watch(path_of(mode), ask("/health", lambda _: CLUSTER_PATH), lambda path: ask(path, status_message))

    def _encoding(
        self,
        model: str,
        *,
        output_types: Sequence[str] | None,
        instruction: str | None,
        output_dtype: str | None,
        is_query: bool | None,
        options: Mapping[str, Any] | None,
        **capacity: Unpack[Capacity],
    ) -> Callable[[Part], Call[list[EncodeResult]]]:
        options = {**self._options, **(options or {}), **_present(is_query=is_query)}
        params = _present(
            output_types=None if output_types is None else list(output_types),
            output_dtype=output_dtype,
            instruction=instruction,
            options=options or None,
        )
        fields = {"params": params} if params else {}
        return self._inference("encode", model, fields, options, results.encode_results, **capacity)

    def _inference(
        self,
        task: str,
        model: str,
        fields: Mapping[str, Any],
        options: Mapping[str, Any],
        parse: Callable[[Reply, Part], list[R]],
        *,
        gpu: str | None,
        wait_for_capacity: bool,
        provision_timeout_s: float | None,
        max_oom_retries: int,
    ) -> Callable[[Part], Call[list[R]]]:
        """The request for one part of the items; `fields` is the rest of its body."""
        gpu = gpu or self._gpu
        media = {"content-type": codec.CONTENT_TYPE, "accept": codec.CONTENT_TYPE}
        url = f"{self.base_url}/v1/{task}/{_model_path(model)}"
        headers = {**self._headers, **gpu_headers(gpu), **media}
        budget_s = _budget(provision_timeout_s)

        def call(part: Part) -> Call[list[R]]:
            return Call(
                method="POST",
                url=url,
                headers=headers,
                body=codec.encode({"items": part.packed, **fields}),
                parse=lambda reply: parse(reply, part),
                subject=Subject(model=model, gpu=gpu, lora=options.get("lora_id"), first_item=part.start),
                retrying=RetryOptions(wait_for_capacity=wait_for_capacity, max_oom_retries=max_oom_retries),
                budget_s=budget_s,
                connect_timeout_s=self._connect_timeout_s,
                read_timeout_s=self._read_timeout_s,
            )

        return call

    def look_up(
        self,
        path: str,
        model: str | None,
        parse: Callable[[Reply], T],
        retrying: RetryOptions = _HASTY,
        budget_s: float = DEFAULT_BUDGET_S,
        method: str = "GET",
        body: bytes | None = None,
    ) -> Call[T]:
        """Any request that computes nothing; `body` is JSON, as is the answer."""
        media = {"accept": "application/json"} | ({"content-type": "application/json"} if body else {})
        return Call(
            method=method,
            url=self.base_url + path,
            headers={**self._headers, **media},
            body=body,
            parse=parse,
            subject=Subject(model=model),
            retrying=retrying,
            budget_s=budget_s,
            connect_timeout_s=self._connect_timeout_s,
            read_timeout_s=self._read_timeout_s,
        )


def _batch(items: Item | Iterable[Item]) -> list[Item]:
    return [cast(Item, items)] if isinstance(items, Mapping) else listed(items)


def _as_given(items: Item | Iterable[Item]) -> Callable[[list[R]], R | list[R]]:
    """Results as the items were given: a list for a list, the result itself for a lone item."""
    return lambda results: results[0] if isinstance(items, Mapping) else results


def _present(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _checked_base_url(base_url: str | None) -> str:
    if not base_url:
        raise ValueError("no server to talk to: give base_url or set SIE_BASE_URL")
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


def _budget(provision_timeout_s: float | None) -> float:
    seconds = DEFAULT_BUDGET_S if provision_timeout_s is None else provision_timeout_s
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"provision_timeout_s must be a number of seconds, not negative, got {seconds!r}")
    return seconds


def _model_path(model: str) -> str:
    # A model is named as it is on the hub, slashes included. Dot segments would be resolved into some other route.
    if not model or any(segment in ("", ".", "..") for segment in model.split("/")):
        raise ValueError(f"not a model id: {model!r}")
    try:
        return quote(model, safe="/:@")
    except UnicodeEncodeError as error:
        raise ValueError(f"model {model!r} is not valid Unicode") from error
