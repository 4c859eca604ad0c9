"""Identity of the client of a request, for fair sharing of the device and of connections."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from sie_server.http.api_keys import KEY, PROBES
from sie_server.http.connection_limits import ADMITTED
from sie_server.http.error_responses import error_response, refuse
from sie_server.request_context import current_request

# Without API keys: bearer tokens of one address that count as clients of their own at the same time.
MOST_NAMES = 8


class Clients:
    """The clients whose requests are being answered.

    With API keys, a client is its key. Without, it is its address and the bearer token it sent. Tokens are not checked
    then, so at most eight per address (IPv6: per /64 network) count as separate clients at a time; the rest share one.
    """

    def __init__(self) -> None:
        self._present: dict[str, Counter[str]] = {}

    @contextmanager
    def present(self, scope: Scope) -> Iterator[str]:
        """The opaque identity of the client while its request is answered."""
        if (key := scope.get(KEY)) is not None:
            yield key
            return
        address, name = _address(scope), _digest(token(Headers(scope=scope).get("authorization", "")))
        names = self._present.setdefault(address, Counter())
        if name not in names and len(names) >= MOST_NAMES:
            name = ""
        names[name] += 1
        try:
            yield f"{address} {name}"
        finally:
            names[name] -= 1
            if not names[name]:
                del names[name]
            if not names:
                self._present.pop(address, None)


class ClientMiddleware:
    """Tells each request the identity of its client, and refuses one whose client has too many connections."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._clients = Clients()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (admitted := scope.get(ADMITTED)) is not None and scope["path"] not in PROBES:
            error = admitted(owner(scope))
            if error is not None:
                response = error_response(scope["path"], error)
                response.headers["Connection"] = "close"
                await refuse(response, scope, receive, send)
                return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._clients.present(scope) as current_request().client:
            await self._app(scope, receive, send)


def owner(scope: Scope) -> str:
    """The opaque identity that a connection counts for: its API key, or its address without API keys."""
    key: str | None = scope.get(KEY)
    return _address(scope) if key is None else key


def token(authorization: str) -> str:
    """The key in an `Authorization` header, however its scheme is spelled; other headers are returned whole."""
    scheme, _, key = authorization.strip().partition(" ")
    return key.strip() if scheme.lower() == "bearer" else authorization.strip()


def _digest(token: str) -> str:
    # Identities may be logged; tokens must not be.
    return hashlib.sha256(token.encode()).hexdigest()[:16] if token else "-"


def _address(scope: Scope) -> str:
    client = scope.get("client")
    if client is None:
        return ""
    if ":" not in client[0]:
        return str(client[0])
    try:
        address = ip_address(client[0].partition("%")[0])
    except ValueError:
        return str(client[0])
    if isinstance(address, IPv6Address):
        # A client with one address of a /64 network usually has all of them.
        return str(address.ipv4_mapped or IPv6Address(int(address) >> 64 << 64))
    return str(address)
