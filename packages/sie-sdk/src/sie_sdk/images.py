"""Kept so that the public SDK's import path exists. Importing any name from it raises ImportError with the reason."""

from typing import TYPE_CHECKING, NoReturn

from sie_sdk._unsupported import media_function

if not TYPE_CHECKING:

    def __getattr__(name: str) -> NoReturn:
        media_function(__name__, name)
