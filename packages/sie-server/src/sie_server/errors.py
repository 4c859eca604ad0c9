"""Errors and what clients are told about them: the only table from error codes to HTTP statuses.

SIEError                 an error response: code, message, extras
LoadError                a model failed to load: class, message
└── UnsupportedModelError     and never will load: unknown architecture, pickled weights, broken config
"""

from collections.abc import Sequence as Items
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

# nginx's status for a client that closed the connection before it had its answer; not an error.
CLIENT_CLOSED_REQUEST = 499
# Characters of a message or extra, which may quote input of any length.
_MAX_CHARACTERS = 2000


class Code(StrEnum):
    INVALID_INPUT = "INVALID_INPUT"
    UNAUTHORIZED = "UNAUTHORIZED"
    UNPROCESSABLE = "UNPROCESSABLE"
    UNSUPPORTED_FIELD = "UNSUPPORTED_FIELD"
    NOT_FOUND = "NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    INPUT_TOO_LONG = "INPUT_TOO_LONG"
    BODY_TOO_LARGE = "BODY_TOO_LARGE"
    TOO_SLOW = "TOO_SLOW"
    BODY_ENCODED = "BODY_ENCODED"
    CONTENT_TYPE = "CONTENT_TYPE"
    HEAD_TOO_LARGE = "HEAD_TOO_LARGE"
    MODEL_LOAD_FAILED = "MODEL_LOAD_FAILED"
    MODEL_LOADING = "MODEL_LOADING"
    QUEUE_FULL = "QUEUE_FULL"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    GATEWAY_TIMEOUT = "GATEWAY_TIMEOUT"
    INFERENCE_ERROR = "INFERENCE_ERROR"
    INTERNAL_ERROR = "INTERNAL_ERROR"


@dataclass(frozen=True, slots=True)
class Answer:
    """HTTP status of a code, the code that clients see (`wire`), and seconds for the Retry-After header."""

    status: int
    wire: str
    retry_after: int | None = None


ANSWERS: dict[Code, Answer] = {
    Code.INVALID_INPUT: Answer(400, "INVALID_INPUT"),
    Code.UNAUTHORIZED: Answer(401, "UNAUTHORIZED"),
    # As FastAPI and OpenAI respond, on the routes compatible with theirs.
    Code.UNPROCESSABLE: Answer(422, "INVALID_INPUT"),
    Code.UNSUPPORTED_FIELD: Answer(400, "unsupported_field"),
    Code.NOT_FOUND: Answer(404, "NOT_FOUND"),
    Code.METHOD_NOT_ALLOWED: Answer(405, "METHOD_NOT_ALLOWED"),
    Code.MODEL_NOT_FOUND: Answer(404, "MODEL_NOT_FOUND"),
    Code.INPUT_TOO_LONG: Answer(400, "INPUT_TOO_LONG"),
    Code.BODY_TOO_LARGE: Answer(413, "INPUT_TOO_LONG"),
    Code.TOO_SLOW: Answer(408, "REQUEST_TIMEOUT"),
    Code.BODY_ENCODED: Answer(415, "INVALID_INPUT"),
    Code.CONTENT_TYPE: Answer(415, "INVALID_INPUT"),
    Code.HEAD_TOO_LARGE: Answer(431, "INPUT_TOO_LONG"),
    Code.MODEL_LOAD_FAILED: Answer(502, "MODEL_LOAD_FAILED"),
    Code.MODEL_LOADING: Answer(503, "MODEL_LOADING", retry_after=5),
    Code.QUEUE_FULL: Answer(503, "QUEUE_FULL", retry_after=1),
    Code.RESOURCE_EXHAUSTED: Answer(503, "RESOURCE_EXHAUSTED", retry_after=5),
    # A code that every client of SIE retries after Retry-After.
    Code.SHUTTING_DOWN: Answer(503, "QUEUE_UNAVAILABLE", retry_after=5),
    # Not QUEUE_FULL, which all clients retry: this one only clients that are configured to wait.
    Code.GATEWAY_TIMEOUT: Answer(504, "GATEWAY_TIMEOUT"),
    Code.INFERENCE_ERROR: Answer(500, "INFERENCE_ERROR"),
    Code.INTERNAL_ERROR: Answer(500, "INTERNAL_ERROR"),
}


