"""`WS /ws/status`: what the server is doing, as one JSON text five times a second.

Whoever watches gets the same frames, which are made once. A client that goes away, or does not read, is dropped.
"""

import asyncio
import getpass
import os
import re
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from sie_server import CONTRACT_VERSION, __version__, codec
from sie_server.engine.engine import Engine
from sie_server.engine.scheduler import Waiting
from sie_server.errors import Code, SIEError
from sie_server.http.client_identity import KEY
from sie_server.http.negotiation import json
from sie_server.machine.memory import machine_budget
from sie_server.residency.slot import Slot
from sie_server.settings import Settings

PATH = "/ws/status"
MOST_WATCHERS = 64
# Of them, with one API key: others are to have room.
MOST_WATCHERS_OF_A_KEY = 16
_INTERVAL_S = 0.2
# For a frame to leave: a client that reads none of some hundred of them has stopped.
_SLOWEST_S = 5.0
_TRY_AGAIN_S = 5
_GPU_TYPES = {"l4": "l4", "t4": "t4", "a10g": "a10g", "h100": "h100"}


class Status:
    """The route. `ready` tells whether start-up is over."""

    def __init__(self, engine: Engine, settings: Settings, ready: Callable[[], bool]) -> None:
        self._engine = engine
        self._settings = settings
        self._ready = ready
        self._started = time.monotonic()
        self._watchers: Counter[str] = Counter()  # by API key
        self._frame = ""
        self._made = -_INTERVAL_S
        self._busy_s = 0.0
        self._utilization = 0.0

    def routes(self) -> list[BaseRoute]:
        """The stream, and what a plain request to its address is told."""
        return [WebSocketRoute(PATH, self.watch), Route(PATH, self.upgrade)]

    async def upgrade(self, request: Request) -> Response:
        """Tells clients that can't see why a WebSocket did not open that there is one here."""
        body = {"detail": f"{PATH} is a WebSocket"}
        return json(body, 426, {"Upgrade": "websocket", "Connection": "Upgrade"})

    async def watch(self, websocket: WebSocket) -> None:
        """Sends frames until the client is gone, has stopped to read, or the server shuts down."""
        if (refusal := self._refusal(websocket)) is not None:
            await websocket.send_denial_response(refusal)
            return
        key = websocket.scope.get(KEY, "")
        self._watchers[key] += 1
        gone = None
        try:
            versions = {"x-sie-server-version": CONTRACT_VERSION, "x-sie-build": __version__}
            await websocket.accept(headers=[(name.encode(), value.encode()) for name, value in versions.items()])
            gone = asyncio.create_task(_gone(websocket))
            while not gone.done():
                async with asyncio.timeout(_SLOWEST_S):
                    await websocket.send_text(self._current())
                await asyncio.wait({gone}, timeout=_INTERVAL_S)
        except (TimeoutError, WebSocketDisconnect):
            pass  # its connection is closed as soon as this returns
        finally:
            self._watchers[key] -= 1
            self._watchers += Counter()  # keys without one are forgotten
            if gone is not None:
                gone.cancel()

    def _refusal(self, websocket: WebSocket) -> Response | None:
        # CORS does not cover WebSockets: without this, any page could read what this server says of its machine.
        origin, allowed = websocket.headers.get("origin"), self._settings.cors_origins
        own = (origin or "").partition("://")[2] == websocket.headers.get("host")
        if origin is not None and not own and "*" not in allowed and origin not in allowed:
            return json({"detail": f"the origin {origin} is none of --cors-origins"}, 403)
        key = websocket.scope.get(KEY, "")
        full = f"{MOST_WATCHERS} clients watch already" if self._watchers.total() >= MOST_WATCHERS else None
        if key and self._watchers[key] >= MOST_WATCHERS_OF_A_KEY:
            full = f"{MOST_WATCHERS_OF_A_KEY} clients with this API key watch already"
        if full is not None:
            error = SIEError(Code.QUEUE_FULL, full, retry_after=_TRY_AGAIN_S)
            return json(error.body, error.answer.status, {"Retry-After": str(error.retry_after)})
        return None

    def _current(self) -> str:
        """The newest frame; clients that joined at different moments share it."""
        elapsed_s = time.monotonic() - self._made
        if elapsed_s >= _INTERVAL_S / 2:
            busy_s = self._engine.busy_seconds
            share = (busy_s - self._busy_s) / elapsed_s / self._engine.scheduler.workers
            self._utilization, self._busy_s = round(min(share, 1.0) * 100, 1), busy_s
            self._made += elapsed_s
            self._frame = codec.encode(self._status(), msgpack=False).decode()
        return self._frame

    def _status(self) -> dict[str, Any]:
        engine, settings = self._engine, self._settings
        waiting = engine.scheduler.waiting()
        slots = engine.residency.slots.values()
        models = [_model(slot, str(engine.device), waiting.get(slot.entry.id, Waiting())) for slot in slots]
        gpus = [_gpu(engine.device, self._utilization, settings.memory_budget)] if engine.device.type == "cuda" else []
        return {
            "timestamp": time.time(),
            "ready": self._ready(),
            "name": socket.gethostname(),
            "machine_profile": gpu_type(engine.device),
            "pool_name": "default",
            "gpu_count": len(gpus),
            "bundle": "default",
            "bundle_config_hash": "",
            "loaded_models": [model["name"] for model in models if model["state"] == "loaded"],
            "max_batch_requests": engine.scheduler.budget,  # a sequence has one token at least
            "saturated": engine.scheduler.tokens >= settings.queue_tokens,
            "server": {
                "version": __version__,
                "uptime_seconds": int(time.monotonic() - self._started),
                "user": _user(),
                "working_dir": os.getcwd(),
                "pid": os.getpid(),
            },
            "gpus": gpus,
            "models": sorted(models, key=lambda model: -model["memory_bytes"]),
        }


