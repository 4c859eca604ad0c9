"""Who a request is from: whom it shares the device with as one client."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address

from starlette.datastructures import Headers
from starlette.types import Scope

# Under this name a scope holds who its API key is.
KEY = "sie.key"
# Without API keys, names that one address goes by at once and has a share of the device for each.
MOST_NAMES = 8


class Clients:
    """The clients whose requests are being answered.

    Where there are API keys, a client is its key. Where there are none, it is an address and the bearer token that was
    sent, which nobody vouches for: so of one address, an IPv6 network of 64 bits say, only eight are told apart at
    once, and all others are one.
    """

    def __init__(self) -> None:
        self._present: dict[str, Counter[str]] = {}

    @contextmanager
    def present(self, scope: Scope) -> Iterator[str]:
        """Who this request is from, opaque, while it is answered."""
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


def owner(scope: Scope) -> str:
    """Who a connection counts for, opaque: an API key, or an address where there are none."""
    key: str | None = scope.get(KEY)
    return _address(scope) if key is None else key


def token(authorization: str) -> str:
    """The key in an `Authorization` header, however its scheme is spelled; any other is taken as it is."""
    scheme, _, key = authorization.strip().partition(" ")
    return key.strip() if scheme.lower() == "bearer" else authorization.strip()


def _digest(token: str) -> str:
    # The token itself must not go where it could be seen.
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
        # Whoever has one address of such a network has all of them.
        return str(address.ipv4_mapped or IPv6Address(int(address) >> 64 << 64))
    return str(address)
