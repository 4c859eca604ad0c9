"""One server process: logging, engine, HTTP, and what it says when it is ready."""

import logging
import socket
import sys
import threading

import uvicorn

from sie_server.draining import DrainingServer, leave
from sie_server.engine.engine import Engine
from sie_server.errors import SIEError
from sie_server.http.app import create_app
from sie_server.http.drain import Drain
from sie_server.metrics import Metrics
from sie_server.models.catalog import shipped, with_models
from sie_server.models.load import load
from sie_server.models.verify import load_verified
from sie_server.settings import Settings

_LOG = logging.getLogger(__name__)
_KEEP_ALIVE_S = 120
# For what is not a request to end: watchers of the status.
_CLOSE_S = 5
_MAX_SAID_BYTES = 4096


def run(settings: Settings) -> int:
    """Serve until a signal, or until the device can't be worked with any more.

    Returns the exit status: 0, 1 when a preload failed, 2 for settings that can't be used. Does not return, but ends
    the process, where the device was lost (70) or a load is under way, which nothing can interrupt.
    """
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s")
    metrics = Metrics()
    try:
        entries = with_models(shipped(), settings.model)
        if unknown := [model_id for model_id in settings.preload if model_id not in entries]:
            raise ValueError(f"--preload {unknown[0]}: not in the catalogue; allow it with --model {unknown[0]}")
        loader = load_verified if settings.verify else load
        engine = Engine(settings, entries, metrics, loader, lambda: server.abandon())
        listener = _listen(settings.host, settings.port)
    except (ValueError, OSError) as error:
        _LOG.error("%s", error)
        return 2

    status = 0

    def failed(error: SIEError) -> None:
        nonlocal status
        status = 1
        _LOG.error("%s", error.message)
        server.should_exit = True

    def ready() -> None:
        host, port = listener.getsockname()[:2]
        url = f"http://{'localhost' if host in ('0.0.0.0', '::') else host}:{port}"
        model_id = settings.preload[0] if settings.preload else next(iter(entries))
        print(_WELCOME.format(url=url, model=model_id), file=sys.stderr, flush=True)

    drain = Drain()
    app = create_app(settings, engine, metrics, on_ready=ready, on_failed=failed, drain=drain)
    server = DrainingServer(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=settings.log_level == "debug",
            log_level="debug" if settings.log_level == "debug" else "warning",
            timeout_keep_alive=_KEEP_ALIVE_S,
            # Clients of the status stream have nothing to say, and the processor has better to do than to pack it.
            ws="wsproto",
            ws_max_size=_MAX_SAID_BYTES,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=_CLOSE_S,
            server_header=False,
        ),
        drain,
        settings.drain_s,
        engine.release,
    )
    server.run(sockets=[listener])
    if server.abandoned or any(
        not each.daemon for each in threading.enumerate() if each is not threading.main_thread()
    ):
        leave(server.abandoned or status)
    return status


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket, taken before anything is loaded, so that a port in use is known at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise OSError(f"can't listen on {host}:{port}: {error.strerror}") from None
    return listener


_WELCOME = """
SIE is ready at {url}

  curl {url}/v1/score/{model} \\
    -H 'Content-Type: application/json' -H 'Accept: application/json' \\
    -d '{{"query": {{"text": "What is Python?"}},
         "items": [{{"text": "Python is a programming language."}}, {{"text": "Snakes are reptiles."}}]}}'
"""
