"""The order in which samples are visited."""

from __future__ import annotations

import math
from itertools import chain
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DistributedSampler

from noisylabels_pl.data import Selection, SelectionSampler
from noisylabels_pl.data.sampler import SelectionBatches

few = settings(derandomize=True, max_examples=60, deadline=None)


def over(n: int, **options: Any) -> SelectionSampler:
    dataset: Any = range(n)
    return SelectionSampler(dataset, **options)


def order(n: int, *, epoch: int = 0, selection: Selection | None = None, **options: Any) -> list[Any]:
    sampler = over(n, **options)
    sampler.set_epoch(epoch)
    sampler.selection = selection
    return list(sampler)


def on_ranks(sampler: SelectionSampler, world: int) -> list[list[Any]]:
    """Return the keys that each process of a group of ``world`` visits."""
    visited = []
    for rank in range(world):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.distributed, "is_initialized", lambda: True)
            patch.setattr(torch.distributed, "get_world_size", lambda *_: world)
            patch.setattr(torch.distributed, "get_rank", lambda *_, rank=rank: rank)
            visited.append(list(sampler))
            assert len(sampler) == len(visited[-1])
    return visited


def interleave(visited: list[list[Any]]) -> list[Any]:
    """One of each rank in turn, as a step takes them; ranks may be one short at the end."""
    longest = max(map(len, visited))
    return [keys[step] for step in range(longest) for keys in visited if step < len(keys)]


def test_lightning_leaves_it_alone() -> None:
    assert isinstance(over(3), DistributedSampler)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("pad", [True, False])
@pytest.mark.parametrize("n", [1, 2, 97])
def test_every_sample_once_per_epoch(n: int, pad: bool, shuffle: bool) -> None:
    for epoch in range(3):
        assert sorted(order(n, epoch=epoch, pad=pad, shuffle=shuffle)) == list(range(n))


def test_without_shuffling_the_order_is_that_of_the_dataset() -> None:
    assert order(20, epoch=3, shuffle=False) == list(range(20))


def test_order_is_reproducible() -> None:
    torch.manual_seed(1)
    first = order(50, seed=4, epoch=2)
    torch.manual_seed(2)
    assert order(50, seed=4, epoch=2) == first


def test_order_changes_with_epoch_and_seed() -> None:
    epochs = {tuple(order(50, seed=0, epoch=epoch)) for epoch in range(6)}
    seeds = {tuple(order(50, seed=seed)) for seed in range(6)}
    assert len(epochs) == len(seeds) == 6


def test_order_is_repeated_within_an_epoch() -> None:
    sampler = over(50)
    assert list(sampler) == list(sampler)


def test_iterating_draws_nothing_from_the_global_generator() -> None:
    before = torch.get_rng_state()
    order(50)
    assert torch.equal(torch.get_rng_state(), before)


def test_every_position_comes_first_about_as_often() -> None:
    first = torch.tensor([order(5, seed=seed)[0] for seed in range(500)])
    # Binomial(500, 1/5), four sigma.
    assert ((torch.bincount(first, minlength=5) - 100).abs() <= 4 * math.sqrt(500 * 0.16)).all()


def test_selection_replaces_the_dataset() -> None:
    sampler = over(30)
    sampler.selection = Selection(torch.tensor([4, 9, 9, 27]))
    assert len(sampler) == 4
    assert sorted(sampler) == [4, 9, 9, 27]
    sampler.selection = None
    assert len(sampler) == 30
    assert sorted(sampler) == list(range(30))


def test_keys_are_plain_integers() -> None:
    assert {type(key) for key in order(5)} == {int}
    selection = Selection(torch.tensor([3, 1]), partners=torch.tensor([0, 2]))
    ((key, partner), _) = order(5, selection=selection)
    assert type(key) is int
    assert type(partner) is int


def test_selection_is_shuffled_anew_every_epoch() -> None:
    selection = Selection(torch.arange(50) * 2)
    assert order(100, selection=selection, epoch=0) != order(100, selection=selection, epoch=1)
    assert order(100, selection=selection, epoch=1) == order(100, selection=selection, epoch=1)
    assert order(100, selection=selection, shuffle=False) == selection.indices.tolist()


def test_partners_stay_with_their_samples() -> None:
    indices, partners = torch.arange(20) + 5, torch.arange(20).flip(0)
    keys = order(40, selection=Selection(indices, partners=partners), epoch=1)
    assert sorted(keys) == list(zip(indices.tolist(), partners.tolist(), strict=True))
    assert keys != sorted(keys)


