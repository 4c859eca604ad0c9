"""Where a client's requests go and what each of them carries; turns the arguments of a method into `Call`s."""

import math
import os
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import replace
from typing import Any, TypeVar, Unpack, cast
from urllib.parse import quote, urlsplit

from sie_sdk._core import codec, results
from sie_sdk._core.chunks import Part, check_text_only, checked, listed
from sie_sdk._core.exchange import Call
from sie_sdk._core.pipeline import Batch, Stream
from sie_sdk._core.progress import Report, reporting
from sie_sdk._core.reply import Reply, Subject
from sie_sdk._core.watch import check_mode
from sie_sdk._unsupported import warn_ignored
from sie_sdk._version import CONTRACT_VERSION
from sie_sdk.retry import RetryOptions
from sie_sdk.types import (
    EncodeArguments,
    EncodeResult,
    ExtractResult,
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
_HASTY = RetryOptions(wait_for_capacity=False, inference=False)


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
        self._headers = _checked_headers({**(base_url_headers or {}), **_present(**own)})

    def score(
        self,
        model: str,
        query: Item,
        items: Iterable[Item],
        *,
        instruction: str | None = None,
        options: Mapping[str, Any] | None = None,
        gpu: str | None = None,
        wait_for_capacity: bool = True,
        provision_timeout_s: float | None = None,
        max_oom_retries: int = 3,
    ) -> Batch[ScoreResult, ScoreResult]:
        warn_ignored(gpu=gpu)
        check_text_only(query, "query")
        options = {**self._options, **(options or {})}
        call = self._inference(
            "score",
            model,
            {"query": query, **_present(instruction=instruction, options=options or None)},
            options,
            lambda reply, _: [results.score_result(reply)],
            RetryOptions(wait_for_capacity=wait_for_capacity, max_oom_retries=max_oom_retries),
            provision_timeout_s,
        )
        stream = Stream(listed(items), call, named=True, progress=reporting(False, None), sends_empty=True)
        return Batch(stream, lambda parts: results.merged_scores(parts, options.get("top_k")))

    def encode(
        self, model: str, items: Item | Iterable[Item], **arguments: Unpack[EncodeArguments]
    ) -> Batch[EncodeResult, EncodeResult | list[EncodeResult]]:
        stream = self.encode_stream(model, _batch(items), **arguments)
        return Batch(replace(stream, sends_empty=True), _as_given(items))

    def encode_stream(
        self,
        model: str,
        items: Iterable[Item] | AsyncIterable[Item],
        *,
        output_types: Sequence[str] | None = None,
        instruction: str | None = None,
        output_dtype: str | None = None,
        is_query: bool | None = None,
        options: Mapping[str, Any] | None = None,
        gpu: str | None = None,
        wait_for_capacity: bool = True,
        provision_timeout_s: float | None = None,
        max_oom_retries: int = 3,
        progress: Report | bool = False,
    ) -> Stream[EncodeResult]:
        warn_ignored(gpu=gpu)
        options = {**self._options, **(options or {}), **_present(is_query=is_query)}
        params = _present(
            output_types=None if output_types is None else list(output_types),
            output_dtype=output_dtype,
            instruction=instruction,
            options=options or None,
        )
        call = self._inference(
            "encode",
            model,
            _present(params=params or None),
            options,
            results.encode_results,
            RetryOptions(wait_for_capacity=wait_for_capacity, max_oom_retries=max_oom_retries),
            provision_timeout_s,
        )
        total = len(items) if isinstance(items, Sized) else None
        return Stream(checked(items), call, named=False, progress=reporting(progress, total))

    def extract(
        self,
        model: str,
        items: Item | Iterable[Item],
        *,
        labels: Sequence[str] | None = None,
        output_schema: Mapping[str, Any] | None = None,
        instruction: str | None = None,
        options: Mapping[str, Any] | None = None,
        gpu: str | None = None,
        wait_for_capacity: bool = True,
        provision_timeout_s: float | None = None,
        max_oom_retries: int = 3,
    ) -> Batch[ExtractResult, ExtractResult | list[ExtractResult]]:
        warn_ignored(gpu=gpu)
        options = {**self._options, **(options or {})}
        params = _present(
            labels=None if labels is None else list(labels),
            output_schema=output_schema,
            instruction=instruction,
            options=options or None,
        )
        call = self._inference(
            "extract",
            model,
            _present(params=params or None),
            options,
            results.extract_results,
            RetryOptions(wait_for_capacity=wait_for_capacity, max_oom_retries=max_oom_retries),
            provision_timeout_s,
        )
        stream = Stream(_batch(items), call, named=True, progress=reporting(False, None), sends_empty=True)
        return Batch(stream, _as_given(items))

    def list_models(self) -> Call[list[ModelInfo]]:
        return self._look_up("/v1/models", None, results.model_infos)

    def get_model(self, name: str) -> Call[ModelInfo]:
        return self._look_up(f"/v1/models/{_model_path(name)}", name, results.model_info)

    def watch(
        self, mode: WatchMode, *, wait_for_capacity: bool, provision_timeout_s: float | None
    ) -> Call[StatusMessage]:
        check_mode(mode)
        retrying = RetryOptions(wait_for_capacity=wait_for_capacity, inference=False)
        return self._look_up("/ws/status", None, results.status_message, retrying, _budget(provision_timeout_s))

    def _inference(
        self,
        task: str,
        model: str,
        fields: Mapping[str, Any],
        options: Mapping[str, Any],
        parse: Callable[[Reply, Part], list[R]],
        retrying: RetryOptions,
        provision_timeout_s: float | None,
    ) -> Callable[[Part], Call[list[R]]]:
        """Returns the function that makes the request for one part of the items; `fields` is the rest of its body."""
        media = {"content-type": codec.CONTENT_TYPE, "accept": codec.CONTENT_TYPE}
        url = f"{self.base_url}/v1/{task}/{_model_path(model)}"
        headers = {**self._headers, **media}
        budget_s = _budget(provision_timeout_s)

        def call(part: Part) -> Call[list[R]]:
            return Call(
                method="POST",
                url=url,
                headers=headers,
                body=codec.encode({"items": part.packed, **fields}),
                parse=lambda reply: parse(reply, part),
                subject=Subject(model=model, lora=options.get("lora_id"), first_item=part.start),
                retrying=retrying,
                budget_s=budget_s,
                connect_timeout_s=self._connect_timeout_s,
                read_timeout_s=self._read_timeout_s,
            )

        return call

    def _look_up(
        self,
        path: str,
        model: str | None,
        parse: Callable[[Reply], T],
        retrying: RetryOptions = _HASTY,
        budget_s: float = DEFAULT_BUDGET_S,
    ) -> Call[T]:
        """Returns the GET request for something that is not computed, answered in JSON."""
        return Call(
            method="GET",
            url=self.base_url + path,
            headers={**self._headers, "accept": "application/json"},
            body=None,
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


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Returns the headers by their lower-case names. Raises ValueError for one that HTTP can't carry."""
    for name, value in headers.items():
        # The value stays out of the message: it may be a secret.
        if not (value.isascii() and value.isprintable()):
            raise ValueError(f"the {name.lower()} header must be printable ASCII")
    return {name.lower(): value for name, value in headers.items()}


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
