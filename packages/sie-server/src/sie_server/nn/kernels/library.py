"""The shared library of CPU kernels, compiled when the package is installed."""

import ctypes
import logging
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

_LOG = logging.getLogger(__name__)
_LIBRARY = Path(__file__).with_name("libkernels.so")
_ABI = 13
# Instruction sets, each including those before it; "none": no kernels.
ISAS = ("none", "portable", "avx2", "avx2_vnni", "avx512", "avx512_vnni", "avx512_bf16", "amx")
# Levels of each in dispatch.cpp: for attention, norms, rotary positions and float32 products; for other linear layers.
_LEVELS = {
    "none": (0, 0),
    "portable": (0, 0),
    "avx2": (1, 0),
    "avx2_vnni": (1, 1),
    "avx512": (2, 1),
    "avx512_vnni": (3, 2),
    "avx512_bf16": (4, 3),
    "amx": (5, 4),
}
_AVX512_VNNI, _AVX512_BF16 = 3, 4  # levels of attention


def max_isa() -> str:
    """The most advanced instruction set that the kernels may use: SIE_MAX_CPU_ISA, by default any.

    Raises:
        ValueError: SIE_MAX_CPU_ISA is not one of `ISAS`.
    """
    chosen = os.environ.get("SIE_MAX_CPU_ISA") or ISAS[-1]
    if chosen not in ISAS:
        raise ValueError(f"SIE_MAX_CPU_ISA is '{chosen}'; it must be one of {', '.join(ISAS)}")
    return chosen


def vector_isa_level() -> int:
    """Instruction set level of the kernels for attention, norms, rotary positions and float32 products.

    0: portable, 1: AVX2, 2: AVX-512, 3: AVX512-VNNI, 4: AVX512-BF16, where attention by it is not slower, 5: AMX.
    """
    library = installed_library()
    if library is None:
        return 0
    level = min(int(library.sie_attention_level()), _LEVELS[max_isa()][0])
    return _AVX512_VNNI if level == _AVX512_BF16 and not library.sie_fast_bfloat16_attention() else level


def linear_isa_level() -> int:
    """Instruction set level of the kernel for linear layers.

    0: float32 only, or no kernels. 1: int8 too, by AVX-VNNI. 2: by AVX512-VNNI. 3: bfloat16 too, by AVX512-BF16.
    4: both by AMX.
    """
    library = installed_library()
    return 0 if library is None else int(library.sie_linear_level(_LEVELS[max_isa()][1]))


def library_path() -> Path:
    """Where the library is, if it was built."""
    return _LIBRARY


@cache
def installed_library() -> ctypes.CDLL | None:
    """The library, or None if it is missing, outdated or disabled; the reason is logged once."""
    try:
        library = ctypes.CDLL(str(_LIBRARY))
        if max_isa() == ISAS[0]:
            reason = "SIE_MAX_CPU_ISA is none"
        elif hasattr(library, "sie_abi") and library.sie_abi() == _ABI:
            return library
        else:
            reason = "the library was built from other sources"
    except OSError as error:
        built = _LIBRARY.exists()
        reason = str(error) if built else "there was no working C++ compiler at installation"
    _LOG.info("the CPU kernels are not used: %s; PyTorch is slower and has no int8", reason)
    return None


def use_cores(count: int) -> None:
    """Share `count` cores evenly between the threads that are `computing`. Results do not depend on it."""
    library = installed_library()
    if library is not None:
        library.sie_use_cores(count)


class computing:  # noqa: N801 # a context manager
    """Let the kernels use this thread's share of the cores, with helper threads, during the block."""

    def __enter__(self) -> None:
        if (compute := _compute()) is not None:
            compute(True)

    def __exit__(self, *_: object) -> None:
        if (compute := _compute()) is not None:
            compute(False)


@cache
def _compute() -> Callable[[bool], None] | None:
    """`sie_compute`, called with the GIL: it sets two numbers, and getting the GIL back may take a millisecond."""
    library = installed_library()
    return None if library is None else ctypes.PYFUNCTYPE(None, ctypes.c_int)(("sie_compute", library))
