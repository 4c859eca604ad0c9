"""Clients that are too old or too new for this server."""

import logging

from sie_server import __version__

_LOG = logging.getLogger(__name__)


class VersionSkew:
    """Logs once per SDK version that is another major version, or more than one minor version away."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, int]] = set()

    def check(self, sdk_version: str | None) -> None:
        """Look at a request's `X-SIE-SDK-Version`."""
        sdk, ours = _major_minor(sdk_version or ""), _major_minor(__version__)
        # The bound keeps a client that sends ever new versions from filling memory and log.
        if sdk is None or ours is None or sdk in self._seen or len(self._seen) >= _MOST_SEEN:
            return
        self._seen.add(sdk)
        if sdk[0] != ours[0] or abs(sdk[1] - ours[1]) > 1:
            _LOG.warning("a client uses SDK %d.%d, this server is %s: update the older one", *sdk, __version__)


_MOST_SEEN = 100


def _major_minor(version: str) -> tuple[int, int] | None:
    major, _, rest = version.partition(".")
    minor = rest.partition(".")[0]
    if not (major.isascii() and minor.isascii() and major.isdecimal() and minor.isdecimal()):
        return None
    return (int(major), int(minor)) if len(version) <= 32 else None
