"""Logging to standard error: one line per event, as text or JSON.

Lines of a request contain its id, and never its texts: only route, model, sizes and times are logged. Control
characters are escaped, so that input (a header, a message from a checkpoint) cannot forge lines.
"""

import logging
import re
import time
from typing import Any

import msgspec

from sie_server.errors import CutOff
from sie_server.request_context import CURRENT

# Fields of a line beside its message, passed by `extra=`.
FIELDS = ("request_id", "model", "route", "status", "ms", "tokens", "code")
# uvicorn's warning about input that is not HTTP.
_INVALID = "Invalid HTTP request received."
# C0, DEL, C1, and Unicode's line separators.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def configure(level: str, *, as_json: bool) -> None:
    """Log the whole process, including uvicorn and Python warnings, to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if as_json else Lines())
    handler.addFilter(_with_request_id)
    logging.getLogger("uvicorn.error").addFilter(_keep)
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.captureWarnings(True)


class Lines(logging.Formatter):
    """`time LEVEL message` and fields as `name=value`. Only tracebacks span lines."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 # logging's name
        # The route is in the message.
        fields = [f"{name}={value}" for name, value in _fields(record).items() if name != "route"]
        return _CONTROL.sub(_escaped, " ".join([super().formatMessage(record), *fields]))


class JsonLines(logging.Formatter):
    """One JSON object per line: time (RFC 3339, UTC), level, logger, message, `FIELDS` that are set, exception."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # JSON leaves some characters that end a line unescaped.
        return _CONTROL.sub(lambda control: f"\\u{ord(control[0]):04x}", msgspec.json.encode(line).decode())


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: record.__dict__[name] for name in FIELDS if record.__dict__.get(name) is not None}


def _keep(record: logging.LogRecord) -> bool:
    """Drop warnings that any client can cause, which a metric counts, and the traceback of a cut-off response."""
    if record.msg == _INVALID:
        return logging.getLogger().isEnabledFor(logging.DEBUG)
    if record.exc_info is not None and isinstance(record.exc_info[1], CutOff):
        record.msg, record.exc_info = "a response was cut off: the server shut down before it was finished", None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True


def _with_request_id(record: logging.LogRecord) -> bool:
    # Added in the thread that logs. A device thread, which serves many requests, sets the id itself.
    if (context := CURRENT.get()) is not None:
        record.__dict__.setdefault("request_id", context.request_id)
    return True


def _escaped(control: "re.Match[str]") -> str:
    return control[0].encode("unicode_escape").decode()
