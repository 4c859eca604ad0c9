"""NUMA nodes of this machine, and the cores to which device threads can be pinned."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from sie_server.options import Pinning

NODES = Path("/sys/devices/system/node")

Cores = frozenset[int]


def usable_nodes(nodes: Path = NODES) -> list[Cores]:
    """The cores of each NUMA node that are in this process's affinity, by the number of the node.

    A node without such cores is left out. Where the system tells nothing of nodes, all cores are in one.
    """
    usable = frozenset(os.sched_getaffinity(0))
    found: dict[int, Cores] = {}
    with suppress(OSError):
        for folder in nodes.iterdir():
            number = folder.name.removeprefix("node")
            if number.isdigit() and folder.name != number:
                with suppress(OSError, ValueError):
                    found[int(number)] = cores_in((folder / "cpulist").read_text()) & usable
    known = [found[number] for number in sorted(found) if found[number]]
    return known if frozenset().union(*known) == usable else [usable]


def cores_in(listed: str) -> Cores:
    """The cores in a list of the kernel's, such as "0-3,8".

    Raises:
        ValueError: it is not such a list.
    """
    cores: set[int] = set()
    for part in listed.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            cores.update(range(int(first), int(last or first) + 1))
    return frozenset(cores)


def pinned_cores(workers: int, pinning: Pinning, nodes: Sequence[Cores]) -> list[Cores] | None:
    """The cores for each of a number of threads; None if they are not to be pinned.

    `node`: those of one node, with the threads spread evenly over all cores. `core`: one core, which threads share only
    if there are more of them than cores.
    """
    if pinning == "none":
        return None
    cores = [(core, node) for node in nodes for core in sorted(node)]
    chosen = [cores[index * len(cores) // workers % len(cores)] for index in range(workers)]
    return [node if pinning == "node" else frozenset({core}) for core, node in chosen]
