"""Compiles the kernels with the system's C++ compiler, where there is one, when the package is built."""

import os
import platform
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = "src/sie_server/nn/kernels"
LIBRARY = "libkernels.so"  # not kernels.so, which Python could import
FLAGS = (
    "-O3",
    "-std=c++17",
    "-fPIC",
    "-pthread",
    "-fvisibility=hidden",
    "-fno-exceptions",
    "-fno-rtti",
    "-ffp-contract=fast",
)
AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma", "-mprefer-vector-width=512")
# Compilers older than GCC 11 or clang 12 do not know them; what they make for these levels does without.
AMX, AVX_VNNI = ("-mamx-tile", "-mamx-bf16", "-mamx-int8"), ("-mavxvnni",)
# Sources without instructions of a level of their own.
COMMON = ("dispatch", "embedding_sum", "post_norm_layers")
AVX2 = ("-mavx2", "-mfma")
VNNI = (*AVX512, "-mavx512vnni")
BF16 = (*VNNI, "-mavx512bf16")
# A source is compiled once per level of instructions; at run time the processor decides. On Arm, the portable level
# uses NEON, which is part of the architecture.
PORTABLE: dict[str, dict[str, tuple[str, ...]]] = {
    source: {"portable": ()} for source in ("attention", "linear_float32", "norm_rotary")
}
X86: dict[str, dict[str, tuple[str, ...]]] = {
    "attention": {
        "portable": (),
        "avx2": AVX2,
        "avx512": AVX512,
        "avx512_vnni": VNNI,
        "avx512_bf16": BF16,
        "amx": (*BF16, *AMX),
    },
    "linear_float32": {"portable": (), "avx2": AVX2, "avx512": AVX512},
    "norm_rotary": {"portable": (), "avx2": AVX2, "avx512": AVX512},
    "linear_avx2": {"avx2_vnni": (*AVX2, *AVX_VNNI)},
    "linear": {"avx512_vnni": VNNI, "avx512_vnni_bf16": BF16, "amx": (*BF16, *AMX)},
}


class KernelHook(BuildHookInterface):  # type: ignore[type-arg]
    """Compiles the kernels, if possible: without them the package works too, so their failure stops no installation."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        folder = Path(self.root, FOLDER)
        # What an earlier build left may come from other sources.
        (folder / LIBRARY).unlink(missing_ok=True)
        try:
            compile_kernel(folder)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = error.stderr if isinstance(error, subprocess.CalledProcessError) else error
            self.app.display_warning(f"the kernels are left out, a CPU will be slower, and int8 is missing: {reason}")
            return
        build_data["artifacts"].append(f"{FOLDER}/{LIBRARY}")  # git ignores it
        build_data["pure_python"] = False
        # It is loaded by ctypes, and so fits every Python.
        build_data["tag"] = "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")


def compile_kernel(folder: Path, into: Path | None = None, machine: str = platform.machine()) -> Path:
    """Compile the sources in `folder` into a shared library, in the same folder unless `into` names another.

    machine: the architecture that the compiler compiles for, as `platform.machine` names it. Returns the library's
    path.

    Raises:
        OSError: there is no compiler.
        subprocess.CalledProcessError: the compiler fails.
    """
    compiler = find_compiler()

    def run(*arguments: str | Path) -> None:
        subprocess.run([*compiler, *FLAGS, *arguments], check=True, capture_output=True, text=True)

    unknown: list[str] = []
    for optional in (AMX, AVX_VNNI):
        try:
            run(*optional, "-fsyntax-only", "-x", "c++", os.devnull)
        except subprocess.CalledProcessError:
            unknown += optional
    # In the same folder, so that it is moved in one step: a running server may have the old one mapped.
    into = into or folder
    all_levels = X86 if machine.lower() in ("x86_64", "amd64") else PORTABLE
    with tempfile.TemporaryDirectory(dir=into) as temporary:
        objects = [Path(temporary, f"{source}.o") for source in COMMON]
        for source, target in zip(COMMON, objects, strict=True):
            run("-c", folder / f"{source}.cpp", "-o", target)
        for source, levels in all_levels.items():
            for level, flags in levels.items():
                objects.append(Path(temporary, f"{source}_{level}.o"))
                known = (flag for flag in flags if flag not in unknown)
                run(f"-DLEVEL={level}", *known, "-c", folder / f"{source}.cpp", "-o", objects[-1])
        library = Path(temporary, LIBRARY)
        run("-shared", *objects, "-o", library)
        return library.replace(into / LIBRARY)


def find_compiler() -> list[str]:
    """The command in CXX, or the first compiler on the path."""
    if chosen := os.environ.get("CXX"):
        return shlex.split(chosen)
    for name in ("c++", "g++", "clang++"):
        if found := shutil.which(name):
            return [found]
    raise OSError("there is no C++ compiler")
