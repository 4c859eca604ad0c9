"""The transport of the asyncio client, over aiohttp.

httpx2 has an asyncio client too, but it takes several times the processor time per request, more so with many
connections (`benchmarks/sdk.py`), and an event loop has only one thread.
"""

import asyncio
import io
import math
import ssl
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from sie_sdk._core.exchange import KEEPALIVE_S, Attempt, Failure
from sie_sdk._core.reply import Reply
from sie_sdk._transports.response_body import ENCODINGS, ResponseBody, UnreadableError

# A longer body is passed as a file, which aiohttp writes in pieces; it warns about one passed as bytes.
_PIECEWISE_BYTES = 2**20


class _LoopState(NamedTuple):
    """The connections of one event loop. `slots` limits them here: aiohttp counts the wait for one as connecting."""

    loop: asyncio.AbstractEventLoop
    session: aiohttp.ClientSession
    slots: asyncio.Semaphore


class Connections:
    """At most `max_connections` connections, kept open, through the proxy that the environment names for the server.

    Each event loop of a program has connections of its own.
    """

    def __init__(self, base_url: str, max_connections: int) -> None:
        url, proxies = urlsplit(base_url), getproxies()
        self._tls = url.scheme == "https"
        self._proxy = None if proxy_bypass(url.hostname or "") else proxies.get(url.scheme) or proxies.get("all")
        self._has_password = "@" in url.netloc
        self._max_connections = max_connections
        self._state: _LoopState | None = None
        self._closed = False

    async def send(self, attempt: Attempt) -> Reply | Failure:
        _, session, slots = self._open()
        try:
            async with asyncio.timeout(attempt.pool_timeout_s if slots.locked() else None):
                await slots.acquire()
        except TimeoutError as error:
            return Failure("timeout", error)
        try:
            async with session.request(
                attempt.method,
                attempt.url,
                headers=self._headers(attempt),
                data=_data(attempt.body),
                timeout=aiohttp.ClientTimeout(
                    total=attempt.total_s if attempt.total_s < math.inf else None,
                    connect=attempt.connect_timeout_s,
                    sock_read=attempt.read_timeout_s,
                ),
                allow_redirects=False,
            ) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                body = ResponseBody(response.status, headers.get("content-encoding"))
                async for chunk in response.content.iter_any():
                    if not body.add(chunk):
                        response.close()
                        break
                return Reply(response.status, headers, body.finish())
        except UnreadableError as error:
            return Failure("other", error)
        except (aiohttp.ClientError, TimeoutError) as error:
            return _failure(error)
        finally:
            slots.release()

    async def close(self) -> None:
        self._closed = True
        if self._state is not None and self._state.loop is asyncio.get_running_loop():
            await self._state.session.close()

    def _open(self) -> _LoopState:
        loop = asyncio.get_running_loop()
        if self._closed:
            raise RuntimeError("the client is closed")
        if self._state is None or self._state.loop is not loop:
            if self._state is not None and self._state.loop.is_closed():
                self._state.session.detach()
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S, ssl=self._trusted())
            session = aiohttp.ClientSession(connector=connector, proxy=self._proxy, auto_decompress=False)
            self._state = _LoopState(loop, session, asyncio.Semaphore(self._max_connections))
        return self._state

    def _trusted(self) -> ssl.SSLContext | bool:
        """Returns the same certificates that the blocking client trusts."""
        if not self._tls:
            return True
        import httpx2

        return httpx2.create_ssl_context()

    def _headers(self, attempt: Attempt) -> dict[str, str]:
        # A user and password in the URL win over a key, as in the blocking client; aiohttp refuses both together.
        headers = {k: v for k, v in attempt.headers.items() if not (self._has_password and k == "authorization")}
        return {**headers, "accept-encoding": ENCODINGS}


def _data(body: bytes | None) -> bytes | io.BytesIO | None:
    return io.BytesIO(body) if body is not None and len(body) > _PIECEWISE_BYTES else body


def _failure(error: aiohttp.ClientError | TimeoutError) -> Failure:
    """Classifies an error; only one that another attempt may cure is `connect`."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            return Failure("connect", error)
        case TimeoutError():
            return Failure("timeout", error)
        case aiohttp.ClientConnectorCertificateError() | aiohttp.InvalidURL():
            return Failure("other", error)
    return Failure("connect", error)