@few
@given(st.integers(1, 40), st.integers(2, 3), st.integers(0, 5), st.booleans())
def test_ranks_together_are_one_process(n: int, world: int, epoch: int, shuffle: bool) -> None:
    sampler = over(n, shuffle=shuffle, seed=3)
    sampler.set_epoch(epoch)
    alone = list(sampler)
    visited = on_ranks(sampler, world)
    assert {len(keys) for keys in visited} == {math.ceil(n / world)}
    together = interleave(visited)
    assert together[:n] == alone
    # Padding repeats the start, and no more of it than needed.
    assert together[n:] == (alone * world)[: len(together) - n]


@few
@given(st.integers(1, 40), st.integers(2, 3), st.booleans())
def test_ranks_cover_everything_once_without_padding(n: int, world: int, shuffle: bool) -> None:
    sampler = over(n, shuffle=shuffle, pad=False)
    visited = on_ranks(sampler, world)
    assert interleave(visited) == list(sampler)
    assert sorted(chain.from_iterable(visited)) == list(range(n))


@pytest.mark.parametrize("pad", [True, False])
@pytest.mark.parametrize("paired", [True, False])
def test_ranks_share_a_selection(paired: bool, pad: bool) -> None:
    indices, partners = torch.arange(7) * 3, torch.arange(7) + 1
    sampler = over(30, pad=pad)
    sampler.selection = Selection(indices, partners=partners if paired else None)
    alone = list(sampler)
    together = interleave(on_ranks(sampler, 3))
    assert together[:7] == alone
    assert together[7:] == (alone[:2] if pad else [])


def test_step_of_all_ranks_is_a_step_of_one_process() -> None:
    # Two processes with batches of 4 see, step by step, the samples that one process sees with batches of 8.
    sampler = over(48, seed=1)
    alone, visited = list(sampler), on_ranks(sampler, 2)
    for step in range(6):
        together = {key for keys in visited for key in keys[4 * step : 4 * step + 4]}
        assert together == set(alone[8 * step : 8 * step + 8])


def test_one_object_serves_one_process_and_many() -> None:
    sampler = over(12)
    before = list(sampler)
    on_ranks(sampler, 3)
    assert list(sampler) == before
    assert len(sampler) == 12


def batch_sizes(num_selected: int, batch_size: int, *, world: int = 1, drop_last: bool = False) -> list[list[int]]:
    """Return the sizes of each process's batches of a selection."""
    sampler = over(100)
    sampler.selection = Selection(torch.arange(num_selected))
    batches: Any = SelectionBatches(sampler, batch_size, drop_last)
    return [[len(batch) for batch in keys] for keys in on_ranks(batches, world)]


@pytest.mark.parametrize(
    ("num_selected", "batch_size", "sizes"),
    [
        (8, 4, [4, 4]),
        (9, 4, [4, 5]),
        (10, 4, [4, 4, 2]),
        (5, 2, [2, 3]),
        (3, 1, [1, 1, 1]),
        (5, 4, [5]),
        (1, 4, [1]),
        (4, 5, [4]),
    ],
)
def test_a_last_sample_of_a_selection_joins_the_batch_before(
    num_selected: int, batch_size: int, sizes: list[int]
) -> None:
    assert batch_sizes(num_selected, batch_size) == [sizes]


def test_a_last_sample_is_dropped_with_drop_last() -> None:
    assert batch_sizes(9, 4, drop_last=True) == [[4, 4]]


@pytest.mark.parametrize("num_selected", [17, 18])
def test_the_processes_join_alike(num_selected: int) -> None:
    assert batch_sizes(num_selected, 4, world=2) == [[4, 5], [4, 5]]


def test_without_a_selection_the_batches_are_those_of_torch() -> None:
    sampler = over(9)
    batches = SelectionBatches(sampler, 4, drop_last=False)
    assert list(batches) == list(BatchSampler(sampler, 4, drop_last=False))
    assert len(batches) == 3


def test_joined_batches_keep_the_order() -> None:
    sampler = over(30, seed=2)
    sampler.selection = Selection(torch.arange(9) * 3)
    assert list(chain.from_iterable(SelectionBatches(sampler, 4, drop_last=False))) == list(sampler)


@pytest.mark.parametrize("seed", [-1, 0.5, float("nan"), "0"])
def test_wrong_seeds(seed: Any) -> None:
    with pytest.raises(ValueError, match="seed must"):
        over(3, seed=seed)
