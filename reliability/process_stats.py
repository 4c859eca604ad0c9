"""Memory, threads and open files of a process, from Linux's /proc."""

import os
import time
from typing import NamedTuple

from sie_testing.process import usage


class ProcessStats(NamedTuple):
    """A snapshot. at: monotonic seconds. resident: bytes. files: open file descriptors, including sockets."""

    at: float
    resident: int
    threads: int
    files: int
    sockets: int


def process_stats(pid: int) -> ProcessStats:
    """Read the statistics of a running process (proc_pid_status(5), proc_pid_fd(5))."""
    links = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            links.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:  # closed meanwhile
            continue
    used = usage(pid)
    sockets = sum(link.startswith("socket:") for link in links)
    return ProcessStats(time.monotonic(), used.resident, used.threads, len(links), sockets)


def settled_stats(pid: int, sockets: int = 0, seconds: float = 20.0) -> ProcessStats:
    """Wait until at most `sockets` sockets are open, as connections take a moment to close, or for `seconds`."""
    until = time.monotonic() + seconds
    while (now := process_stats(pid)).sockets > sockets and time.monotonic() < until:
        time.sleep(0.2)
    return now
