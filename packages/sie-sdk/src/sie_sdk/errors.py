"""Everything the SDK raises.

* SIEError
  x SIEConnectionError                  no complete answer: refused, reset, timed out
  x RequestError                        4xx, or an answer that can't be read
    + InputTooLongError                 INPUT_TOO_LONG
    + RateLimitError                    429
    + InsufficientCreditsError          INSUFFICIENT_CREDITS
    + SpendLimitError                   SPEND_LIMIT_EXCEEDED
    + AccountInactiveError              ACCOUNT_SUSPENDED
    + RelayUnavailableError             RELAY_UNAVAILABLE
  x ServerError                         5xx
    + ModelLoadFailedError              MODEL_LOAD_FAILED
    + ResourceExhaustedError            RESOURCE_EXHAUSTED, after the last retry
    + IncompleteBatchError              the answer has more or fewer results than the request had items
    + EstimateUnroutableError           ESTIMATE_UNROUTABLE
    + AccountStateUnavailableError      ACCOUNT_STATE_UNAVAILABLE
  x ProvisioningError                   PROVISIONING, when waiting is over
  x ModelLoadingError                   MODEL_LOADING, when waiting is over
  x LoraLoadingError                    LORA_LOADING, after the last retry
  x PoolError                           not raised; kept for programs that catch it
  x JobFailedError                      a batch job failed

>>> from sie_sdk import RequestError, SIEClient
>>> with SIEClient("http://localhost:8080") as client:
...     try:
...         client.score("no-such/model", {"text": "q"}, [{"text": "d"}])
...     except RequestError as error:
...         print(error.code, error.status_code)
MODEL_NOT_FOUND 404

`str(error)` is the server's message. Arguments that can't be right (a base URL without a scheme, text that is not
Unicode, arrays of the wrong shape) are `ValueError` or `TypeError`, raised before the request that would carry them is
sent: of a large input, earlier parts may be at the server by then.
"""

from collections.abc import Sequence
from typing import Any, Literal

from sie_sdk.types import RequestInfo

__all__ = [
    "AccountInactiveError",
    "AccountStateUnavailableError",
    "EstimateUnroutableError",
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


class SIEError(Exception):
    """Base of all errors of this package.

    `code` is the server's error code, `status_code` the HTTP status, `request` what the response headers said,
    `retry_after` the seconds after which the server asked for another try; each is None where there was no such thing.
    Any public attribute of the class is also a keyword of its constructor.
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
        """The id to name in a bug report, if the server gave one."""
        return (self.request or {}).get("id")


class SIEConnectionError(SIEError):
    """No complete answer arrived. `__cause__` is the transport's own exception.

    `kind` is `"connect"` (refused, unknown host, or cut off before the answer was complete), `"timeout"` (connected,
    but no answer in time; never retried, for the server may still be at work) or `"other"`.
    """

    kind: Literal["connect", "timeout", "other"] = "other"


class RequestError(SIEError):
    """The server refused the request (4xx), or its answer can't be read. `param` is the field at fault, if named."""

    param: str | None = None


class InputTooLongError(RequestError):
    """The body, or a text in it, is longer than the server or the model takes."""


class RateLimitError(RequestError):
    """Too many requests, still so after the retries."""


class InsufficientCreditsError(RequestError):
    """The account has no credits left."""


class SpendLimitError(RequestError):
    """The account has reached the limit it set itself."""


class AccountInactiveError(RequestError):
    """The account is suspended."""


class RelayUnavailableError(RequestError):
    """The request would have to be relayed to a place that can't be reached."""


class ServerError(SIEError):
    """The server failed (5xx)."""


class ModelLoadFailedError(ServerError):
    """The model can't be loaded. `permanent` failures stay until someone changes the server."""

    model: str | None = None
    error_class: str | None = None
    permanent: bool | None = None
    attempts: int | None = None


class ResourceExhaustedError(ServerError):
    """The server was out of memory each time; `retries` is how often it was asked again."""

    model: str | None = None
    retries: int = 0


class IncompleteBatchError(ServerError):
    """The answer has `received` results for `expected` items. `results` holds those that came, parsed.

    `missing_ids` are the ids of items that no result carries.
    """

    expected: int = 0
    received: int = 0
    missing_ids: Sequence[str] = ()
    results: Sequence[Any] = ()


class EstimateUnroutableError(ServerError):
    """No machine can take the request whose cost was to be estimated."""


class AccountStateUnavailableError(ServerError):
    """The state of the account is not known just now."""


class ProvisioningError(SIEError):
    """No machine was ready when the time to wait was over. `gpu` is None: requests ask for no machine."""

    gpu: str | None = None


class ModelLoadingError(SIEError):
    """The model was still loading when the time to wait was over."""

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
    """The class that says what (HTTP status, server code) means."""
    if status >= 500:
        return SERVER_ERRORS.get(code or "", ServerError)
    if status == 429:
        return RateLimitError
    return REQUEST_ERRORS.get(code or "", RequestError)
