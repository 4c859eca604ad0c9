"""The part of a client that does no I/O."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sie_sdk._core.endpoint import Endpoint
from sie_sdk._core.exchange import Clock, Trace, VersionSkew
from sie_sdk._unsupported import gateway_method


class Session:
    """An endpoint, and the traces of the calls to it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._clock = Clock()
        self._skew = VersionSkew()
        self._trace = Trace()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            gateway_method(type(self), name)
            return object.__getattribute__(self, name)

    @property
    def base_url(self) -> str:
        """The server's address, without a trailing slash."""
        return self._endpoint.base_url

    @property
    def last_retry_count(self) -> int:
        """Number of retries of the call that ended last, over all its requests."""
        return self._trace.retries.total()

    @property
    def last_model_revision(self) -> str | None:
        """Model revision that the server reported in the call that ended last, or None."""
        return self._trace.model_revision

    @contextmanager
    def _tracing(self) -> Iterator[Trace]:
        trace = Trace()
        try:
            yield trace
        finally:
            # Only now, because concurrent calls must not mix their counts.
            self._trace = trace
