"""Turns panics of libraries written in Rust into exceptions."""

from collections.abc import Iterator
from contextlib import contextmanager


class PanicError(Exception):
    """A library written in Rust panicked. The message is the panic's."""


@contextmanager
def contained() -> Iterator[None]:
    """Raise panics of the block as PanicError.

    pyo3 raises a BaseException, which would end the thread or task that called the library.

    Raises:
        PanicError: the block panicked.
    """
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        # pyo3 creates the class at the first panic, so it cannot be imported.
        if type(error).__module__ != "pyo3_runtime":
            raise
        raise PanicError(f"panicked: {error}") from error
