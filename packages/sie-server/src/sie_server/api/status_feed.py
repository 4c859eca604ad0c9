"""`WS /ws/status`: the server's state, as one JSON text frame every 200 ms.

All clients get the same frames; each is built once. A client that disconnects or does not read is dropped.
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

import torch
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from sie_server import CONTRACT_VERSION, __version__, codec, wire
from sie_server.engine.engine import Engine
from sie_server.engine.scheduler import Waiting
from sie_server.errors import Code, SIEError
from sie_server.http.api_keys import KEY
from sie_server.http.error_responses import Refusal, error_response
from sie_server.http.negotiation import json
from sie_server.machine.memory import machine_budget
from sie_server.residency.slot import Slot
from sie_server.settings import Settings

PATH = "/ws/status"
# Chosen if it is offered: a browser that offers its key as a subprotocol expects one of its offers in the answer.
_PROTOCOL = "sie.status"
MOST_WATCHERS = 64
# With one API key, so that clients with other keys have room.
MOST_WATCHERS_OF_A_KEY = 16
_INTERVAL_S = 0.2
# Time for a frame to be written: a client that leaves some hundred of them unread has stopped reading.
_SEND_TIMEOUT_S = 5.0
_RETRY_AFTER_S = 5
_GPU_TYPES = {"l4": "l4", "t4": "t4", "a10g": "a10g", "h100": "h100"}


class StatusStream:
    """The WebSocket route. `ready` tells whether start-up is over."""

    def __init__(self, engine: Engine, settings: Settings, ready: Callable[[], bool]) -> None:
        self._engine = engine
        self._settings = settings
        self._ready = ready
        self._started = time.monotonic()
        self._watchers: Counter[str] = Counter()  # by API key
        self._encoded = ""
        self._encoded_at = -_INTERVAL_S
        self._busy_s = 0.0
        self._utilization = 0.0

    def routes(self) -> list[BaseRoute]:
        """The WebSocket, and a response to plain requests at its address."""
        return [WebSocketRoute(PATH, self.stream), Route(PATH, self.upgrade_required)]

    async def upgrade_required(self, request: Request) -> Response:
        """Tells clients that cannot see why a WebSocket did not open that there is one here."""
        body = Refusal(f"{PATH} accepts only WebSocket connections")
        return json(body, 426, {"Upgrade": "websocket", "Connection": "Upgrade"})

    async def stream(self, websocket: WebSocket) -> None:
        """Send frames until the client disconnects or stops reading, or the server shuts down."""
        key = websocket.scope.get(KEY, "")
        if (refusal := self._refusal(websocket, key)) is not None:
            await websocket.send_denial_response(refusal)
            return
        self._watchers[key] += 1
        disconnected = None
        try:
            versions = {"x-sie-server-version": CONTRACT_VERSION, "x-sie-build": __version__}
            await websocket.accept(
                _PROTOCOL if _PROTOCOL in websocket.scope["subprotocols"] else None,
                headers=[(name.encode(), value.encode()) for name, value in versions.items()],
            )
            disconnected = asyncio.create_task(_disconnected(websocket))
            while not disconnected.done():
                async with asyncio.timeout(_SEND_TIMEOUT_S):
                    await websocket.send_text(self._current())
                await asyncio.wait({disconnected}, timeout=_INTERVAL_S)
        except (TimeoutError, WebSocketDisconnect):
            pass  # its connection is closed as soon as this returns
        finally:
            self._watchers[key] -= 1
            self._watchers += Counter()  # keys without watchers are removed
            if disconnected is not None:
                disconnected.cancel()

    def _refusal(self, websocket: WebSocket, key: str) -> Response | None:
        # CORS does not cover WebSockets: without this, any page could read the state of the server and its machine.
        origin, allowed = websocket.headers.get("origin"), self._settings.cors_origins
        # A proxy may replace the host that the page came from by its own. A page can send neither header.
        hosts = {websocket.headers.get("host"), websocket.headers.get("x-forwarded-host", "").partition(",")[0].strip()}
        own = origin is not None and origin.partition("://")[2] in hosts - {""}
        if origin is not None and not own and "*" not in allowed and origin not in allowed:
            return json(Refusal(f"origin {origin} is not allowed; allow it with --cors-origins"), 403)
        if self._watchers.total() >= MOST_WATCHERS:
            return _full(f"the limit of {MOST_WATCHERS} status streams is reached")
        if key and self._watchers[key] >= MOST_WATCHERS_OF_A_KEY:
            return _full(f"the limit of {MOST_WATCHERS_OF_A_KEY} status streams per API key is reached")
        return None

    def _current(self) -> str:
        """The newest frame, encoded; clients that joined at different moments share it."""
        elapsed_s = time.monotonic() - self._encoded_at
        if elapsed_s >= _INTERVAL_S / 2:
            busy_s = self._engine.busy_seconds
            share = (busy_s - self._busy_s) / elapsed_s / self._engine.scheduler.workers
            self._utilization, self._busy_s = round(min(share, 1.0) * 100, 1), busy_s
            self._encoded_at += elapsed_s
            self._encoded = codec.encode(self._frame(), msgpack=False).decode()
        return self._encoded

    def _frame(self) -> wire.StatusFrame:
        engine, settings = self._engine, self._settings
        waiting = engine.scheduler.waiting()
        slots = engine.residency.slots.values()
        seconds = engine.queue_seconds()
        models = [
            _model(slot, str(engine.device), waiting.get(slot.entry.id, Waiting()), seconds.get(slot.entry.id, 0.0))
            for slot in slots
        ]
        gpus = [_gpu(engine.device, self._utilization, settings.memory_budget)] if engine.device.type == "cuda" else []
        return wire.StatusFrame(
            timestamp=time.time(),
            ready=self._ready(),
            name=socket.gethostname(),
            machine_profile=gpu_type(engine.device),
            pool_name="default",
            gpu_count=len(gpus),
            bundle="default",
            bundle_config_hash="",
            loaded_models=[model.name for model in models if model.state == "loaded"],
            max_batch_requests=engine.scheduler.budget,  # a sequence has at least one token
            saturated=engine.scheduler.tokens >= settings.queue_tokens,
            queue_seconds=round(sum(seconds.values(), 0.0), 3),
            queued_tokens=engine.scheduler.tokens,
            computed_tokens=engine.computed_tokens,
            utilization_pct=self._utilization,
            server=wire.ServerStatus(
                version=__version__,
                uptime_seconds=int(time.monotonic() - self._started),
                user=_user(),
                working_dir=os.getcwd(),
                pid=os.getpid(),
            ),
            gpus=gpus,
            models=sorted(models, key=lambda model: -model.memory_bytes),
        )


async def _disconnected(websocket: WebSocket) -> None:
    """Return when the client has disconnected; messages it sends before are ignored."""
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass


def _full(message: str) -> Response:
    return error_response(PATH, SIEError(Code.QUEUE_FULL, message, retry_after=_RETRY_AFTER_S))


def _model(slot: Slot, device: str, waiting: Waiting, seconds: float) -> wire.ModelStatus:
    entry, resident = slot.entry, slot.resident
    return wire.ModelStatus(
        name=entry.id,
        state=slot.state,
        device=None if resident is None else device,
        memory_bytes=0 if resident is None else resident.memory_bytes,
        config=wire.StatusModelConfig(
            hf_id=entry.repository,
            adapter=entry.architecture or "",
            inputs=["text"],
            outputs=entry.outputs or (),
            dims=entry.widths,
            max_sequence_length=entry.max_length,
        ),
        queue_depth=waiting.requests,
        queue_pending_items=waiting.sequences,
        queue_seconds=round(seconds, 3),
    )


def _gpu(device: torch.device, utilization: float, budget: int) -> wire.GpuStatus:
    free, total = torch.cuda.mem_get_info(device)
    return wire.GpuStatus(
        device=str(device),
        name=torch.cuda.get_device_name(device),
        gpu_type=gpu_type(device),
        utilization_pct=utilization,
        memory_used_bytes=total - free,
        memory_total_bytes=total,
        memory_threshold_pct=round((budget or machine_budget(device)) / total * 100, 1),
    )


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
