"""What a gateway says of its machines; public in `sie_sdk.types`."""

from collections.abc import Mapping
from typing import TypedDict


class WorkerInfo(TypedDict, total=False):
    """One of the machines behind a gateway."""

    name: str
    url: str
    gpu: str
    gpu_count: int
    healthy: bool
    queue_depth: int
    loaded_models: list[str]
    memory_used_bytes: int
    memory_total_bytes: int
    bundle: str
    bundle_config_hash: str


class CapacityInfo(TypedDict, total=False):
    """The machines behind a gateway; with a machine profile asked for, `workers` and `worker_count` are of that."""

    status: str
    worker_count: int
    gpu_count: int
    models_loaded: int
    configured_gpu_types: list[str]
    live_gpu_types: list[str]
    workers: list[WorkerInfo]


class PoolSpec(TypedDict, total=False):
    """What a pool is to have: `gpus` machines of each profile to be ready, at most `gpu_caps`, some kept when idle."""

    name: str
    gpus: Mapping[str, int]
    gpu_caps: Mapping[str, int]
    bundle: str | None
    minimum_worker_count: int


class PoolStatus(TypedDict, total=False):
    """What a pool has; `state` is `"pending"`, `"active"` or `"expired"`. Times are in Unix seconds."""

    state: str
    assigned_workers: list[WorkerInfo]
    created_at: float
    last_renewed: float


class PoolInfo(TypedDict, total=False):
    """A pool of machines: what it is to have, and what it has."""

    name: str
    spec: PoolSpec
    status: PoolStatus
