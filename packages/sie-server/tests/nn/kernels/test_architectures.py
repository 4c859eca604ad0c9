"""The kernels against sums in double precision, here and on processors that this machine emulates.

`kernels_check.cpp` compares them, without Python or torch.
"""

import platform
import runpy
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from sie_server.nn.kernels.library import installed_library, library_path

CHECK = Path(__file__).with_name("kernels_check.cpp")
SOURCES = library_path().parent
HATCH_BUILD = Path(__file__).parents[3] / "hatch_build.py"
# Of Debian's packages g++-aarch64-linux-gnu and qemu-user.
CROSS_COMPILER, EMULATOR, SYSROOT = "aarch64-linux-gnu-g++", "qemu-aarch64", "/usr/aarch64-linux-gnu"


@pytest.fixture(scope="module")
def builder() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(HATCH_BUILD)))


def compile_check(compiler: list[str], library: Path, into: Path) -> Path:
    """The program, which finds the library where it was compiled."""
    program = into / "kernels_check"
    command = [*compiler, "-O2", "-std=c++17", "-pthread", f"-I{SOURCES}", str(CHECK), "-o", str(program), str(library)]
    subprocess.run([*command, f"-Wl,-rpath,{library.parent}"], check=True)
    return program


@pytest.mark.skipif(installed_library() is None, reason="no kernels")
def test_every_level_of_this_processor(builder: SimpleNamespace, tmp_path: Path) -> None:
    library = installed_library()
    assert library is not None
    # Level 3 rounds to bfloat16, which test_attention.py allows for.
    levels = range(min(library.sie_attention_level(), 2) + 1)
    program = compile_check(builder.find_compiler(), library_path(), tmp_path)
    for level in levels:
        run = subprocess.run([program, str(level)], capture_output=True, text=True)
        assert run.returncode == 0, run.stdout[-2000:]


@pytest.mark.skipif(
    not shutil.which(CROSS_COMPILER) or not shutil.which(EMULATOR) or platform.machine() == "aarch64",
    reason="no cross-compiler for Arm, or no emulator",
)
def test_arm_in_an_emulator(builder: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", CROSS_COMPILER)
    library = builder.compile_kernel(SOURCES, into=tmp_path, machine="aarch64")
    program = compile_check([CROSS_COMPILER], library, tmp_path)
    run = subprocess.run([EMULATOR, "-L", SYSROOT, program, "0"], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-2000:]
    assert "0 of " in run.stdout
