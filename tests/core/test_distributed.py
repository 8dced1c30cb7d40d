"""Work that processes share: every task runs once, and all processes get all results in order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import get_ident
from typing import Any

import lightning as L
import pytest
import torch
from torch import distributed as dist
from torch.utils.data import DataLoader, Sampler, TensorDataset

from noisylabels_pl import ELR, SPL, indexed
from noisylabels_pl.core import distributed
from noisylabels_pl.core.distributed import all_gather, check_equal_batches, rank_and_world_size, run_sharded
from tests.core.filter_helpers import Plain, problem
from tests.processes import run_on_two_ranks


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


class Uneven(Sampler[int]):
    """Divides the samples by itself."""

    def __init__(self, samples: range) -> None:
        self.samples = samples

    def __iter__(self) -> Iterator[int]:
        return iter(self.samples)

    def __len__(self) -> int:
        return len(self.samples)


def fit_unevenly(batch_sizes: list[int], parts: list[range]) -> list[str]:
    """Return the messages with which methods refuse batches of different sizes."""
    rank = int(os.environ["LOCAL_RANK"])
    loader = DataLoader(TensorDataset(*problem("ce")), batch_sizes[rank], sampler=Uneven(parts[rank]))
    messages = []
    for method in (ELR(), SPL(0.2, scope="global")):
        trainer = L.Trainer(
            accelerator="cpu",
            strategy="ddp",
            devices=2,
            max_epochs=1,
            callbacks=[method],
            use_distributed_sampler=False,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        with pytest.raises(ValueError, match="different sizes") as error:
            trainer.fit(Plain(), indexed(loader))
        messages.append(str(error.value))
    return messages


@pytest.mark.processes
@pytest.mark.parametrize(
    ("batch_sizes", "parts", "described"),
    [
        ([16, 8], [range(48), range(24)], "rank 0 16 of 48, rank 1 8 of 24"),
        ([16, 16], [range(30), range(30, 59)], "rank 0 16 of 30, rank 1 16 of 29"),
    ],
    ids=["batch sizes", "last batches"],
)
def test_batches_of_different_sizes(batch_sizes: list[int], parts: list[range], described: str, tmp_path: Path) -> None:
    """Both processes say so, instead of waiting for each other or reading beyond the end."""
    for messages in run_on_two_ranks(fit_unevenly, batch_sizes, parts, folder=tmp_path):
        assert len(messages) == 2
        for message in messages:
            assert f"(batch size and samples: {described})" in message


def test_one_process_has_nothing_to_compare() -> None:
    check_equal_batches(None)
