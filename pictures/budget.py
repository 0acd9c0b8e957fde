"""How much memory decoding may take at once, where nobody set it.

It follows the memory that this service may use, of a container or of the machine, and its cores.
"""

import os
from pathlib import Path, PurePosixPath

# The other half is for the service, an embedded Postgres, what the decoders are by themselves, and
# the system's cache.
_SHARE_OF_MEMORY = 1 / 2


def choose_budget_bytes(
    memory_bytes: int, cores: int, workers: int, dearest_picture_bytes: int
) -> int:
    """Choose what one process sets aside for decoding at once, when `workers` share the memory.

    Each core may have the dearest picture that is taken, so that none waits for memory; but all
    processes together get half of the memory. A picture that needs more than this is decoded alone.
    """
    enough_bytes = cores * dearest_picture_bytes
    share_bytes = int(memory_bytes * _SHARE_OF_MEMORY) // workers
    return max(1, min(enough_bytes, share_bytes))


def find_memory_bytes() -> int:
    """Find the memory that this process may use: its container's limit, or else the machine's."""
    machine_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine_bytes, *read_cgroup_limits(Path("/"))])


def read_cgroup_limits(root: Path) -> list[int]:
    """Read the limits of the groups that this process is in, in bytes, of cgroups 1 and 2.

    A group's limit holds for all below it. In a container the path may be that of the host, and
    then only the uppermost folder is there, which is the container's own.
    """
    try:
        text = (root / "proc/self/cgroup").read_text(errors="replace")
    except OSError:
        return []
    limits = []
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            limits += _read_limits(root / "sys/fs/cgroup", path, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _read_limits(root / "sys/fs/cgroup/memory", path, "memory.limit_in_bytes")
    return limits


def _read_limits(mount: Path, path: str, name: str) -> list[int]:
    """Read the files of this name in the group's folder and in all above it."""
    group = PurePosixPath(path.lstrip("/"))
    limits = []
    for folder in (group, *group.parents):
        try:
            text = (mount / folder / name).read_text(errors="replace").strip()
        except (OSError, ValueError):
            continue
        # Else it is "max", or nothing that a limit can be.
        if text.isdecimal() and int(text) > 0:
            limits.append(int(text))
    return limits
