"""API keys: checks the `Authorization` header of requests."""

import base64
import binascii
import hashlib
import hmac
import logging
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from sie_server.errors import Code, SIEError
from sie_server.http.error_responses import error_response, refuse
from sie_server.http.shutdown import READINESS

_LOG = logging.getLogger(__name__)
# Key in a request's scope: identity of its API key.
KEY = "sie.key"
# For orchestrators, which have no key; the responses say nothing about models or requests.
XINFERENCE_AUTH = ("/v1/cluster/auth", "/xinference/v1/cluster/auth")  # where its client asks whether to send a key
PROBES = frozenset({"/healthz", "/livez", *READINESS, *XINFERENCE_AUTH})
# Headers with a key: that of HTTP, and those of Azure, Pinecone and others.
_HEADERS = ("authorization", "api-key", "x-api-key")
# A browser sends no header of its own with a WebSocket. Its key is a subprotocol: this, and the key in base64url.
_KEY_PROTOCOL = "sie.key."
_FileStamp = tuple[int, int, int]


class ApiKeys:
    """The keys of the settings and of a file, which is read again when it changes. Without either, no key is needed.

    Only digests of keys are kept, under a secret of this process: they have equal lengths, so that a comparison takes
    the same time whatever was sent.
    """

    def __init__(self, given: Sequence[str], file: Path | None) -> None:
        """Raises ValueError, whose message contains no key: one is malformed, or the file is unreadable or empty."""
        self._secret = secrets.token_bytes(32)
        self._given = [self._digest(_checked(key, f"--api-keys, key {n}")) for n, key in enumerate(given, 1)]
        self._file = file
        self._stamp: _FileStamp | None = None
        self._listed: list[bytes] = []
        if file is not None:
            self._stamp = _stamp_of(file)
            self._listed = self._read(file)

    @property
    def configured(self) -> bool:
        """Whether requests need a key."""
        return bool(self._given) or self._file is not None

    def refusal(self, scope: Scope) -> SIEError | None:
        """The error of a request without a valid key, else None. Stores the key's identity in its scope."""
        if not self.configured or scope["path"] in PROBES:
            return None
        sent = Headers(scope=scope)
        found = [(name, value) for name in _HEADERS for value in sent.getlist(name)]
        found += [("protocol", key) for key in _protocol_keys(scope)]
        if not found:
            return SIEError(Code.UNAUTHORIZED, "missing API key: send it as 'Authorization: Bearer KEY'")
        keys = [_sent(value) if name == "authorization" else value.strip() for name, value in found]
        # One header of each name at most: which of two would count?
        if len({name for name, _ in found}) == len(found):
            for key in filter(None, keys):
                if (digest := self._known(key)) is not None:
                    scope[KEY] = digest.hex()[:16]
                    return None
        return SIEError(Code.UNAUTHORIZED, "invalid API key")

    def _known(self, key: str) -> bytes | None:
        """The digest of a valid key."""
        self._refresh()
        digest = self._digest(key)
        # All are compared, so that the time does not reveal which one matched.
        found = sum([hmac.compare_digest(digest, known) for known in (*self._given, *self._listed)]) > 0
        return digest if found else None

    def _refresh(self) -> None:
        if self._file is None:
            return
        stamp = _stamp_of(self._file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._listed = self._read(self._file)
        except ValueError as error:
            self._listed = []
            _LOG.error("%s; none of its keys is accepted until this is fixed", error)
        else:
            _LOG.info("%s: %d API keys", self._file, len(self._listed))

    def _read(self, file: Path) -> list[bytes]:
        try:
            lines = file.read_text("utf-8").splitlines()
        except OSError as error:
            raise ValueError(f"--api-keys-file {file} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError(f"--api-keys-file {file} is not UTF-8") from None
        keys = _keys(lines, file)
        if not keys:
            raise ValueError(f"--api-keys-file {file} contains no key")
        return [self._digest(key) for key in keys]

    def _digest(self, key: str) -> bytes:
        return hashlib.blake2b(key.encode(), key=self._secret, digest_size=32).digest()


class ApiKeyMiddleware:
    """Refuses HTTP and WebSocket requests without a valid API key.

    is_public: whether a request needs none.
    """

    def __init__(self, app: ASGIApp, keys: ApiKeys, is_public: Callable[[Scope], bool]) -> None:
        self._app = app
        self._keys = keys
        self._is_public = is_public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        free = scope["type"] == "lifespan" or self._is_public(scope)
        error = None if free else self._keys.refusal(scope)
        if error is None:
            await self._app(scope, receive, send)
            return
        response = error_response(scope["path"], error)
        response.headers["WWW-Authenticate"] = 'Bearer realm="sie"'
        await refuse(response, scope, receive, send)


def _sent(authorization: str) -> str:
    """The key in an `Authorization` header, as a bearer token or bare."""
    scheme, _, key = authorization.strip().partition(" ")
    return key.strip() if scheme.lower() == "bearer" else scheme if not key else ""


def _protocol_keys(scope: Scope) -> list[str]:
    """The keys among the subprotocols of a WebSocket; one that is not base64url is empty, which no key is."""
    offered = [name for name in scope.get("subprotocols", ()) if name.startswith(_KEY_PROTOCOL)]
    keys = []
    for name in offered:
        encoded = name.removeprefix(_KEY_PROTOCOL)
        try:
            keys.append(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode())
        except (binascii.Error, UnicodeDecodeError):
            keys.append("")
    return keys


def _keys(lines: Iterable[str], file: Path) -> list[str]:
    uncommented = ((n, line.partition("#")[0].strip()) for n, line in enumerate(lines, 1))
    return [_checked(key, f"--api-keys-file {file}, line {n}") for n, key in uncommented if key]


def _checked(key: str, place: str) -> str:
    if not key:
        raise ValueError(f"{place} is empty")
    if not key.isascii() or not key.isprintable() or " " in key or "#" in key:
        raise ValueError(f"{place}: a key must consist of printable ASCII characters without spaces and '#'")
    return key


def _stamp_of(file: Path) -> _FileStamp | None:
    """Identity and state of a file; None if there is none."""
    try:
        stat = os.stat(file)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
