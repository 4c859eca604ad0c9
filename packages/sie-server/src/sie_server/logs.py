"""What the server writes to its standard error: one line per event, as text or as JSON.

A line that belongs to a request has its id. No line has a text of a request: what is logged of one are its route,
model, sizes and times. What comes from outside (a header, a message of a checkpoint) can't make a line of its own, as
control characters are escaped.
"""

import logging
import re
import time
from typing import Any

import msgspec

from sie_server.errors import CutOff
from sie_server.request_context import CURRENT

# What a line may say beside its message, by `extra=`.
FIELDS = ("request_id", "model", "route", "status", "ms", "tokens", "code")
# uvicorn's warning of what is no HTTP.
_INVALID = "Invalid HTTP request received."
# C0, DEL, C1, and what Unicode ends lines with.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def configure(level: str, *, as_json: bool) -> None:
    """Send the log of the whole process, uvicorn's and Python's warnings included, to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if as_json else Lines())
    handler.addFilter(_with_request_id)
    logging.getLogger("uvicorn.error").addFilter(_worth_a_line)
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.captureWarnings(True)


class Lines(logging.Formatter):
    """`time LEVEL message`, and what else there is behind it. Only a traceback has lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 # logging's name
        # The route is in the message.
        fields = [f"{name}={value}" for name, value in _fields(record).items() if name != "route"]
        return _CONTROL.sub(_escaped, " ".join([super().formatMessage(record), *fields]))


class JsonLines(logging.Formatter):
    """One JSON object per line: time (RFC 3339, UTC), level, logger, message, of `FIELDS` what there is, exception."""

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
        # What is no control character to JSON may end a line elsewhere.
        return _CONTROL.sub(lambda control: f"\\u{ord(control[0]):04x}", msgspec.json.encode(line).decode())


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: record.__dict__[name] for name in FIELDS if record.__dict__.get(name) is not None}


def _worth_a_line(record: logging.LogRecord) -> bool:
    """Leaves one line of an answer that was cut off, and none of what anybody can send, which a metric counts."""
    if record.msg == _INVALID:
        return logging.getLogger().isEnabledFor(logging.DEBUG)
    if record.exc_info is not None and isinstance(record.exc_info[1], CutOff):
        record.msg, record.exc_info = "a response was cut off: the server shut down before it was finished", None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True


def _with_request_id(record: logging.LogRecord) -> bool:
    # Before the record leaves its thread; a device thread, which serves many requests, names one itself.
    if (context := CURRENT.get()) is not None:
        record.__dict__.setdefault("request_id", context.request_id)
    return True


def _escaped(control: "re.Match[str]") -> str:
    return control[0].encode("unicode_escape").decode()
