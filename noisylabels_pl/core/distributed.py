"""Work that the processes of DDP do together."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from noisylabels_pl.data.sampler import is_distributed, rank_and_world_size

__all__ = ["all_gather", "check_equal_batches", "is_distributed", "rank_and_world_size", "run_sharded"]

Result = TypeVar("Result")


def all_gather(values: Tensor) -> Tensor:
    """Return the values of all processes, in the order of their ranks.

    Args:
        values: ``(B, ...)``, of the same shape in every process.

    Returns:
        ``(world_size * B, ...)``; ``values`` itself where there is one process.

    Example:
        >>> all_gather(torch.tensor([1, 2]))
        tensor([1, 2])
    """
    if not is_distributed():
        return values
    gathered = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, values.contiguous())
    return torch.cat(gathered)


def check_equal_batches(loader: Any) -> None:
    """Check that all processes get batches of the same sizes, which :func:`all_gather` needs.

    It communicates once, before a fit: a check of each batch would make each step wait for the device.

    Args:
        loader: the training loader of this process.

    Raises:
        ValueError: batch sizes or numbers of samples differ.
    """
    if not is_distributed():
        return
    sampler = getattr(loader, "sampler", None)
    num_samples = len(sampler) if isinstance(sampler, Sized) else None
    by_rank: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(by_rank, (getattr(loader, "batch_size", None), num_samples))
    if len(set(by_rank)) > 1:
        described = ", ".join(f"rank {rank} {size} of {samples}" for rank, (size, samples) in enumerate(by_rank))
        raise ValueError(
            f"the processes get batches of different sizes (batch size and samples: {described}), but the state of all "
            "samples is exchanged in equal parts; give all ranks one batch_size and equally many samples, as "
            "indexed(DataLoader(dataset, shuffle=True)) does"
        )


def run_sharded(tasks: Sequence[Callable[[], Result]], num_threads: int = 1) -> list[Result]:
    """Run each task in one of the processes, and return all results in every process.

    Rank ``r`` of ``w`` runs the tasks ``r, r + w, ...``: with the longest task first, all ranks take about as long.

    Args:
        tasks: the same in all processes; their results must be on the CPU.
        num_threads: tasks that run at the same time within a process.

    Returns:
        The results, in the order of the tasks.

    Example:
        >>> run_sharded([lambda: "first", lambda: "second"])
        ['first', 'second']
    """
    rank, world_size = rank_and_world_size()
    local_tasks = tasks[rank::world_size]
    if num_threads == 1:  # in this thread, in which the device is the current one
        local_results = [task() for task in local_tasks]
    else:
        with ThreadPoolExecutor(num_threads) as pool:
            local_results = list(pool.map(lambda task: task(), local_tasks))
    if world_size == 1:
        return local_results
    results_by_rank: list[list[Result]] = [[] for _ in range(world_size)]
    dist.all_gather_object(results_by_rank, local_results)
    return [results_by_rank[position % world_size][position // world_size] for position in range(len(tasks))]
