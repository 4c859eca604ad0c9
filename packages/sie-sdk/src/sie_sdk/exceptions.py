"""The exceptions of `sie_sdk.errors`, at the path that they have in the public SDK."""

from .errors import *  # noqa: F403
