"""The exceptions under another name that the public SDK has for them; their tree is in `sie_sdk.errors`."""

from ..errors import *  # noqa: F403
