"""Logs clients that were written for another version of the HTTP interface."""

import logging

from sie_server import CONTRACT_VERSION

_LOG = logging.getLogger(__name__)


class VersionSkew:
    """Logs, once per SDK version, that its major version differs or its minor version is more than one away."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, int]] = set()

    def check(self, sdk_version: str | None) -> None:
        """Compare a request's `X-SIE-SDK-Version` with the version of the interface that this server implements."""
        if sdk_version is None:
            return
        sdk, ours = _major_minor(sdk_version), _major_minor(CONTRACT_VERSION)
        # Bounded, so that a client that sends ever new versions does not fill memory and log.
        if sdk is None or ours is None or sdk in self._seen or len(self._seen) >= _MOST_SEEN:
            return
        self._seen.add(sdk)
        if sdk[0] != ours[0] or abs(sdk[1] - ours[1]) > 1:
            _LOG.warning("a client uses SDK %d.%d; this server implements version %s", *sdk, CONTRACT_VERSION)


_MOST_SEEN = 100


def _major_minor(version: str) -> tuple[int, int] | None:
    major, _, rest = version.partition(".")
    minor = rest.partition(".")[0]
    if not (major.isascii() and minor.isascii() and major.isdecimal() and minor.isdecimal()):
        return None
    return (int(major), int(minor)) if len(version) <= 32 else None
