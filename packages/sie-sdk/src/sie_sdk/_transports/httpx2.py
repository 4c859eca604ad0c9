"""All that the SDK knows of its HTTP library.

The clients import this module when they are made, not when the package is: httpx2 costs more than the rest together.
"""

import ssl
import time
from typing import Any

import httpcore2
import httpx2

from sie_sdk._core.exchange import KEEPALIVE_S, Attempt, Failure
from sie_sdk._core.reply import Reply
from sie_sdk._transports.response_body import ENCODINGS, Content, UnreadableError

READ_BYTES = 2**16

TransportError = httpx2.RequestError
StreamSilentError = httpcore2.TimeoutException
StreamError = httpcore2.NetworkError


def limits(max_connections: int) -> httpx2.Limits:
    return httpx2.Limits(
        max_connections=max_connections, max_keepalive_connections=max_connections, keepalive_expiry=KEEPALIVE_S
    )


def arguments(attempt: Attempt) -> dict[str, Any]:
    """The arguments of `httpx2.Client.request`, or `AsyncClient.request`, for one attempt."""
    return {
        "method": attempt.method,
        "url": attempt.url,
        "headers": {**attempt.headers, "accept-encoding": ENCODINGS},
        "content": attempt.body,
        "timeout": httpx2.Timeout(
            connect=attempt.connect_timeout_s,
            read=attempt.read_timeout_s,
            write=attempt.read_timeout_s,
            pool=attempt.pool_timeout_s,
        ),
        "follow_redirects": False,
    }


def switched(response: httpx2.Response) -> Reply | None:
    """The reply that switches protocols, after which there is no body; None for any other."""
    if response.status_code != httpx2.codes.SWITCHING_PROTOCOLS:
        return None
    return Reply(response.status_code, response.headers, b"")


def connection(response: httpx2.Response) -> Any:
    """That of a response that switched protocols: an `httpcore2.NetworkStream` or `AsyncNetworkStream`."""
    return response.extensions.get("network_stream")


def read(response: httpx2.Response, total_s: float, since: float) -> Reply | Failure:
    """The reply that `response` still has to bring, within so many seconds since that monotonic time."""
    if response.is_stream_consumed:  # a transport of the caller's has read it
        return Reply(response.status_code, response.headers, response.content)
    content = _content(response)
    try:
        for chunk in response.iter_raw():
            # httpx2 has a timeout for each read, so that a few bytes now and then would keep a call waiting for ever.
            if time.monotonic() - since > total_s:
                raise httpx2.ReadTimeout("the answer is not complete")
            if not content.add(chunk):
                break
        return Reply(response.status_code, response.headers, content.whole())
    except UnreadableError as error:
        return Failure("other", error)


async def read_async(response: httpx2.Response) -> Reply | Failure:
    """As `read`, by the asyncio side, where the caller bounds the time."""
    if response.is_stream_consumed:
        return Reply(response.status_code, response.headers, response.content)
    content = _content(response)
    try:
        async for chunk in response.aiter_raw():
            if not content.add(chunk):
                break
        return Reply(response.status_code, response.headers, content.whole())
    except UnreadableError as error:
        return Failure("other", error)


def _content(response: httpx2.Response) -> Content:
    return Content(response.status_code, response.headers.get("content-encoding"))


def failure(error: httpx2.RequestError) -> Failure:
    """Which kind of failure a transport error is: only those that another attempt may cure are `connect`."""
    match error:
        case httpx2.ConnectTimeout():
            return Failure("connect", error)
        case httpx2.TimeoutException():
            return Failure("timeout", error)
        case httpx2.NetworkError() | httpx2.RemoteProtocolError() | httpx2.ProxyError():
            return Failure("other" if _untrusted(error) else "connect", error)
    return Failure("other", error)


def _untrusted(error: BaseException | None) -> bool:
    """Whether a certificate was refused: it will be refused again."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
