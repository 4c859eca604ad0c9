"""Identity of the processor."""

import platform
from functools import cache
from pathlib import Path

# Fields of /proc/cpuinfo that tell kinds of processors apart, on x86 and on Arm; none differs between cores.
_FIELDS = (
    *("vendor_id", "cpu family", "model", "model name", "stepping", "flags"),
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision", "Features"),
)

# Variables that limit the instructions which PyTorch's libraries use.
LIBRARY_LIMITS = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS")


@cache
def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """The kind of the first core from /proc/cpuinfo, one line per field; without that file, the architecture alone."""
    return (platform.machine(), *(f"{name}: {value}" for name, value in _first_core(cpuinfo).items()))


def processor_name() -> str:
    """The name of the first core, such as "Intel(R) Xeon(R) Processor"; without one, the architecture."""
    return dict(line.partition(": ")[::2] for line in processor()).get("model name", platform.machine())


def _first_core(cpuinfo: Path) -> dict[str, str]:
    try:
        core, _, _ = cpuinfo.read_text(errors="replace").partition("\n\n")
    except OSError:
        return {}
    known = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in core.splitlines())}
    return {name: known[name] for name in _FIELDS if name in known}
