"""What the processes of DDP do together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

T = TypeVar("T")


def gather(values: Tensor) -> Tensor:
    """``(B * world, ...)``: the rows of all processes, which have as many each, in the order of their ranks."""
    if not several():
        return values
    parts = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, values.contiguous())
    return torch.cat(parts)


def share(tasks: Sequence[Callable[[], T]], threads: int = 1) -> list[T]:
    """The results of all tasks, in their order, in every process; each process does its part of them.

    The results must be on the CPU, and all processes must bring the same tasks. The first process does the first, the
    ``world``-th after it, and so on: with the longest task first all take about as long. Within a process, ``threads``
    of them run at a time.
    """
    rank, world = (dist.get_rank(), dist.get_world_size()) if several() else (0, 1)
    if threads == 1:  # here, where the device is the current one
        own = [task() for task in tasks[rank::world]]
    else:
        with ThreadPoolExecutor(threads) as pool:
            own = list(pool.map(lambda task: task(), tasks[rank::world]))
    if world == 1:
        return own
    parts: list[list[T]] = [[] for _ in range(world)]
    dist.all_gather_object(parts, own)
    return [parts[position % world][position // world] for position in range(len(tasks))]


def several() -> bool:
    """Whether there are several processes, or one that was started as such."""
    return dist.is_available() and dist.is_initialized()
