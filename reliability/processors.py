"""Settings that make the libraries and kernels use the code for other processors."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch

_ATEN = ("default", "avx2", "avx512")
_ONEDNN = ("AVX2", "AVX512_CORE", "AVX512_CORE_VNNI", "AVX512_CORE_BF16", "AVX512_CORE_AMX")
_MKL = ("SSE4_2", "AVX2", "AVX512")
_KERNELS = ("portable", "avx2", "avx2_vnni", "avx512", "avx512_vnni", "avx512_bf16", "amx")
# Whether the processor supports an instruction set, by its name in the settings.
_NEEDED = {
    "avx2": torch.cpu._is_avx2_supported,
    "avx512": torch.cpu._is_avx512_supported,
    "avx512_vnni": torch.cpu._is_vnni_supported,
    "core_vnni": torch.cpu._is_vnni_supported,
    "bf16": torch.cpu._is_avx512_bf16_supported,
    "amx": torch.cpu._is_amx_tile_supported,
}


class Processor(NamedTuple):
    """Environment and flags for another processor. lacks: instruction set that this processor lacks; None: none."""

    name: str
    environment: Mapping[str, str]
    flags: tuple[str, ...]
    lacks: str | None


def processors() -> Iterator[Processor]:
    """Yield every level of PyTorch, oneDNN, MKL and the kernels; no kernels; one and two threads."""
    for workers in ("1", "2"):
        yield _processor({}, f"--workers={workers}")
    for isa in _KERNELS:
        yield _processor({"SIE_MAX_CPU_ISA": isa})
    # With the kernels, and without them, when the libraries compute everything.
    for kernels in ({}, {"SIE_MAX_CPU_ISA": "none"}):
        for variable, levels in (
            ("ATEN_CPU_CAPABILITY", _ATEN),
            ("ONEDNN_MAX_CPU_ISA", _ONEDNN),
            ("MKL_ENABLE_INSTRUCTIONS", _MKL),
        ):
            for level in levels:
                yield _processor({**kernels, variable: level})
    for workers in ("1", "2"):
        yield _processor({"SIE_MAX_CPU_ISA": "none"}, f"--workers={workers}")
    # A processor of ten years ago.
    yield _processor(
        {
            "SIE_MAX_CPU_ISA": "avx2",
            "ATEN_CPU_CAPABILITY": "avx2",
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        }
    )


def _processor(environment: Mapping[str, str], *flags: str) -> Processor:
    requested = " ".join(environment.values()).lower()
    lacks = next((isa for isa, has in _NEEDED.items() if isa in requested and not has()), None)
    name = " ".join([*(f"{name}={value}" for name, value in environment.items()), *flags])
    return Processor(name, environment, flags, lacks)
