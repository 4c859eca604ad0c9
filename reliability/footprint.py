"""What a server holds of the machine, from Linux's /proc."""

import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from process import usage


class Footprint(NamedTuple):
    """At one moment, in seconds of a monotonic clock. resident: bytes. files: open descriptors, sockets among them."""

    at: float
    resident: int
    threads: int
    files: int
    sockets: int


def footprint(pid: int) -> Footprint:
    """Of a running process (proc_pid_status(5), proc_pid_fd(5))."""
    links = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            links.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:  # closed since it was listed
            continue
    used = usage(pid)
    sockets = sum(link.startswith("socket:") for link in links)
    return Footprint(time.monotonic(), used.resident, used.threads, len(links), sockets)


def settled(pid: int, sockets: int = 0, seconds: float = 20.0) -> Footprint:
    """When no more than so many sockets are open, or after so many seconds: connections take a moment to close."""
    until = time.monotonic() + seconds
    while (now := footprint(pid)).sockets > sockets and time.monotonic() < until:
        time.sleep(0.2)
    return now
