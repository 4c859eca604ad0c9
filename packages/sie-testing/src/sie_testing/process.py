"""Memory and CPU time of a process from Linux's /proc, and flags that serve a model."""

import os
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_KB = 1024


class Usage(NamedTuple):
    """Memory in bytes: resident, the most that was resident, and how much of it is not mapped from files.

    cpu_s: user and system time of all threads. faults: pages that were mapped without reading from a disk.
    """

    resident: int
    peak: int
    anonymous: int
    threads: int
    cpu_s: float
    faults: int


def usage(pid: int) -> Usage:
    """Read the usage of a running process (proc_pid_status(5), proc_pid_stat(5))."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    status = {line[0].rstrip(":"): line[1] for line in lines if len(line) > 1}
    # The name in brackets may have spaces in it; counted from behind it, minflt is number 7, utime 11, stime 12.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    resident, peak, anonymous = (int(status[name]) * _KB for name in ("VmRSS", "VmHWM", "RssAnon"))
    cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS
    return Usage(resident, peak, anonymous, int(status["Threads"]), cpu_s, faults=int(fields[7]))


def forget_peak(pid: int) -> None:
    """Reset the peak of resident memory."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def named(model: str, precision: str) -> tuple[str, list[str]]:
    """The id of a model given by id or folder, and the flags to serve it with."""
    folder = Path(model)
    if not folder.is_dir():
        return model, ["--precision", precision]
    name = folder.resolve().name
    return name, ["--precision", precision, "--model", f"{name}={folder}"]
