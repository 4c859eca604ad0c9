"""The part of a client that does no I/O."""

import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sie_sdk._caller import level_of_caller
from sie_sdk._core.endpoint import Endpoint
from sie_sdk._core.exchange import Clock, ServerHistory, Trace
from sie_sdk._unsupported import gateway_method
from sie_sdk.errors import IgnoredOptionWarning


class Session:
    """An endpoint, and the traces of the calls to it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._clock = Clock()
        self._history = ServerHistory()
        self._trace = Trace()
        self._warned: set[str] = set()
        self._warning = threading.Lock()

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
            if trace.ignored:
                self._warn_ignored(trace.ignored)

    def _warn_ignored(self, names: Iterable[str]) -> None:
        """Issues one warning for each option that the server ignored, at the line of the caller's program."""
        with self._warning:
            new = [name for name in dict.fromkeys(names) if name not in self._warned]
            self._warned.update(new)
        for name in new:
            message = f"the server does not know {name}, and ignored it"
            warnings.warn(message, IgnoredOptionWarning, level_of_caller())


def check_keywords(owner: type, method: str, given: Mapping[str, Any], known: type) -> None:
    """Raises TypeError, as Python would, for a keyword argument that the TypedDict `known` does not have."""
    for name in given.keys() - (known.__required_keys__ | known.__optional_keys__):  # type: ignore[attr-defined]
        raise TypeError(f"{owner.__name__}.{method}() got an unexpected keyword argument {name!r}")


def check_http_client(given: object, expected: type) -> None:
    """Raises TypeError, with the name of its class, for an `http_client` of another kind."""
    if given is not None and not isinstance(given, expected):
        kind = f"{type(given).__module__.partition('.')[0]}.{type(given).__qualname__}"
        raise TypeError(f"http_client must be an httpx2.{expected.__name__}, got {kind}")
