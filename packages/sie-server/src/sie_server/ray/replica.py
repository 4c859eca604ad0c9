"""A replica: the server's ASGI application in a process of Ray's, with an engine of its own."""

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sie_server import logs
from sie_server.errors import LoadError, SIEError

if TYPE_CHECKING:
    from sie_server.ray.arguments import Arguments

_LOG = logging.getLogger(__name__)
# For answers in progress when the device is lost, and then for the process.
_LOST_S = 1.0
_LAST_S = 10.0


class Replica:
    """An actor of Ray Serve, which routes requests here as soon as every preload is in memory."""

    def __init__(self, arguments: "Arguments") -> None:
        # The controller and the proxies of Ray import this module too, and have no use for torch.
        from sie_server.http.shutdown import Drain
        from sie_server.metrics import Metrics
        from sie_server.server import application, shorten_pauses

        settings = arguments.settings()
        logs.configure(settings.log_level, as_json=settings.json_logs)
        self._loop = asyncio.get_running_loop()
        self._loaded: asyncio.Future[None] = self._loop.create_future()
        self._drain = Drain()
        try:
            self._engine, self._application = application(
                settings,
                Metrics(),
                self._drain,
                on_ready=lambda: self._loaded.set_result(None),
                on_failed=self._loaded.set_exception,
                on_lost=self._leave,
            )
        except LoadError as error:  # whose class takes more than a text, which Ray's pickles don't know
            raise ValueError(str(error)) from None
        shorten_pauses()
        self._for_router = {
            "served": [*self._engine.residency.slots],
            "preloaded": [*settings.preload, *settings.pinned],
            "aliases": settings.aliases,
            "owners": arguments.owners,
            "spill_seconds": arguments.spill_seconds,
        }
        self._measured_at, self._busy_s = time.monotonic(), 0.0

    def __serve_build_asgi_app__(self) -> ASGIApp:  # Ray Serve's name
        return Loading(self._application, self._loaded)

    def check_health(self) -> None:
        """Called by Ray Serve, which replaces a replica whose check fails. Raises RuntimeError, as `/livez` says."""
        if (trouble := self._engine.trouble) is not None:
            raise RuntimeError(trouble)

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Called by Ray Serve for `QueueSeconds`: device time that waits, and the busy share since the last call."""
        now, busy_s = time.monotonic(), self._engine.busy_seconds
        elapsed_s = max(now - self._measured_at, 1e-3) * self._engine.scheduler.workers
        share = min((busy_s - self._busy_s) / elapsed_s, 1.0)
        self._measured_at, self._busy_s = now, busy_s
        return {"queue_seconds": sum(self._engine.queue_seconds().values()), "busy": share}

    def record_replica_metadata(self) -> dict[str, Any]:
        """Called by Ray Serve for `ModelRouter`, once: its models, those that all replicas have, other names."""
        return self._for_router

    def record_routing_stats(self) -> dict[str, Any]:
        """Called by Ray Serve for `ModelRouter`: the work of this replica, and the models that it has in memory."""
        slots = self._engine.residency.slots.values()
        return {
            "queue_seconds": round(sum(self._engine.queue_seconds().values()), 3),
            "requests": self._drain.requests,
            "loaded": sorted(slot.entry.id for slot in slots if slot.state == "loaded"),
        }

    def _leave(self) -> None:
        """End the process as `serve` does when its device has failed: answer what waits, and let Ray replace it."""
        from sie_server.http.shutdown import ABANDONED, leave

        def refuse() -> None:
            self._drain.noticed = self._drain.begun = True
            self._loop.call_later(_LOST_S, self._drain.cut)
            self._loop.call_later(2 * _LOST_S, leave, ABANDONED)

        # Even if the event loop is stuck.
        last = threading.Timer(_LAST_S, leave, (ABANDONED,))
        last.daemon = True
        last.start()
        self._loop.call_soon_threadsafe(refuse)


class Loading:
    """An application whose start-up is over when its models are loaded: until then a replica gets no requests."""

    def __init__(self, app: ASGIApp, loaded: "asyncio.Future[None]") -> None:
        self._app = app
        self._loaded = loaded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def started(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                try:
                    await self._loaded
                except SIEError as error:
                    _LOG.error("%s", error.message)
                    message = {"type": "lifespan.startup.failed", "message": error.message}
            await send(message)

        await self._app(scope, receive, started if scope["type"] == "lifespan" else send)
