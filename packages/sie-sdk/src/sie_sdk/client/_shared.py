"""What both clients are, apart from their I/O."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sie_sdk._core.endpoint import Endpoint
from sie_sdk._core.exchange import Clock, Trace, VersionSkew
from sie_sdk._unsupported import gateway_method


class Session:
    """An endpoint, and what the calls to it leave behind."""

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
        """How often the call that ended last was sent again, all its parts together."""
        return self._trace.retries.total()

    @property
    def last_model_revision(self) -> str | None:
        """The model revision that the server named in the call that ended last, if it named one."""
        return self._trace.model_revision

    @contextmanager
    def _tracing(self) -> Iterator[Trace]:
        trace = Trace()
        try:
            yield trace
        finally:
            # Only now: calls that run side by side must not mix their counts.
            self._trace = trace
