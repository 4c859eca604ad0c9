"""One server process: logging, engine, HTTP and start-up banner."""

import gc
import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import uvicorn
from starlette.types import ASGIApp

from sie_server.api.app import create_app
from sie_server.catalog.catalog import Entry, offered, shipped, with_models
from sie_server.checkpoints.load import load
from sie_server.checkpoints.source import fetch, locate
from sie_server.engine.engine import Engine
from sie_server.errors import LoadClass, LoadError, SIEError
from sie_server.http.connection import Connection
from sie_server.http.connection_limits import ConnectionLimits
from sie_server.http.shutdown import Drain, DrainingServer, leave
from sie_server.http.websocket import StatusConnection
from sie_server.metrics import Metrics
from sie_server.score_check import load_verified
from sie_server.settings import Settings
from sie_server.startup_banner import base_url, reach, welcome

if TYPE_CHECKING:
    from sie_server.http.tracing import Traces

_LOG = logging.getLogger(__name__)
_KEEP_ALIVE_S = 120
# Time for status streams to close, whose clients may not read.
_CLOSE_S = 2
_MAX_MESSAGE_BYTES = 4096
# Interval after which Python threads release the GIL. The event loop may wait for it at each of its system calls;
# Python's default of 5 ms would add up beside a large body.
_SWITCH_S = 0.001


def run(settings: Settings, listener: socket.socket) -> int:
    """Serve until a signal arrives or the device fails.

    listener: a bound socket that listens. Returns the exit status: 0, 1 if a preload failed, 2 for invalid settings.
    Ends the process instead of returning if the device failed (70), or while a model is loading, which cannot be
    interrupted.
    """
    metrics = Metrics()
    status = 0

    def failed(error: SIEError) -> None:
        nonlocal status
        status = 1
        _LOG.error("%s", error.message)
        server.should_exit = True

    def ready() -> None:
        host, port = listener.getsockname()[:2]
        url = base_url(host, port)
        if settings.json_logs:
            _LOG.info("SIE is ready at %s", url)
            if sentence := reach(host, settings.keys):
                _LOG.info("%s", sentence)
            return
        slots = engine.residency.slots
        first = slots[settings.preload[0]] if settings.preload else next(iter(slots.values()), None)
        # More is known about a model once it is in memory.
        entry = None if first is None else first.entry if first.model is None else first.model.entry
        print(welcome(url, entry, host, settings.keys, settings.playground), file=sys.stderr, flush=True)

    drain = Drain()
    try:
        engine, app = application(
            settings, metrics, drain, on_ready=ready, on_failed=failed, on_lost=lambda: server.abandon()
        )
    except (ValueError, OSError, LoadError) as error:
        _LOG.error("%s", error)
        return 2

    limits = ConnectionLimits(settings.max_connections)
    server = DrainingServer(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,  # http/request_log.py logs requests
            log_level="debug" if settings.log_level == "debug" else "warning",
            timeout_keep_alive=_KEEP_ALIVE_S,
            # Clients of the status stream send nothing; compressing frames would cost the processor too much.
            ws=StatusConnection,
            ws_max_size=_MAX_MESSAGE_BYTES,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=_CLOSE_S,
            server_header=False,
            proxy_headers=False,  # clients could forge their address
            http=partial(Connection, settings.receive_timeout, limits, metrics),  # type: ignore[arg-type] # uvicorn calls it, and nothing else
        ),
        drain,
        settings.drain_s,
        settings.drain_notice_s,
        engine.residency.release,
    )
    shorten_pauses()
    server.run(sockets=[listener])
    if server.abandoned or any(
        not each.daemon for each in threading.enumerate() if each is not threading.main_thread()
    ):
        leave(server.abandoned or status)
    return status


def application(
    settings: Settings,
    metrics: Metrics,
    drain: Drain,
    *,
    on_ready: Callable[[], None],
    on_failed: Callable[[SIEError], None],
    on_lost: Callable[[], None],
) -> tuple[Engine, ASGIApp]:
    """The engine, and the ASGI application that starts and stops it.

    on_ready, on_failed: as `create_app` has them. on_lost: called on another thread when the device has failed.

    Raises:
        ValueError, OSError, LoadError: a setting does not fit this machine, or names a model that is not there.
    """
    traces = _traces() if settings.tracing else None
    named = (
        *(model.partition("=")[0] for model in settings.model),
        *settings.preload,
        *settings.pinned,
        settings.default_model,
        *settings.aliases.values(),
    )
    entries = with_models(offered(shipped(), settings.catalogue, named), settings.model, settings.prompt)
    _check_folders(entries[model_id] for model_id in settings.preload if model_id in entries)
    loader = load_verified if settings.verify else load
    engine = Engine(settings, entries, metrics, loader, fetch, on_lost)
    _check_known("--preload", settings.preload, engine)
    if not settings.models_dir:  # where these models may turn up later
        _check_known("--pinned", settings.pinned, engine)
        _check_known("--default-model", _base(filter(None, [settings.default_model]), engine), engine)
        _check_known("--alias", _base(settings.aliases.values(), engine), engine)
    app = create_app(settings, engine, metrics, on_ready=on_ready, on_failed=on_failed, traces=traces, drain=drain)
    return engine, app


def shorten_pauses() -> None:
    """Shorten the pauses of all threads of this process; called when everything is imported."""
    sys.setswitchinterval(_SWITCH_S)
    gc.freeze()  # imported objects stay: a collection that visits them stops all threads for 0.1 s


def _traces() -> "Traces":
    try:
        from sie_server.http.tracing import Traces, exporting
    except ModuleNotFoundError as error:
        packages = "opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
        checkout = "pip install ./packages/sie-sdk './packages/sie-server[tracing]' in the checkout"
        raise ValueError(f"--tracing needs {error.name}: pip install {packages}, or {checkout}") from None
    return Traces(exporting())


def _check_known(flag: str, model_ids: Iterable[str], engine: Engine) -> None:
    if unknown := [model_id for model_id in model_ids if model_id not in engine.residency.slots]:
        raise ValueError(f"{flag} {unknown[0]}: not in the catalogue; allow it with --model {unknown[0]}")


def _base(names: Iterable[str], engine: Engine) -> list[str]:
    """The ids of the models with these names, which may have profiles; unknown names stay as they are."""
    return [engine.residency.names.model_id(name) or name for name in names]


def _check_folders(entries: Iterable[Entry]) -> None:
    """Raises LoadError: a folder to preload contains no model.

    Folders that are only served report their faults later (`checkpoints/description.py`, `inspect`).
    """
    for entry in entries:
        if entry.folder is None:
            continue
        try:
            checkpoint = locate(entry)
        except LoadError as error:
            raise LoadError(error.kind, f"--model {entry.id}: {error}") from None
        if not checkpoint.has("config.json"):
            message = f"--model {entry.id}: {checkpoint.folder} has weights but no config.json"
            raise LoadError(LoadClass.CONFIG, message)
