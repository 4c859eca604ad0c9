"""Installs torch ahead of the server: its build for CPUs where there is no GPU. Run by `make`."""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

# PyTorch's own index of its builds for CPUs, for the machines whose index has none.
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# With 64-bit x86 Linux, the default build of torch brings CUDA; elsewhere, it is the build for CPUs.
_BRINGS_CUDA = ("Linux", "x86_64")
# Of an NVIDIA driver: on a machine, in a container, and under Windows.
_GPU_FILES = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/usr/lib/wsl/lib/libcuda.so.1")


def has_gpu(root: Path = Path("/")) -> bool:
    """Whether the driver of an NVIDIA GPU is loaded on this machine."""
    return any((root / file[1:]).exists() for file in _GPU_FILES)


def pinned(constraints: str) -> str:
    """The version of torch that constraints pin: "2.13.0".

    Raises:
        ValueError: they pin none.
    """
    if (found := re.search(r"^torch==([\w.]+)$", constraints, re.MULTILINE)) is None:
        raise ValueError("the constraints do not pin torch")
    return found[1]


def builds(choice: str, version: str, index: str, gpu: bool, system: tuple[str, str]) -> list[list[str]]:
    """The arguments of pip for each build of torch to try, in that order.

    choice: `auto`, `cpu`, or `default` for the build that pip prefers. index: of builds for CPUs, to be tried after
    pip's own. system: operating system and machine, as `platform` has them.

    Raises:
        ValueError: the choice is none of the three.
    """
    if choice not in ("auto", "cpu", "default"):
        raise ValueError(f"TORCH is '{choice}'; it must be auto, cpu or default")
    if choice == "default" or system != _BRINGS_CUDA or (choice == "auto" and gpu):
        return [[f"torch=={version}"]]
    cpu = f"torch=={version}+cpu"
    return [[cpu], ["--extra-index-url", index, cpu]]


def install(constraints: Path, choice: str, index: str, pip: Callable[[list[str]], int]) -> int:
    """Install the first build that can be had, and return the exit status of the last attempt.

    pip: runs `pip install` with these arguments and returns its exit status.
    """
    version = pinned(constraints.read_text())
    gpu, system = has_gpu(), (platform.system(), platform.machine())
    attempts = builds(choice, version, index, gpu, system)
    if len(attempts) > 1:
        print(f"torch {version}: the build for CPUs, {'as TORCH says' if choice == 'cpu' else 'for no GPU was found'}")
    elif gpu and choice == "auto":
        print(f"torch {version}: the build with CUDA, for a GPU was found")
    status = 1
    for arguments in attempts:
        if (status := pip(["--constraint", str(constraints), *arguments])) == 0:
            return 0
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    if len(attempts) > 1:
        print(
            f"torch {version} could not be installed: neither pip's index nor {index} has a build for CPUs and "
            f"Python {python}, or they can't be reached.\nEither name another index, TORCH_INDEX=URL, "
            "or install the default build, TORCH=default, which brings gigabytes of CUDA.",
            file=sys.stderr,
        )
    else:
        print(f"torch {version} could not be installed for Python {python}.", file=sys.stderr)
    return status


def _pip(arguments: list[str]) -> int:
    return subprocess.run([sys.executable, "-m", "pip", "install", "--progress-bar", "on", *arguments]).returncode


if __name__ == "__main__":
    environment = os.environ
    try:
        status = install(
            Path(sys.argv[1]), environment.get("TORCH") or "auto", environment.get("TORCH_INDEX") or CPU_INDEX, _pip
        )
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    sys.exit(status)
