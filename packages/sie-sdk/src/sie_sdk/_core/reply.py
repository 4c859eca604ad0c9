"""HTTP responses, and the errors that they carry."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from sie_sdk.errors import SIEError, error_class
from sie_sdk.types import RequestInfo

_UNITS = "x-sie-units-"
_EXCERPT_CHARS = 200
_VERSION = re.compile(r"/v1(/.*)?$", re.DOTALL)
_ITEM = re.compile(r"\bitems\[(\d{1,9})\]", re.ASCII)


@dataclass(frozen=True, slots=True)
class ErrorContext:
    """Details of a request that its errors mention.

    `base_url` and `route` make up its URL, `first_item` is the index of its first item in the caller's input.
    """

    base_url: str
    route: str
    model: str | None = None
    lora: str | None = None
    first_item: int = 0

    def with_input_index(self, text: Any) -> Any:
        """Returns a text of the server with the indices in `items[0]` counted as in the caller's input."""
        if not isinstance(text, str):
            return text
        return _ITEM.sub(lambda match: f"items[{int(match[1]) + self.first_item}]", text)

    def without_route(self, message: str) -> str:
        """Returns the message of an error 404 with the nearest URL at which a server may have the route."""
        # A base URL may hold a password, and this message ends up in logs.
        base = re.sub(r"//[^/]*@", "//", self.base_url)
        origin = "/".join(base.split("/", 3)[:3])
        if base == origin:
            return f"{message} ({base}{self.route}); check that {base} is the address of an SIE server"
        nearest = _VERSION.sub("", base) if _VERSION.search(base, len(origin)) else origin
        return f"{message} ({base}{self.route}); the nearest route is {nearest}{self.route}: try the base URL {nearest}"


@dataclass(frozen=True, slots=True)
class ServerMessage:
    """The `code`, `message` and further fields of an error body; `code` is None if there was none."""

    code: str | None
    message: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete response. `headers` has lower-case names or ignores case; `content` is decompressed."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def succeeded(self) -> bool:
        return 200 <= self.status < 300

    @property
    def excerpt(self) -> str:
        """The beginning of the body, as text on one line."""
        return " ".join(self.content[: 4 * _EXCERPT_CHARS].decode("utf-8", "replace").split())[:_EXCERPT_CHARS]

    def request_info(self) -> RequestInfo:
        """Returns the details of the request that the headers give; empty if there are none."""
        info = RequestInfo()
        if request_id := self.headers.get("x-sie-request-id"):
            info["id"] = request_id
        if revision := self.headers.get("x-sie-model-revision"):
            info["model_revision"] = revision
        if (credits_debited := _number(self.headers.get("x-sie-credits-debited"))) is not None:
            info["credits_debited"] = credits_debited
        units = {name[len(_UNITS) :]: _number(self.headers[name]) for name in self.headers if name.startswith(_UNITS)}
        if counted := {name: count for name, count in units.items() if count is not None}:
            info["units"] = counted
        return info

    def server_message(self) -> ServerMessage:
        """Reads `{"detail": {...}}` and `{"error": {...}}`, both also with plain strings, and pages of proxies."""
        try:
            body = msgspec.json.decode(self.content)
        except (ValueError, RecursionError, MemoryError):
            body = None
        body = body if isinstance(body, dict) else {}
        # A server that is shutting down sends a string under both, and a code beside them. An object says more.
        faults = [body[name] for name in ("detail", "error") if name in body]
        fault = next((fault for fault in faults if isinstance(fault, dict)), faults[0] if faults else None)
        if isinstance(fault, dict) and isinstance(fault.get("error"), dict):
            fault = fault["error"]
        fields = fault if isinstance(fault, dict) else {}
        message = fault if isinstance(fault, str) else fields.get("message")
        return ServerMessage(
            code=self.headers.get("x-sie-error-code") or _text(fields.get("code")) or _text(body.get("code")),
            message=_text(message) or self._fallback_message(),
            fields=fields,
        )

    def error(self, context: ErrorContext, *, retries: int, retry_after_s: float | None) -> SIEError:
        """Returns the exception for this response. `retries` counts the retries after the server ran out of memory."""
        fault = self.server_message()
        raised = error_class(self.status, fault.code)
        permanent, attempts = fault.fields.get("permanent"), fault.fields.get("attempts")
        known = {
            "error_class": _text(fault.fields.get("error_class")),
            "permanent": permanent if isinstance(permanent, bool) else None,
            "attempts": attempts if type(attempts) is int else None,
            "param": context.with_input_index(_text(fault.fields.get("param"))),
            "code": fault.code,
            "status_code": self.status,
            "request": self.request_info() or None,
            "retry_after": retry_after_s,
            "retries": retries,
            "model": context.model,
            "lora": context.lora,
        }
        message = context.with_input_index(fault.message)
        if self.lacks_route(fault):
            message = context.without_route(message)
        return raised(message, **{name: value for name, value in known.items() if hasattr(raised, name)})

    def lacks_route(self, fault: ServerMessage) -> bool:
        """Returns whether the server has nothing at the path of the request."""
        return self.status == 404 and fault.code in (None, "NOT_FOUND")

    def _fallback_message(self) -> str:
        if 300 <= self.status < 400:
            target = self.headers.get("location", "another address")
            return f"HTTP {self.status}: redirected to {target}; redirects are not followed, so check the base URL"
        return f"HTTP {self.status}: {self.excerpt}" if self.excerpt else f"HTTP {self.status} with an empty body"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: str | None) -> float | None:
    try:
        number = math.nan if value is None else float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
