"""Panics of libraries written in Rust."""

from collections.abc import Iterator
from contextlib import contextmanager


class PanicError(Exception):
    """A library written in Rust panicked: its own sentence is the message."""


@contextmanager
def contained() -> Iterator[None]:
    """Turn a panic into an error like others.

    pyo3 makes a panic a BaseException, which would end the thread, or the task, that called the library.

    Raises:
        PanicError: the block panicked.
    """
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        # Its class can't be imported: pyo3 makes it when something panics.
        if type(error).__module__ != "pyo3_runtime":
            raise
        raise PanicError(f"panicked: {error}") from error