async def _gone(websocket: WebSocket) -> None:
    """Returns when the client has gone; what it says before that is nothing to us."""
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass


def _model(slot: Slot, device: str, waiting: Waiting) -> dict[str, Any]:
    entry, model = slot.entry, slot.model
    return {
        "name": entry.id,
        "state": slot.state,
        "device": None if model is None else device,
        "memory_bytes": 0 if model is None else model.bytes,
        "config": {
            "hf_id": entry.repository,
            "adapter": entry.architecture or "",
            "inputs": ["text"],
            "outputs": list(entry.outputs or ()),
            "dims": entry.widths,
            "max_sequence_length": entry.max_length,
        },
        "queue_depth": waiting.requests,
        "queue_pending_items": waiting.sequences,
    }


def _gpu(device: torch.device, utilization: float, budget: int) -> dict[str, Any]:
    free, total = torch.cuda.mem_get_info(device)
    return {
        "device": str(device),
        "name": torch.cuda.get_device_name(device),
        "gpu_type": gpu_type(device),
        "utilization_pct": utilization,
        "memory_used_bytes": total - free,
        "memory_total_bytes": total,
        "memory_threshold_pct": round((budget or machine_budget(device)) / total * 100, 1),
    }


def gpu_type(device: torch.device) -> str:
    """Name of the GPU's type as clients of SIE know it, `unknown` for other GPUs, `cpu` without a GPU."""
    if device.type != "cuda":
        return "cpu"
    properties = torch.cuda.get_device_properties(device)
    words = re.split(r"[^a-z0-9]+", properties.name.lower())
    if "a100" in words:
        return "a100-80gb" if properties.total_memory > 50 * 2**30 else "a100-40gb"
    return next((_GPU_TYPES[word] for word in words if word in _GPU_TYPES), "unknown")


def _user() -> str:
    with suppress(OSError, KeyError):  # a container may run under an id that has no name
        return getpass.getuser()
    return str(os.getuid())
