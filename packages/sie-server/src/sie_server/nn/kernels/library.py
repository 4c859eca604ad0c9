"""The kernels for a CPU: a shared library with a C interface, compiled when the package is installed."""

import ctypes
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_LOG = logging.getLogger(__name__)
_LIBRARY = Path(__file__).with_name("libkernels.so")
_ABI = 6
# Sets of instructions, each with those before it; "none": no kernels.
ISAS = ("none", "portable", "avx2", "avx512", "avx512_vnni", "avx512_bf16", "amx")
# The level of each as levels.cpp counts: for attention, norms and float32; for linear layers in integers and bfloat16.
_LEVELS = {
    "none": (0, 0),
    "portable": (0, 0),
    "avx2": (1, 0),
    "avx512": (2, 0),
    "avx512_vnni": (2, 1),
    "avx512_bf16": (3, 2),
    "amx": (3, 3),
}


def max_isa() -> str:
    """What the kernels may use at most, SIE_MAX_CPU_ISA, or everything that they know.

    Raises ValueError where that names no set of instructions.
    """
    chosen = os.environ.get("SIE_MAX_CPU_ISA") or ISAS[-1]
    if chosen not in ISAS:
        raise ValueError(f"SIE_MAX_CPU_ISA is '{chosen}'; it can be {', '.join(ISAS)}")
    return chosen


def vector_level() -> int:
    """Of the kernels for attention, norms, rotary positions and products in float32.

    0: instructions that every processor has, 1: AVX2, 2: AVX-512, 3: AVX512-BF16 too.
    """
    library = installed_library()
    return 0 if library is None else min(library.sie_attention_level(), _LEVELS[max_isa()][0])


def panel_level() -> int:
    """Of the kernel for linear layers.

    0: float32 alone, or none at all. 1: int8 too, with AVX512-VNNI. 2: and bfloat16. 3: that by AMX.
    """
    library = installed_library()
    return 0 if library is None else min(library.sie_linear_level(), _LEVELS[max_isa()][1])


@cache
def installed_library() -> ctypes.CDLL | None:
    """The library, or None, said once in the log, where it was not built, does not fit or is not to be used."""
    try:
        library = ctypes.CDLL(str(_LIBRARY))
        if max_isa() == ISAS[0]:
            reason = "SIE_MAX_CPU_ISA is none"
        elif hasattr(library, "sie_abi") and library.sie_abi() == _ABI:
            return library
        else:
            reason = "they were built from other sources than these"
    except OSError as error:
        built = _LIBRARY.exists()
        reason = str(error) if built else "they were not built, as there was no working C++ compiler at installation"
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
