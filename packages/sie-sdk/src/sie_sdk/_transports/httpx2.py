"""The transport of the blocking client, over httpx2.

The clients import this module when they are constructed, not with the package: httpx2 takes longer to import than
everything else together.
"""

import ssl
import time
from typing import Any

import httpcore2
import httpx2

from sie_sdk._core.exchange import KEEPALIVE_S, Attempt, Failure
from sie_sdk._core.reply import Reply
from sie_sdk._transports.response_body import ENCODINGS, ResponseBody, UnreadableError

READ_BYTES = 2**16

TransportError = httpx2.RequestError
StreamSilentError = httpcore2.TimeoutException
StreamError = httpcore2.NetworkError


def limits(max_connections: int) -> httpx2.Limits:
    return httpx2.Limits(
        max_connections=max_connections, max_keepalive_connections=max_connections, keepalive_expiry=KEEPALIVE_S
    )


def arguments(attempt: Attempt) -> dict[str, Any]:
    """Returns the arguments of `httpx2.Client.stream`, or `AsyncClient.stream`, for one attempt."""
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
    """Returns the reply if the response switches protocols and so has no body, else None."""
    if response.status_code != httpx2.codes.SWITCHING_PROTOCOLS:
        return None
    return Reply(response.status_code, response.headers, b"")


def connection(response: httpx2.Response) -> Any:
    """Returns the `httpcore2.NetworkStream`, or `AsyncNetworkStream`, of a response that switched protocols."""
    return response.extensions.get("network_stream")


def read(response: httpx2.Response, total_s: float, since: float) -> Reply | Failure:
    """Reads the body of a response, until `total_s` seconds after the monotonic time `since`."""
    if response.is_stream_consumed:  # by a transport of the caller's
        return Reply(response.status_code, response.headers, response.content)
    body = _body(response)
    try:
        for chunk in response.iter_raw():
            # httpx2 limits each read, so a few bytes now and then would keep a call waiting forever.
            if time.monotonic() - since > total_s:
                raise httpx2.ReadTimeout("the response is incomplete")
            if not body.add(chunk):
                break
        return Reply(response.status_code, response.headers, body.finish())
    except UnreadableError as error:
        return Failure("other", error)


async def read_async(response: httpx2.Response) -> Reply | Failure:
    """Reads the body of a response; the caller limits the time."""
    if response.is_stream_consumed:
        return Reply(response.status_code, response.headers, response.content)
    body = _body(response)
    try:
        async for chunk in response.aiter_raw():
            if not body.add(chunk):
                break
        return Reply(response.status_code, response.headers, body.finish())
    except UnreadableError as error:
        return Failure("other", error)


def _body(response: httpx2.Response) -> ResponseBody:
    return ResponseBody(response.status_code, response.headers.get("content-encoding"))


def failure(error: httpx2.RequestError) -> Failure:
    """Classifies a transport error; only one that another attempt may cure is `connect`."""
    match error:
        case httpx2.ConnectTimeout():
            return Failure("connect", error)
        case httpx2.TimeoutException():
            return Failure("timeout", error)
        case httpx2.NetworkError() | httpx2.RemoteProtocolError() | httpx2.ProxyError():
            return Failure("other" if _untrusted(error) else "connect", error)
    return Failure("other", error)


def _untrusted(error: BaseException | None) -> bool:
    """Returns whether a certificate was rejected, as it would be again."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