class SIEError(Exception):
    """An error in answer to a request.

    `extras` are sent together with code and message; `retry_after` (seconds) overrides the table's. The middle of a
    text of more than 2,000 characters is left out.
    """

    def __init__(self, code: Code, message: str, *, retry_after: int | None = None, **extras: Any) -> None:
        self.message = _cut(message)
        super().__init__(self.message)
        self.code = code
        self.extras: dict[str, Any] = {
            name: _cut(value) if isinstance(value, str) else value for name, value in extras.items()
        }
        self.answer = ANSWERS[code]
        self.retry_after = self.answer.retry_after if retry_after is None else retry_after


class FieldError(SIEError):
    """An error in a field of a request, by the field's name in the native API until another API renames it."""

    def __init__(self, code: Code, field: str, fault: str, *, before: str = "Field") -> None:
        """field: e.g. "items[3].text". fault, before: the message around the name in quotation marks."""
        super().__init__(code, f"{before} '{field}' {fault}", param=field)
        self._parts = field, fault, before

    def renamed(self, items: str, indices: Items[int]) -> "FieldError":
        """The same error for an API whose list of texts is called `items`, such as "documents".

        indices: place in that list of each text of the call.
        """
        field, fault, before = self._parts
        name, bracket, index = field.removesuffix(".text").partition("[")
        if name == "items":
            place = f"[{indices[int(index.removesuffix(']'))]}]" if bracket else ""
            field = f"{items}{place}"
        return FieldError(self.code, field, fault, before=before)


class LoadClass(StrEnum):
    """Why a model did not load.

    DEPENDENCY: a Python module is missing. STORAGE: files are unreadable or truncated, or the disk is full.
    PLACEMENT: the weights could not be moved to the device. ENGINE: the loaded model fails to compute.
    """

    GATED = "GATED"
    NOT_FOUND = "NOT_FOUND"
    CONFIG = "CONFIG"
    DEPENDENCY = "DEPENDENCY"
    SCORES = "SCORES"
    NETWORK = "NETWORK"
    TIMEOUT = "TIMEOUT"
    STORAGE = "STORAGE"
    PLACEMENT = "PLACEMENT"
    ENGINE = "ENGINE"
    OOM = "OOM"
    UNKNOWN = "UNKNOWN"


# Seconds until a failed load is retried, doubled after each failure; other classes stay failed until the files in the
# models folder change or the server restarts.
COOLDOWN_S: dict[LoadClass, float] = {
    LoadClass.NETWORK: 30.0,
    LoadClass.TIMEOUT: 30.0,
    LoadClass.STORAGE: 30.0,
    LoadClass.PLACEMENT: 60.0,
    LoadClass.ENGINE: 60.0,
    LoadClass.OOM: 60.0,
    LoadClass.UNKNOWN: 600.0,
}


class LoadError(Exception):
    """A model failed to load; `kind` decides whether and when it is retried."""

    def __init__(self, kind: LoadClass, message: str) -> None:
        # The message goes to clients, and file names may not be valid Unicode.
        super().__init__(message.encode(errors="backslashreplace").decode())
        self.kind = kind

    @property
    def permanent(self) -> bool:
        return self.kind not in COOLDOWN_S


class UnsupportedModelError(LoadError):
    """The checkpoint is not supported. The message names what is supported, or a remedy."""

    def __init__(self, message: str) -> None:
        super().__init__(LoadClass.CONFIG, message)


def _cut(text: str) -> str:
    half = _MAX_CHARACTERS // 2
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:half]} … {text[-half:]}"


class CutOff(Exception):  # noqa: N818 # no error
    """A response had begun when the shutdown ended. Its connection is closed, so that the client notices."""
