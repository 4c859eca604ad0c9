"""An engine in the process of a command."""

import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sie_server.catalog.catalog import Entry, parse, shipped
from sie_server.checkpoints.files import checkpoint_files
from sie_server.checkpoints.source import fetch, on_this_machine
from sie_server.cli.rankers.ranker import RankerError, UnavailableError
from sie_server.engine.engine import Engine
from sie_server.errors import SIEError
from sie_server.metrics import Metrics
from sie_server.options import Precision
from sie_server.residency.address import ModelAddress
from sie_server.settings import Settings

_RESIDENCY = logging.getLogger("sie_server.residency.residency")
# A command waits for its model, and bounds by itself how much it has in the queue.
_LOAD_S = 3600.0
_UNLIMITED = 2**62


@asynccontextmanager
async def local_engine(entry: Entry, device: str, precision: Precision) -> AsyncIterator[Engine]:
    """An engine with one model, which its first use loads. Its threads have ended afterwards.

    Raises:
        ValueError: the device or the precision is not available here.
    """
    settings = Settings(
        device=device,
        precision=precision,
        load_wait=_LOAD_S,
        load_timeout=_LOAD_S,
        queue_tokens=_UNLIMITED,
        max_windows=_UNLIMITED,
        max_request_tokens=_UNLIMITED,
        max_rendered_bytes=_UNLIMITED,
    )
    engine = Engine(settings, {entry.id: entry}, Metrics(), fetch=fetch)
    engine.start()
    _RESIDENCY.addFilter(_is_news)
    try:
        yield engine
    finally:
        _RESIDENCY.removeFilter(_is_news)
        await engine.close()


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a record says more than the error that the command is given and prints, such as a traceback."""
    return record.levelno != logging.ERROR or bool(record.exc_info)


def local_entry(model: str) -> Entry:
    """The entry of a hub id, a folder, `NAME=FOLDER`, or a catalogue model with a profile, `ID:PROFILE`.

    Raises:
        ValueError: a folder or a profile does not exist.
    """
    known = shipped()
    name, _, profile = model.rpartition(":")
    if (entry := known.get(name)) is not None:
        if profile not in entry.every_profile:
            raise ValueError(f"profile '{profile}' not found; '{name}' has {', '.join(entry.every_profile)}")
        return entry
    return parse(model, known)


def local_address(engine: Engine, entry: Entry, model: str) -> ModelAddress:
    """The address in an engine of `local_engine` of the model that `local_entry` has read: with its profile, if any."""
    return engine.residency.names.resolve(model if model.startswith(f"{entry.id}:") else entry.id)


def engine_error(engine: Engine, error: SIEError) -> RankerError:
    """The error of a ranker or an encoder for one of a call to the engine."""
    if (trouble := engine.trouble) is not None:
        return UnavailableError(f"the engine has stopped: {trouble}")
    return RankerError(error.message)


def local_files(model: str) -> str:
    """A digest of the names, sizes and times of a model's files, as far as they are on this machine."""
    digest = hashlib.sha256()
    if (folder := on_this_machine(local_entry(model))) is not None:
        for name, status in checkpoint_files(folder):
            digest.update(f"{name} {status.st_size} {status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]
