"""Ends an abandoned load at its next step."""

import threading
from contextvars import ContextVar

from sie_server.errors import LoadClass, LoadError

# Set in the context of the thread that loads; unset elsewhere, where nothing is ever given up.
GIVEN_UP: ContextVar[threading.Event | None] = ContextVar("given_up", default=None)


def stop_if_given_up() -> None:
    """Called between the steps of a load: tensors, layers, files.

    Raises:
        LoadError: TIMEOUT, the load was cancelled.
    """
    given_up = GIVEN_UP.get()
    if given_up is not None and given_up.is_set():
        raise LoadError(LoadClass.TIMEOUT, "the load was cancelled")
