"""`sie-server` with two more endpoints: one reports its internals, one makes the device fail.

    python reliability/instrumented.py serve --port 8080
    curl localhost:8080/inside
    curl localhost:8080/device -d '{"kind": "raises", "times": 3}'

`kind` of a failure: "raises", an error in the next `times` batches; "memory", out of memory in batches of more than
`tokens` tokens, `times` times; "dies", the device thread ends with the next batch; "stalls", the next batch takes an
hour.
"""

import asyncio
import json
import os
import re
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from starlette.types import ASGIApp, Receive, Scope, Send

from sie_server import server
from sie_server.api.app import create_app
from sie_server.catalog.catalog import Entry
from sie_server.checkpoints.load import load
from sie_server.cli.main import main
from sie_server.engine.worker_pool import WorkerPool
from sie_server.models.loaded_model import LoadedModel
from sie_server.nn.packed import Packed
from sie_server.options import Precision

KINDS = ("raises", "memory", "dies", "stalls")


class Device:
    """Failure of the next batches."""

    def __init__(self) -> None:
        self.kind = ""
        self.times = 0
        self.tokens = 0

    def set(self, kind: str, times: int = 1, tokens: int = 0) -> None:
        """Set the failure."""
        assert kind in KINDS
        self.kind, self.times, self.tokens = kind, times, tokens

    def meet(self, packed: Packed) -> None:
        """Fail as set: raise, wait, or do nothing."""
        if self.times <= 0 or len(packed.ids) <= self.tokens:
            return
        self.times -= 1
        match self.kind:
            case "raises":
                raise ZeroDivisionError("a device that raises")
            case "memory":
                # The words of torch on a CPU; c10 has no exception type of its own for it.
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")
            case "dies":
                raise SystemExit
            case "stalls":
                time.sleep(3600)


class Encoder:
    """A model's encoder that fails as the device does."""

    def __init__(self, encoder: Any, device: Device) -> None:
        self._encoder = encoder
        self._device = device

    def __call__(self, packed: Packed) -> Any:
        self._device.meet(packed)
        return self._encoder(packed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)


class Pools:
    """Records the sizes of this process's thread pools by name. Pools start threads only as needed."""

    def __init__(self) -> None:
        self.bounds: dict[str, int] = {}
        make, make_executor = WorkerPool.__init__, ThreadPoolExecutor.__init__

        def pool(self_: WorkerPool, threads: int, name: str) -> None:
            make(self_, threads, name)
            self.bounds[name] = threads

        def executor(self_: Any, max_workers: int | None = None, thread_name_prefix: str = "", **more: Any) -> None:
            make_executor(self_, max_workers, thread_name_prefix, **more)
            if thread_name_prefix:
                self.bounds[thread_name_prefix] = self_._max_workers

        WorkerPool.__init__ = pool  # type: ignore[method-assign, assignment]
        ThreadPoolExecutor.__init__ = executor  # type: ignore[method-assign, assignment]


def threads() -> Counter[str]:
    """Count this process's threads by name, without number (`device` for `device-0`); `native`: those of C++."""
    alive = threading.enumerate()
    named = Counter(re.sub(r"[-_]\d+$", "", thread.name) for thread in alive)
    native = {int(thread_id) for thread_id in os.listdir("/proc/self/task")} - {thread.native_id for thread in alive}
    return named + Counter(native=len(native))


class Endpoints:
    """The application with two more endpoints, /inside and /device."""

    def __init__(self, app: ASGIApp, device: Device, pools: Pools) -> None:
        self._app = app
        self._device = device
        self._pools = pools

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in ("/inside", "/device"):
            await self._app(scope, receive, send)
            return
        if scope["path"] == "/device":
            self._device.set(**json.loads((await receive())["body"]))
        inside = {"tasks": len(asyncio.all_tasks()), "threads": threads(), "pools": self._pools.bounds}
        body = json.dumps(inside).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": body})


def install(device: Device) -> None:
    """Add the endpoints and the device to what `sie-server serve` creates."""
    pools = Pools()

    def load_on(entry: Entry, on: torch.device, precision: Precision, **options: Any) -> LoadedModel:
        model = load(entry, on, precision, **options)
        return replace(model, encoder=Encoder(model.encoder, device))  # type: ignore[arg-type] # a stand-in

    def with_endpoints(*args: Any, **kwargs: Any) -> Endpoints:
        return Endpoints(create_app(*args, **kwargs), device, pools)

    # Names in `server`, by which it calls them; AttributeError if it has no such name any more.
    patch.object(server, "load", load_on).start()
    patch.object(server, "create_app", with_endpoints).start()


if __name__ == "__main__":
    install(Device())
    main()
