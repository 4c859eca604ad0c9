"""The place in the caller's program that a warning points at."""

import sys

# contextlib and importlib call parts of this package on behalf of others.
_OWN = ("sie_sdk", "contextlib", "importlib")


def level_of_caller() -> int:
    """Returns the `stacklevel` at which `warnings.warn`, called by our caller, points outside this package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in _OWN:
        level, frame = level + 1, frame.f_back
    return level
