"""Epochs with at most so many samples of each class."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from noisylabels_pl.data import Selection, SelectionSampler
from noisylabels_pl.data.class_cap import ClassCap

LABELS = torch.tensor([0] * 50 + [1] * 20 + [3] * 5)  # no sample of class 2


def sampler(max_per_class: int = 10, **options: Any) -> SelectionSampler:
    dataset: Any = range(len(LABELS))
    return SelectionSampler(dataset, class_cap=ClassCap(LABELS, max_per_class), **options)


def visited(made: SelectionSampler, epoch: int = 0) -> list[int]:
    made.set_epoch(epoch)
    order = list(made)
    assert len(order) == len(made)
    return order


@pytest.mark.parametrize("limit", [1, 5, 7, 20, 100])
def test_each_class_is_visited_up_to_the_limit(limit: int) -> None:
    order = visited(sampler(limit))
    assert len(set(order)) == len(order)
    sizes = torch.bincount(LABELS[order], minlength=4)
    assert sizes.tolist() == [min(limit, size) for size in (50, 20, 0, 5)]


def test_each_epoch_draws_anew_and_all_samples_come_up() -> None:
    made = sampler()
    assert visited(made, 0) != visited(made, 1)
    assert visited(made, 0) == visited(sampler(), 0)
    assert visited(made, 0) != visited(sampler(seed=1), 0)
    seen = {position for epoch in range(60) for position in visited(made, epoch)}
    assert seen == set(range(len(LABELS)))


def test_order_is_shuffled_across_classes() -> None:
    labels = LABELS[visited(sampler(5))]
    assert not torch.equal(labels, labels.sort().values)


def test_a_selection_is_made_among_all_samples() -> None:
    made = sampler(1)
    made.selection = Selection(torch.arange(30))
    assert sorted(visited(made)) == list(range(30))


def test_ranks_share_the_epoch_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    made = sampler(10)
    alone = visited(made)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda *_: 2)
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda *_, rank=rank: rank)
        parts.append(visited(made))
    assert len(parts[0]) == len(parts[1]) == 13  # of 25, one is repeated
    assert set(parts[0]) | set(parts[1]) == set(alone)
