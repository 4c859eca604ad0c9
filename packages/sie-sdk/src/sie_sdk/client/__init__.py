"""The two clients; what they have in common is in `_shared` and in the modules without I/O beside this package."""

from sie_sdk.client.async_ import SIEAsyncClient
from sie_sdk.client.sync import SIEClient

__all__ = ["SIEAsyncClient", "SIEClient"]
