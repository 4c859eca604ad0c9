"""Exceptions of the SDK.

* SIEError
  x SIEConnectionError                  no complete response: refused, reset, timed out
  x RequestError                        4xx, or a response that can't be parsed
    + InputTooLongError                 INPUT_TOO_LONG
    + RateLimitError                    429
    + InsufficientCreditsError          INSUFFICIENT_CREDITS
    + SpendLimitError                   SPEND_LIMIT_EXCEEDED
    + AccountInactiveError              ACCOUNT_SUSPENDED
    + RelayUnavailableError             RELAY_UNAVAILABLE
  x ServerError                         5xx
    + ModelLoadFailedError              MODEL_LOAD_FAILED
    + ResourceExhaustedError            RESOURCE_EXHAUSTED, after the last retry
    + IncompleteBatchError              not one result per item of the request
    + EstimateUnroutableError           ESTIMATE_UNROUTABLE
    + AccountStateUnavailableError      ACCOUNT_STATE_UNAVAILABLE
  x ProvisioningError                   PROVISIONING, after the time limit
  x ModelLoadingError                   MODEL_LOADING, after the time limit
  x LoraLoadingError                    LORA_LOADING, after the last retry
  x PoolError                           not raised; kept for programs that catch it
  x JobFailedError                      a batch job failed

IgnoredOptionWarning is a UserWarning: the server does not know an option, and ignored it.

>>> from sie_sdk import RequestError, SIEClient
>>> with SIEClient("http://localhost:8080") as client:
...     try:
...         client.score("no-such/model", {"text": "q"}, [{"text": "d"}])
...     except RequestError as error:
...         print(error.code, error.status_code)
MODEL_NOT_FOUND 404

`str(error)` is the server's message. Invalid arguments (a base URL without a scheme, text that is not Unicode, arrays
of the wrong shape) raise `ValueError` or `TypeError` before the request with them is sent; earlier requests of a large
input may have been sent by then.
"""

from collections.abc import Sequence
from typing import Any, Literal

from sie_sdk.types import RequestInfo

__all__ = [
    "AccountInactiveError",
    "AccountStateUnavailableError",
    "EstimateUnroutableError",
    "IgnoredOptionWarning",
    "IncompleteBatchError",
    "InputTooLongError",
    "InsufficientCreditsError",
    "JobFailedError",
    "LoraLoadingError",
    "ModelLoadFailedError",
    "ModelLoadingError",
    "PoolError",
    "ProvisioningError",
    "RateLimitError",
    "RelayUnavailableError",
    "RequestError",
    "ResourceExhaustedError",
    "SIEConnectionError",
    "SIEError",
    "ServerError",
    "SpendLimitError",
]


class IgnoredOptionWarning(UserWarning):
    """The server does not know an option of a call, and ignored it. Issued once per client and option."""


class SIEError(Exception):
    """Base class of all errors of this package.

    `code` is the server's error code, `status_code` the HTTP status, `request` the details in the response headers and
    `retry_after` the server's Retry-After in seconds. Each is None if the response did not have it, or there was none.
    Every public attribute of a class is also a keyword argument of its constructor.
    """

    code: str | None = None
    status_code: int | None = None
    request: RequestInfo | None = None
    retry_after: float | None = None

    def __init__(self, message: str = "", **attributes: Any) -> None:
        super().__init__(message)
        for name, value in attributes.items():
            if not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} has no attribute {name!r}")
            setattr(self, name, value)

    @property
    def request_id(self) -> str | None:
        """Id of the request, for bug reports; None if the server sent none."""
        return (self.request or {}).get("id")


class SIEConnectionError(SIEError):
    """No complete response arrived. `__cause__` is the exception of the transport.

    `kind` is `"connect"` (refused, unknown host, or cut off before the response was complete), `"timeout"` (connected,
    but no response in time; never retried, because the server may still be working) or `"other"`.
    """

    kind: Literal["connect", "timeout", "other"] = "other"


class RequestError(SIEError):
    """The server rejected the request (4xx), or its response can't be parsed. `param` is the invalid field."""

    param: str | None = None


class InputTooLongError(RequestError):
    """The body, or a text in it, exceeds a limit of the server or the model."""


class RateLimitError(RequestError):
    """The server still had too many requests after all retries."""


class InsufficientCreditsError(RequestError):
    """The account has no credits left."""


class SpendLimitError(RequestError):
    """The account has reached its spending limit."""


class AccountInactiveError(RequestError):
    """The account is suspended."""


class RelayUnavailableError(RequestError):
    """The deployment that the request would be relayed to is unavailable."""


class ServerError(SIEError):
    """The server failed (5xx)."""


class ModelLoadFailedError(ServerError):
    """The model can't be loaded. A `permanent` failure lasts until the server is changed."""

    model: str | None = None
    error_class: str | None = None
    permanent: bool | None = None
    attempts: int | None = None


class ResourceExhaustedError(ServerError):
    """The server was still out of memory after `retries` retries."""

    model: str | None = None
    retries: int = 0


class IncompleteBatchError(ServerError):
    """The response has `received` results for `expected` items. `results` holds those that arrived.

    `missing_ids` are the ids of the items without a result.
    """

    expected: int = 0
    received: int = 0
    missing_ids: Sequence[str] = ()
    results: Sequence[Any] = ()


class EstimateUnroutableError(ServerError):
    """No machine can take the request to be estimated."""


class AccountStateUnavailableError(ServerError):
    """The state of the account is unknown at the moment."""


class ProvisioningError(SIEError):
    """No machine was ready within the time limit. `gpu` is None, as requests don't ask for one."""

    gpu: str | None = None


class ModelLoadingError(SIEError):
    """The model was still loading at the end of the time limit."""

    model: str | None = None


class LoraLoadingError(SIEError):
    """The adapter `lora` of `model` was still loading after the last retry."""

    lora: str | None = None
    model: str | None = None


class PoolError(SIEError):
    """Not raised; kept for programs written for the public SDK, whose gateways have pools of machines."""

    pool_name: str | None = None
    state: str | None = None


class JobFailedError(SIEError):
    """A batch job failed."""


REQUEST_ERRORS: dict[str, type[RequestError]] = {
    "INPUT_TOO_LONG": InputTooLongError,
    "RATE_LIMIT": RateLimitError,
    "INSUFFICIENT_CREDITS": InsufficientCreditsError,
    "SPEND_LIMIT_EXCEEDED": SpendLimitError,
    "ACCOUNT_SUSPENDED": AccountInactiveError,
    "RELAY_UNAVAILABLE": RelayUnavailableError,
}
SERVER_ERRORS: dict[str, type[SIEError]] = {
    "MODEL_LOAD_FAILED": ModelLoadFailedError,
    "RESOURCE_EXHAUSTED": ResourceExhaustedError,
    "ESTIMATE_UNROUTABLE": EstimateUnroutableError,
    "ACCOUNT_STATE_UNAVAILABLE": AccountStateUnavailableError,
    "PROVISIONING": ProvisioningError,
    "MODEL_LOADING": ModelLoadingError,
    "LORA_LOADING": LoraLoadingError,
}


def error_class(status: int, code: str | None) -> type[SIEError]:
    """Returns the class for an HTTP status and a server's error code."""
    if status >= 500:
        return SERVER_ERRORS.get(code or "", ServerError)
    if status == 429:
        return RateLimitError
    return REQUEST_ERRORS.get(code or "", RequestError)
