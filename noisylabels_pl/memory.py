"""How much memory is free."""

from __future__ import annotations

from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup")


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on a device, at least; ``None`` if nobody says.

    On the CPU file caches, which the system would give up, count as free, and the limit of a container holds.
    """
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    if device.type != "cpu":
        return None
    try:
        free = 1024 * _listed(Path("/proc/meminfo"), "MemAvailable:")
    except (OSError, KeyError):  # not Linux
        return None
    try:
        limit, used = (int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        return min(free, limit - used + _listed(_CGROUP / "memory.stat", "inactive_file"))
    except (ValueError, OSError, KeyError):  # "max", or no container
        return free


def _listed(path: Path, name: str) -> int:
    """The number behind a name in a file of names and numbers."""
    return int({line.split()[0]: line.split()[1] for line in path.read_text().splitlines()}[name])
