"""What only a gateway in front of several machines answers: which there are, and pools of them that one may reserve.

A pool is kept by a lease, which has to be renewed.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, cast
from urllib.parse import quote

import msgspec

from sie_sdk._core.chunks import Cutter, Part
from sie_sdk._core.endpoint import DEFAULT_BUDGET_S, Capacity, Encoding, Endpoint
from sie_sdk._core.exchange import Call, Clock, Pause, Steps, Trace, VersionSkew, exchange
from sie_sdk._core.reply import Reply
from sie_sdk._core.results import json_map
from sie_sdk.errors import PoolError, ProvisioningError, RequestError, ServerError, SIEConnectionError, SIEError
from sie_sdk.types import CapacityInfo, Item, PoolInfo

# A lease lasts for some minutes.
RENEWAL_S = 60.0
_TEXT = Item(text="Are you there?")


def capacity(endpoint: Endpoint, gpu: str | None, budget_s: float = DEFAULT_BUDGET_S) -> Call[CapacityInfo]:
    return endpoint.look_up("/health", None, lambda reply: _capacity(reply, gpu), budget_s=budget_s)


def waiting_for_capacity(
    endpoint: Endpoint,
    gpu: str,
    model: str | None,
    timeout_s: float | None,
    poll_interval_s: float,
    skew: VersionSkew,
    clock: Clock,
) -> Steps[CapacityInfo]:
    """Looks until a machine of that profile is up, and has loaded `model`; raises when the time is over."""
    timeout_s = DEFAULT_BUDGET_S if timeout_s is None else timeout_s
    for name, seconds in (("timeout_s", timeout_s), ("poll_interval_s", poll_interval_s)):
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"{name} must be a number of seconds, not negative, got {seconds!r}")
    deadline = clock.monotonic() + timeout_s
    while True:
        cause: SIEError | None = None
        try:
            if model is not None:
                yield from _used_once(endpoint, model, gpu, max(deadline - clock.monotonic(), 0.0), skew, clock)
                model = None
            found = yield from exchange(capacity(endpoint, gpu, timeout_s), Trace(), skew, clock)
            if found.get("worker_count"):
                return found
        except (SIEConnectionError, ServerError) as error:
            cause = error
        left_s = deadline - clock.monotonic()
        if left_s <= 0:
            raise ProvisioningError(f"no machine of profile {gpu!r} within {timeout_s:g} s", gpu=gpu) from cause
        yield Pause(min(poll_interval_s, left_s))


def _used_once(
    endpoint: Endpoint, model: str, gpu: str, budget_s: float, skew: VersionSkew, clock: Clock
) -> Steps[None]:
    """Only a request makes a gateway start a machine, and the machine load a model."""
    described = yield from exchange(endpoint.get_model(model), Trace(), skew, clock)
    outputs: list[Any] = [output for output in described.get("outputs", ()) if output != "score"]
    capacity: Capacity = {
        "gpu": gpu, "wait_for_capacity": True, "provision_timeout_s": budget_s, "max_oom_retries": 3,
    }  # fmt: skip
    call: Callable[[Part], Call[Any]]
    if outputs:
        encoding: Encoding = {
            "output_types": outputs[:1], "instruction": None, "output_dtype": None, "is_query": None, "options": None,
            **capacity,
        }  # fmt: skip
        call = endpoint.encode(model, [_TEXT], progress=False, **encoding).stream.call
    else:
        call = endpoint.score(model, _TEXT, [_TEXT], instruction=None, options=None, **capacity).stream.call
    items = Cutter(named=False)
    items.add(_TEXT)
    once: Call[Any] = call(items.rest())
    yield from exchange(once, Trace(), skew, clock)


def new_pool(endpoint: Endpoint, name: str, spec: Mapping[str, Any]) -> Call[PoolInfo]:
    body = {"name": name} | {field: value for field, value in spec.items() if value is not None}
    return endpoint.look_up("/v1/pools", None, _pool, method="POST", body=msgspec.json.encode(body))


def pool(endpoint: Endpoint, name: str) -> Call[PoolInfo]:
    return endpoint.look_up(_path(name), None, _pool)


def deleted_pool(endpoint: Endpoint, name: str) -> Call[bool]:
    return endpoint.look_up(_path(name), None, lambda _: True, method="DELETE")


def renewed_pool(endpoint: Endpoint, name: str) -> Call[bool]:
    return endpoint.look_up(f"{_path(name)}/renew", None, lambda _: True, method="POST")


def refused(name: str, error: SIEError) -> PoolError:
    """Why there is no such pool, in the words of whoever refused it."""
    known = {field: getattr(error, field) for field in ("code", "status_code", "request", "retry_after")}
    return PoolError(str(error), pool_name=name, **known)


def _path(name: str) -> str:
    if not name:
        raise ValueError("a pool has a name")
    return f"/v1/pools/{quote(name, safe='')}"


def _capacity(reply: Reply, gpu: str | None) -> CapacityInfo:
    body = json_map(reply, "health")
    if not isinstance(body.get("cluster"), dict):
        raise RequestError("this is no gateway: it says nothing of a cluster", status_code=reply.status)
    found: dict[str, Any] = {"status": "unknown", "configured_gpu_types": [], "live_gpu_types": [], "workers": []}
    found |= {field: body[field] for field in found if body.get(field) is not None}
    found |= {field: body["cluster"].get(field, 0) for field in ("worker_count", "gpu_count", "models_loaded")}
    if gpu is not None:
        profile = gpu.rpartition("/")[2].lower()
        found["workers"] = [worker for worker in found["workers"] if worker.get("gpu", "").lower() == profile]
        found["worker_count"] = sum(worker.get("healthy", True) for worker in found["workers"])
    return cast(CapacityInfo, found)


def _pool(reply: Reply) -> PoolInfo:
    return cast(PoolInfo, json_map(reply, "pool"))
