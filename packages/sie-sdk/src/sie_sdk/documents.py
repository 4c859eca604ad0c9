"""An empty module, there so that programs which import it fail at the function they miss: items are texts here."""

from typing import TYPE_CHECKING, NoReturn

from sie_sdk._unsupported import media_function

if not TYPE_CHECKING:

    def __getattr__(name: str) -> NoReturn:
        media_function(__name__, name)
