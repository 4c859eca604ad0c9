"""Where a client's requests go and what each of them carries; turns the arguments of a method into a `Call`."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar, Unpack
from urllib.parse import quote, urlsplit

from sie_sdk import _results, _wire
from sie_sdk._exchange import Call
from sie_sdk._items import listed, wire_item, wire_items
from sie_sdk._reply import Reply, Subject
from sie_sdk._version import __version__
from sie_sdk.retry import RetryOptions
from sie_sdk.types import EncodeResult, ExtractResult, Item, ModelInfo, ScoreResult

T = TypeVar("T")

DEFAULT_CONNECT_TIMEOUT_S = 10.0
DEFAULT_READ_TIMEOUT_S = 150.0
DEFAULT_BUDGET_S = 900.0


class Capacity(TypedDict):
    """Which machine a call wants, and how long it waits for it."""

    gpu: str | None
    wait_for_capacity: bool
    provision_timeout_s: float | None
    max_oom_retries: int


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
        self.base_url = _checked_base_url(os.environ.get("SIE_BASE_URL") if base_url is None else base_url)
        self._connect_timeout_s = _timeout("connect_timeout_s", connect_timeout_s, timeout_s, DEFAULT_CONNECT_TIMEOUT_S)
        self._read_timeout_s = _timeout("read_timeout_s", read_timeout_s, timeout_s, DEFAULT_READ_TIMEOUT_S)
        self._gpu = gpu
        self._options = dict(options or {})
        own = {
            "x-sie-sdk-version": __version__,
            "authorization": f"Bearer {key}" if key else None,
            "x-sie-pool": pool,
            "x-sie-remote": remote,
        }
        self._headers = _checked_headers({**(base_url_headers or {}), **_present(**own)})

    def score(
        self,
        model: str,
        query: Item,
        items: Sequence[Item],
        *,
        instruction: str | None,
        options: Mapping[str, Any] | None,
        **capacity: Unpack[Capacity],
    ) -> Call[ScoreResult]:
        options = {**self._options, **(options or {})}
        body = {
            "query": wire_item(query),
            "items": wire_items(listed(items)),
            **_present(instruction=instruction, options=options or None),
        }
        return self._inference("score", model, body, options, _results.score_result, **capacity)

    def encode(
        self,
        model: str,
        items: Item | Sequence[Item],
        *,
        output_types: Sequence[str] | None,
        instruction: str | None,
        output_dtype: str | None,
        is_query: bool | None,
        options: Mapping[str, Any] | None,
        **capacity: Unpack[Capacity],
    ) -> Call[EncodeResult | list[EncodeResult]]:
        options = {**self._options, **(options or {}), **_present(is_query=is_query)}
        params = _present(
            output_types=None if output_types is None else list(output_types),
            output_dtype=output_dtype,
            instruction=instruction,
            options=options or None,
        )
        return self._batch("encode", model, items, params, options, _results.encode_results, **capacity)

    def extract(
        self,
        model: str,
        items: Item | Sequence[Item],
        *,
        labels: Sequence[str] | None,
        output_schema: Mapping[str, Any] | None,
        instruction: str | None,
        options: Mapping[str, Any] | None,
        **capacity: Unpack[Capacity],
    ) -> Call[ExtractResult | list[ExtractResult]]:
        options = {**self._options, **(options or {})}
        params = _present(
            labels=None if labels is None else list(labels),
            output_schema=output_schema,
            instruction=instruction,
            options=options or None,
        )
        return self._batch("extract", model, items, params, options, _results.extract_results, **capacity)

    def list_models(self) -> Call[list[ModelInfo]]:
        return self._look_up("/v1/models", None, _results.model_infos)

    def get_model(self, name: str) -> Call[ModelInfo]:
        return self._look_up(f"/v1/models/{_model_path(name)}", name, _results.model_info)

    def _batch(
        self,
        task: str,
        model: str,
        items: Item | Sequence[Item],
        params: Mapping[str, Any],
        options: Mapping[str, Any],
        parse: Callable[[Reply, Sequence[Item]], list[T]],
        **capacity: Unpack[Capacity],
    ) -> Call[T | list[T]]:
        """A call of one result per item: a list for a list, the result itself for a lone item."""
        lone = isinstance(items, Mapping)
        batch = [items] if isinstance(items, Mapping) else listed(items)
        body = {"items": wire_items(batch), **({"params": params} if params else {})}

        def results(reply: Reply) -> T | list[T]:
            parsed = parse(reply, batch)
            return parsed[0] if lone else parsed

        return self._inference(task, model, body, options, results, **capacity)

    def _inference(
        self,
        task: str,
        model: str,
        body: Mapping[str, Any],
        options: Mapping[str, Any],
        parse: Callable[[Reply], T],
        *,
        gpu: str | None,
        wait_for_capacity: bool,
        provision_timeout_s: float | None,
        max_oom_retries: int,
    ) -> Call[T]:
        gpu = gpu or self._gpu
        media = {"content-type": _wire.CONTENT_TYPE, "accept": _wire.CONTENT_TYPE}
        return Call(
            method="POST",
            url=f"{self.base_url}/v1/{task}/{_model_path(model)}",
            headers={**self._headers, **_gpu_headers(gpu), **media},
            body=_wire.encode(body),
            parse=parse,
            subject=Subject(model=model, gpu=gpu, lora=options.get("lora_id")),
            retrying=RetryOptions(wait_for_capacity=wait_for_capacity, max_oom_retries=max_oom_retries),
            budget_s=_budget(provision_timeout_s),
            connect_timeout_s=self._connect_timeout_s,
            read_timeout_s=self._read_timeout_s,
        )

    def _look_up(self, path: str, model: str | None, parse: Callable[[Reply], T]) -> Call[T]:
        return Call(
            method="GET",
            url=self.base_url + path,
            headers={**self._headers, "accept": "application/json"},
            body=None,
            parse=parse,
            subject=Subject(model=model),
            retrying=RetryOptions(wait_for_capacity=False, inference=False),
            budget_s=DEFAULT_BUDGET_S,
            connect_timeout_s=self._connect_timeout_s,
            read_timeout_s=self._read_timeout_s,
        )


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


def _gpu_headers(gpu: str | None) -> dict[str, str]:
    """`"l4"` names a machine profile, `"pool/l4"` also the pool of machines to take it from."""
    if not gpu:
        return {}
    pool, _, profile = gpu.rpartition("/")
    headers = {"x-sie-machine-profile": profile, "x-sie-pool": pool}
    return _checked_headers({name: value for name, value in headers.items() if value})


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        # The value stays out of the message: it may be a secret.
        if not (value.isascii() and value.isprintable()):
            raise ValueError(f"the {name.lower()} header must be printable ASCII")
    return {name.lower(): value for name, value in headers.items()}
