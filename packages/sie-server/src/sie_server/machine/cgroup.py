"""Which control groups this process is in: a container often has less of a machine than all of it."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

SYSTEM = Path("/")


def control_groups(controller: str, system: Path = SYSTEM) -> Iterator[tuple[Path, int]]:
    """The folder of each group that limits `controller` ("cpu", "memory"), from our own to the root, and its version.

    Some may not exist: which of them are to be seen depends on how the file system is mounted (cgroups(7)).
    `system`: the root of the file system.
    """
    mounted = system / "sys/fs/cgroup"
    groups = ""
    with suppress(OSError):
        groups = (system / "proc/self/cgroup").read_text()
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mounts = (mounted / controllers, mounted / controller) if controllers else (mounted, mounted / "unified")
        # In a container the path may be the host's, of which only the root is to be seen.
        inside = Path(path.lstrip("/"))
        for group in {mount / part for mount in mounts for part in (inside, *inside.parents)}:
            yield group, 1 if controllers else 2
