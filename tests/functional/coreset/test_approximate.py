"""Greedy facility location from samples of candidates and by parts of the points."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from noisylabels_pl.functional import Coreset, distributed_greedy, facility_location, stochastic_greedy
from noisylabels_pl.functional.coreset import greedy_torch
from tests.functional.coreset.helpers import (
    Selector,
    assert_consistent,
    assert_greedy,
    direct_distances,
    gradients,
    normal,
)
from tests.functional.helpers import seeded


def from_samples(x: Tensor, k: int) -> Coreset:
    return stochastic_greedy(x, k, generator=seeded(0))


def by_parts(x: Tensor, k: int) -> Coreset:
    return distributed_greedy(x, k, parts=min(3, len(x)), generator=seeded(0))


both = pytest.mark.parametrize("select", [from_samples, by_parts])


@both
@pytest.mark.parametrize(("dtype", "rel"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("n", "d", "k"), [(1, 4, 1), (2, 3, 1), (7, 2, 7), (40, 1, 39), (150, 5, 60), (200, 3, 4)])
def test_approximate_result_is_consistent(
    select: Selector, n: int, d: int, k: int, dtype: torch.dtype, rel: float
) -> None:
    x = normal(n, d, seed=n + k, dtype=dtype)
    assert_consistent(x, select(x, k), k, rel)


@both
@pytest.mark.parametrize("k", [1, 4, 9])
def test_approximate_with_duplicate_rows(select: Selector, k: int) -> None:
    x = torch.tensor([[0.0], [0.0], [1.0]]).repeat(3, 1)
    coreset = select(x, k)
    assert_consistent(x, coreset, k, 1e-6)
    same = select(torch.full((9, 3), 0.1), k)
    assert (same.cost, same.objective) == (0.0, 0.0)


@pytest.mark.parametrize(("n", "k"), [(12, 12), (60, 7), (200, 90)])
def test_a_sample_of_all_candidates_is_exact(n: int, k: int) -> None:
    x = normal(n, 3, seed=n)
    coreset = stochastic_greedy(x, k, eps=math.exp(-k), generator=seeded(0))
    assert_greedy(direct_distances(x), coreset.indices, 1e-9)
    exact = greedy_torch.greedy(x, k)  # with the same rule for ties
    assert coreset.indices.tolist() == exact.indices.tolist()
    assert torch.equal(exact.indices[coreset.assignment], exact.indices[exact.assignment])


def test_a_step_takes_the_largest_gain_of_some_candidates() -> None:
    # 20 of 200 at a time: never the best of all throughout, but always better than most.
    x = normal(200, 3, seed=17)
    d, covered, ranks = direct_distances(x), torch.zeros(200, dtype=torch.float64), []
    for pick in stochastic_greedy(x, 20, eps=math.exp(-2), generator=seeded(1)).indices.tolist():
        gains = ((d.max() - d) - covered[:, None]).clamp(min=0).sum(0)
        ranks.append(int((gains > gains[pick]).sum()))
        covered = torch.maximum(covered, d.max() - d[:, pick])
    assert max(ranks) > 0
    assert sum(ranks) / len(ranks) < 25  # 9 are expected


def test_one_part_is_exact() -> None:
    x = normal(90, 3, seed=18)
    whole, exact = distributed_greedy(x, 30, parts=1), facility_location(x, 30)
    assert whole.indices.tolist() == exact.indices.tolist()
    assert whole.assignment.tolist() == exact.assignment.tolist()
    assert distributed_greedy(x, 30).indices.tolist() == exact.indices.tolist()  # too few points for two parts


def test_parts_of_single_points_are_exact() -> None:
    x = normal(60, 3, seed=19)
    picks = distributed_greedy(x, 25, parts=60, generator=seeded(0)).indices
    assert_greedy(direct_distances(x), picks, 1e-9)


@both
def test_approximate_follows_the_generator_only(select: Selector) -> None:
    x = normal(300, 4, seed=20)
    torch.manual_seed(0)
    first = select(x, 60)
    torch.manual_seed(1)
    assert select(x, 60).indices.tolist() == first.indices.tolist()
    assert stochastic_greedy(x, 60, generator=seeded(1)).indices.tolist() != from_samples(x, 60).indices.tolist()
    assert stochastic_greedy(x, 60).indices.shape == distributed_greedy(x, 60, parts=2).indices.shape


@pytest.mark.parametrize("k", [100, 500])
def test_approximate_costs_little_more_than_exact(k: int) -> None:
    x = gradients(1000)
    exact = facility_location(x, k).cost
    for seed in range(2):
        assert exact * (1 - 1e-6) <= stochastic_greedy(x, k, generator=seeded(seed)).cost <= 1.15 * exact
        assert exact * (1 - 1e-6) <= distributed_greedy(x, k, parts=4, generator=seeded(seed)).cost <= 1.06 * exact


@pytest.mark.parametrize("eps", [0.0, 1.0, -0.1, 2.0, math.nan])
def test_eps_out_of_range(eps: float) -> None:
    with pytest.raises(ValueError, match=r"\beps\b"):
        stochastic_greedy(normal(12, 2, seed=8), 3, eps=eps)


@pytest.mark.parametrize("parts", [-1, 0, 13])
def test_parts_out_of_range(parts: int) -> None:
    with pytest.raises(ValueError, match=r"\bparts\b"):
        distributed_greedy(normal(12, 2, seed=8), 3, parts=parts)


@both
@pytest.mark.parametrize("k", [0, 13])
def test_approximate_k_out_of_range(select: Selector, k: int) -> None:
    with pytest.raises(ValueError, match=r"\bk\b"):
        select(normal(12, 2, seed=8), k)
