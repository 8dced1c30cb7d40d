"""The free memory of a device."""

from __future__ import annotations

from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup")


def free_memory(device: torch.device) -> int | None:
    """Return the number of bytes that are free on a device.

    On the CPU, file caches count as free, because the system gives them up when memory is needed. In a container, its
    memory limit counts (control groups of version 2).

    Args:
        device: any device.

    Returns:
        The number of bytes, or ``None`` if it is not known: on other devices, and on a CPU without ``/proc/meminfo``.

    Example:
        >>> import torch
        >>> from noisylabels_pl.memory import free_memory
        >>> free_memory(torch.device("meta")) is None
        True
    """
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    if device.type != "cpu":
        return None
    try:
        free_in_system = 1024 * _read_number(Path("/proc/meminfo"), "MemAvailable:")
    except (OSError, KeyError):  # not Linux
        return None
    try:
        return min(free_in_system, _free_in_container())
    except (ValueError, OSError, KeyError):  # the limit is "max", or there is no container
        return free_in_system


def _free_in_container() -> int:
    """Return how many bytes are left to this process's control group, file caches included."""
    limit = int((_CGROUP / "memory.max").read_text())
    used = int((_CGROUP / "memory.current").read_text())
    return limit - used + _read_number(_CGROUP / "memory.stat", "inactive_file")


def _read_number(path: Path, name: str) -> int:
    """Return the number that follows a name, from a file with a name and its number on each line."""
    for line in path.read_text().splitlines():
        fields = line.split()
        if fields[0] == name:
            return int(fields[1])
    raise KeyError(name)
