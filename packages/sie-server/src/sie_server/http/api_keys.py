"""API keys: who may call the server."""

import hashlib
import hmac
import logging
import os
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from sie_server.errors import Code, SIEError
from sie_server.http.client_identity import KEY, owner
from sie_server.http.connection_limits import ADMITTED
from sie_server.http.error_responses import error_response

_LOG = logging.getLogger(__name__)
# What an orchestrator asks, which has no key, and whose answers say nothing of models or requests.
PROBES = frozenset({"/healthz", "/readyz", "/livez"})
_Seen = tuple[int, int, int]


class ApiKeys:
    """The keys of the settings, and those of a file as it is now. Without either, whoever comes is let in.

    What is kept of a key is its digest under a secret of this process, so that all have the same length and a
    comparison takes the same time whatever was sent.
    """

    def __init__(self, given: Sequence[str], file: Path | None) -> None:
        """Raises ValueError, with no key in its message: one can't be used, or the file can't be read or has none."""
        self._secret = secrets.token_bytes(32)
        self._given = [self._digest(_checked(key, f"--api-keys, key {n}")) for n, key in enumerate(given, 1)]
        self._file = file
        self._seen: _Seen | None = None
        self._listed: list[bytes] = []
        if file is not None:
            self._seen = _version(file)
            self._listed = self._read(file)

    @property
    def configured(self) -> bool:
        """Whether a key is needed at all."""
        return bool(self._given) or self._file is not None

    def refusal(self, scope: Scope) -> SIEError | None:
        """Why this request is not let in, if it is not. Its scope is told whose key it has, where one is needed."""
        if not self.configured or scope["path"] in PROBES:
            return None
        sent = Headers(scope=scope).getlist("authorization")
        if not sent:
            return SIEError(Code.UNAUTHORIZED, "an API key is needed: send it as 'Authorization: Bearer KEY'")
        scheme, _, key = sent[0].partition(" ")
        if len(sent) == 1 and scheme.lower() == "bearer" and (digest := self._known(key.strip())) is not None:
            scope[KEY] = digest.hex()[:16]
            return None
        return SIEError(Code.UNAUTHORIZED, "invalid API key")

    def _known(self, key: str) -> bytes | None:
        """Its digest, if it is a key of this server."""
        self._refresh()
        digest = self._digest(key)
        # Each is compared, so that the time says nothing of which one it was.
        found = sum([hmac.compare_digest(digest, known) for known in (*self._given, *self._listed)]) > 0
        return digest if found else None

    def _refresh(self) -> None:
        if self._file is None:
            return
        seen = _version(self._file)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._listed = self._read(self._file)
        except ValueError as error:
            self._listed = []
            _LOG.error("%s; no key of it is accepted until that is mended", error)
        else:
            _LOG.info("%s: %d API keys", self._file, len(self._listed))

    def _read(self, file: Path) -> list[bytes]:
        try:
            lines = file.read_text("utf-8").splitlines()
        except OSError as error:
            raise ValueError(f"--api-keys-file {file} can't be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError(f"--api-keys-file {file} is not UTF-8") from None
        keys = _keys(lines, file)
        if not keys:
            raise ValueError(f"--api-keys-file {file} contains no key")
        return [self._digest(key) for key in keys]

    def _digest(self, key: str) -> bytes:
        return hashlib.blake2b(key.encode(), key=self._secret, digest_size=32).digest()


class ApiKeyMiddleware:
    """Lets those in that have a key, over HTTP and WebSocket."""

    def __init__(self, app: ASGIApp, keys: ApiKeys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = None if scope["type"] == "lifespan" else self._keys.refusal(scope)
        if error is None and (admitted := scope.get(ADMITTED)) is not None and scope["path"] not in PROBES:
            error = admitted(owner(scope))
        if error is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await WebSocket(scope, receive, send).send_denial_response(_refused(scope, error))
        else:
            await _refused(scope, error)(scope, receive, send)


def _refused(scope: Scope, error: SIEError) -> Response:
    response = error_response(scope["path"], error)
    if error.code is Code.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = 'Bearer realm="sie"'
    else:
        response.headers["Connection"] = "close"
    return response


def _keys(lines: Iterable[str], file: Path) -> list[str]:
    uncommented = ((n, line.partition("#")[0].strip()) for n, line in enumerate(lines, 1))
    return [_checked(key, f"--api-keys-file {file}, line {n}") for n, key in uncommented if key]


def _checked(key: str, place: str) -> str:
    if not key:
        raise ValueError(f"{place} is empty")
    if not key.isascii() or not key.isprintable() or " " in key or "#" in key:
        raise ValueError(f"{place}: a key has letters, digits and signs of ASCII other than #, and no space")
    return key


def _version(file: Path) -> _Seen | None:
    """Which file that is, and in which state; None where there is none."""
    try:
        stat = os.stat(file)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
