"""Work that processes share: every task runs once, and all processes get all results in order."""

from __future__ import annotations

from functools import partial
from threading import get_ident
from typing import Any

import pytest
import torch
from torch import distributed as dist

from noisylabels_pl.core import distributed
from noisylabels_pl.core.distributed import all_gather, rank_and_world_size, run_sharded


def test_one_process() -> None:
    assert rank_and_world_size() == (0, 1)
    values = torch.arange(3)
    assert all_gather(values) is values
    assert run_sharded([partial(int, number) for number in range(5)]) == [0, 1, 2, 3, 4]


def test_one_thread_is_this_one() -> None:
    """In which the current CUDA device is set."""
    assert run_sharded([get_ident, get_ident]) == [get_ident()] * 2
    assert get_ident() not in run_sharded([get_ident, get_ident], num_threads=2)


@pytest.mark.parametrize("num_tasks", [0, 1, 2, 7])
@pytest.mark.parametrize("world_size", [2, 3])
def test_several_processes(num_tasks: int, world_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Restated in one process: each rank runs its tasks first, then all of them gather."""
    calls: list[int] = []

    def task(number: int) -> int:
        calls.append(number)
        return 10 * number

    tasks = [partial(task, number) for number in range(num_tasks)]
    local: dict[int, Any] = {}
    results = {}
    for gathers in (False, True):
        for rank in range(world_size):

            def all_gather_object(gathered: list[Any], mine: Any, rank: int = rank, gathers: bool = gathers) -> None:
                local[rank] = mine
                if gathers:
                    gathered[:] = [local[other] for other in range(world_size)]
                else:
                    gathered[:] = [[None] * num_tasks] * world_size

            monkeypatch.setattr(distributed, "rank_and_world_size", lambda rank=rank: (rank, world_size))
            monkeypatch.setattr(dist, "all_gather_object", all_gather_object)
            results[rank] = run_sharded(tasks)
        if not gathers:
            assert sorted(calls) == list(range(num_tasks))
    assert all(result == [10 * number for number in range(num_tasks)] for result in results.values())
