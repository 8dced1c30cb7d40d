"""What the processes of DDP do together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from noisylabels_pl.data.sampler import is_distributed as is_distributed
from noisylabels_pl.data.sampler import rank_and_world_size as rank_and_world_size

T = TypeVar("T")


def all_gather(values: Tensor) -> Tensor:
    """``(B * world, ...)``: the rows of all processes, which have as many each, in the order of their ranks."""
    if not is_distributed():
        return values
    parts = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, values.contiguous())
    return torch.cat(parts)


def run_sharded(tasks: Sequence[Callable[[], T]], threads: int = 1) -> list[T]:
    """The results of all tasks, in their order, in every process; each process does its part of them.

    The results must be on the CPU, and all processes must bring the same tasks. The first process does the first, the
    ``world``-th after it, and so on: with the longest task first all take about as long. Within a process, ``threads``
    of them run at a time.
    """
    rank, world = rank_and_world_size()
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
