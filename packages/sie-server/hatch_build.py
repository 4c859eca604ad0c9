"""Compiles the attention kernel with the system's C++ compiler, where there is one, when the package is built."""

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

FOLDER = "src/sie_server/nn"
LIBRARY = "libattention.so"  # not attention.so, which Python would import for attention.py
FLAGS = ("-O3", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti", "-ffp-contract=fast")
AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma", "-mprefer-vector-width=512")
# attention.cpp is compiled once per level of instructions; at run time the processor decides.
LEVELS = {"portable": ()}
if platform.machine().lower() in ("x86_64", "amd64"):
    LEVELS |= {"avx2": ("-mavx2", "-mfma"), "avx512": AVX512, "avx512_bf16": (*AVX512, "-mavx512bf16")}


class KernelHook(BuildHookInterface):  # type: ignore[type-arg]
    """The package works without the kernel, so no compiler and no failure of one stops an installation."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        folder = Path(self.root, FOLDER)
        # What an earlier build left may come from other sources.
        (folder / LIBRARY).unlink(missing_ok=True)
        try:
            compile_kernel(folder)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = error.stderr if isinstance(error, subprocess.CalledProcessError) else error
            self.app.display_warning(f"the attention kernel is left out, attention on a CPU will be slower: {reason}")
            return
        build_data["artifacts"].append(f"{FOLDER}/{LIBRARY}")  # git ignores it
        build_data["pure_python"] = False
        # It is loaded by ctypes, and so fits every Python.
        build_data["tag"] = "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")


def compile_kernel(folder: Path) -> None:
    """Compile the sources in `folder` into a shared library beside them.

    Raises OSError where there is no compiler, subprocess.CalledProcessError where it fails.
    """
    compiler = find_compiler()

    def run(*arguments: str | Path) -> None:
        subprocess.run([*compiler, *FLAGS, *arguments], check=True, capture_output=True, text=True)

    # In the same folder, so that it is moved in one step: a running server may have the old one mapped.
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        objects = [Path(temporary, f"{name}.o") for name in ("levels", *LEVELS)]
        run("-c", folder / "attention_levels.cpp", "-o", objects[0])
        for (level, flags), target in zip(LEVELS.items(), objects[1:], strict=True):
            run(f"-DLEVEL={level}", *flags, "-c", folder / "attention.cpp", "-o", target)
        library = Path(temporary, LIBRARY)
        run("-shared", *objects, "-o", library)
        library.replace(folder / LIBRARY)


def find_compiler() -> list[str]:
    """The command in CXX, or the first compiler on the path."""
    if chosen := os.environ.get("CXX"):
        return shlex.split(chosen)
    for name in ("c++", "g++", "clang++"):
        if found := shutil.which(name):
            return [found]
    raise OSError("there is no C++ compiler")
