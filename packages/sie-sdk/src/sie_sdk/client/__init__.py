"""The two clients. Everything they share is in `_shared` and, without I/O, in `sie_sdk._core`."""

from sie_sdk.client.async_ import SIEAsyncClient
from sie_sdk.client.sync import SIEClient

__all__ = ["SIEAsyncClient", "SIEClient"]
