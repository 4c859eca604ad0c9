"""Control groups of this process, which may limit it to a part of the machine, as containers do."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

SYSTEM = Path("/")


def control_groups(controller: str, system: Path = SYSTEM) -> Iterator[tuple[Path, int]]:
    """Yield the folder and version of each group that limits `controller` ("cpu", "memory"), from our own to the root.

    Some of the folders may not exist: the mount decides which ones are visible (cgroups(7)). `system`: the root of the
    file system.
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
        # In a container, the path may be that of the host, of which only the root is visible.
        inside = Path(path.lstrip("/"))
        for group in {mount / part for mount in mounts for part in (inside, *inside.parents)}:
            yield group, 1 if controllers else 2
