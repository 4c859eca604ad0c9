"""The kernels for a CPU: a shared library with a C interface, compiled when the package is installed."""

import ctypes
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_LOG = logging.getLogger(__name__)
_LIBRARY = Path(__file__).with_name("libkernels.so")
_ABI = 4


@cache
def installed_library() -> ctypes.CDLL | None:
    """The library, or None, said once in the log, where it was not built or does not fit."""
    try:
        library = ctypes.CDLL(str(_LIBRARY))
    except OSError as error:
        built = _LIBRARY.exists()
        reason = str(error) if built else "they were not built, as there was no working C++ compiler at installation"
    else:
        if hasattr(library, "sie_abi") and library.sie_abi() == _ABI:
            return library
        reason = "they were built from other sources than these"
    _LOG.info("the CPU computes with PyTorch, not with the faster kernels, and there is no int8: %s", reason)
    return None


def use_cores(count: int) -> None:
    """So many cores are shared evenly by the threads that are `computing`. No result depends on it."""
    library = installed_library()
    if library is not None:
        library.sie_use_cores(count)


@contextmanager
def computing() -> Iterator[None]:
    """This thread computes: calls of the kernels may use its share of the cores, with the help of threads of theirs."""
    library = installed_library()
    if library is None:
        yield
        return
    library.sie_compute(True)
    try:
        yield
    finally:
        library.sie_compute(False)
