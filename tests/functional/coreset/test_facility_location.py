"""Greedy facility location: every pick has the largest gain, by hand, by brute force and by an independent greedy."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from noisylabels_pl.functional import facility_location
from tests.functional.coreset.helpers import assert_greedy, direct_distances, few, normal, outlier
from tests.functional.helpers import seeded


def test_facility_location_by_hand() -> None:
    # On a line, d0 = 30. Row sums of d: 66, 61, 58, 50, 51, 54, 144, so 10 is first (F = 7 * 30 - 50 = 160).
    # Then 1 gains 9 + 9 + 7 = 25 (0 and 2 gain 24, 30 gains 20), then 30 gains 20 (12 gains 5, the others 2 at most).
    coreset = facility_location(torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0], [30.0]]), 3)
    assert coreset.indices.tolist() == [3, 1, 6]
    assert coreset.assignment.tolist() == [1, 1, 1, 0, 0, 0, 2]
    assert coreset.cluster_sizes.tolist() == [3, 3, 1]
    assert coreset.objective == pytest.approx(205.0)
    assert coreset.cost == pytest.approx(5.0)


@pytest.mark.parametrize(("dtype", "rel"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize(
    ("n", "d", "k"), [(2, 1, 2), (5, 2, 5), (30, 1, 15), (64, 3, 64), (129, 10, 40), (300, 2, 150), (300, 64, 300)]
)
def test_every_pick_has_the_largest_gain(n: int, d: int, k: int, dtype: torch.dtype, rel: float) -> None:
    for seed in range(3):
        x = normal(n, d, seed=100 * seed + n, dtype=dtype)
        assert_greedy(direct_distances(x), facility_location(x, k).indices, rel)


@few
@given(st.integers(2, 40), st.integers(1, 4), st.integers(0, 10**6), st.data())
def test_every_pick_has_the_largest_gain_on_a_lattice(n: int, d: int, seed: int, data: st.DataObject) -> None:
    # Small integer coordinates: duplicate rows and ties everywhere.
    x = torch.randint(-2, 3, (n, d), generator=seeded(seed)).double()
    picks = facility_location(x, data.draw(st.integers(1, n), label="k")).indices
    # Once every point is covered the largest gain is 0 up to rounding, where a relative bound says nothing.
    distinct = len(x.unique(dim=0))
    assert_greedy(direct_distances(x), picks[:distinct], 1e-9)
    assert len(x[picks[:distinct]].unique(dim=0)) == min(distinct, len(picks))


def test_every_pick_has_the_largest_gain_in_skewed_clusters() -> None:
    # Clusters of very different size and spread: stale gains and true gains disagree most here.
    parts = [normal(m, 3, seed=m) * s + 20 * c for c, (m, s) in enumerate([(120, 0.1), (60, 3.0), (8, 1.0), (1, 1.0)])]
    x = torch.cat(parts)
    assert_greedy(direct_distances(x), facility_location(x, 90).indices, 1e-9)


def lazy_best(d: Tensor, nearest: Tensor, bound: Tensor) -> tuple[int, float]:
    """The candidate of largest gain; `bound` holds gains of earlier steps, which can only have fallen since."""
    while True:
        top = bound.topk(min(32, len(bound))).indices
        bound[top] = (nearest - d[top]).clamp(min=0).sum(1)
        best = int(bound.argmax())
        if best in top.tolist():
            return best, bound[best].item()


def test_large_value_equals_an_independent_greedy(large: tuple[Tensor, Tensor]) -> None:
    x, d = large
    k, d0 = 300, d.max()
    nearest, bound = torch.full((len(d),), d0.item(), dtype=torch.float64), (d0 - d).sum(1)
    expected = 0.0
    for _ in range(k):
        j, gain = lazy_best(d, nearest, bound)
        expected += gain
        nearest = torch.minimum(nearest, d[j])
    coreset = facility_location(x, k)
    assert coreset.objective == pytest.approx(expected, rel=1e-5)
    # F is dominated by n * d0; the selection shows in the cost.
    assert coreset.cost == pytest.approx(nearest.sum().item(), rel=1e-3)


def test_large_picks_have_the_largest_gain(large: tuple[Tensor, Tensor]) -> None:
    x, d = large
    nearest, bound = torch.full((len(d),), d.max().item(), dtype=torch.float64), (d.max() - d).sum(1)
    for step, pick in enumerate(facility_location(x, 300).indices.tolist()):
        gain = (nearest - d[pick]).clamp(min=0).sum().item()
        assert gain >= lazy_best(d, nearest, bound)[1] * (1 - 1e-5), step
        nearest = torch.minimum(nearest, d[pick])


@pytest.mark.parametrize("n", [4, 8, 12])
def test_within_one_minus_one_over_e_of_the_optimum(n: int) -> None:
    for seed in range(4):
        x = normal(n, 2, seed=10 + seed)
        d = direct_distances(x)
        for k in range(1, n // 2 + 1):
            subsets = torch.tensor(list(combinations(range(n), k)))
            optimum = (d.max() - d[:, subsets]).amax(2).sum(0).max().item()
            objective = facility_location(x, k).objective
            assert (1 - 1 / math.e) * optimum <= objective <= optimum * (1 + 1e-12)
            if k == 1:
                assert objective == pytest.approx(optimum, rel=1e-12)


def test_covers_separate_clusters_first() -> None:
    # Five far groups of 20: the first five picks take one each, whatever the order.
    group = torch.arange(100) % 5
    x = 100.0 * torch.eye(5)[group] + normal(100, 5, seed=11, dtype=torch.float32)
    coreset = facility_location(x, 5)
    assert sorted(group[coreset.indices].tolist()) == [0, 1, 2, 3, 4]
    assert torch.equal(group[coreset.indices][coreset.assignment], group)
    assert coreset.cluster_sizes.tolist() == [20] * 5


@pytest.mark.parametrize("scale", [1e-3, 1e-5, 1e-6])
def test_points_much_nearer_to_each_other_than_the_farthest(scale: float) -> None:
    x = outlier(120, scale)
    distances = direct_distances(x)
    nearest, picks = distances.amax().expand(len(x)), []
    for _ in range(60):
        gains = (nearest.unsqueeze(1) - distances).clamp(min=0).sum(0)
        gains[picks] = -1
        picks.append(int(gains.argmax()))
        nearest = torch.minimum(nearest, distances[:, picks[-1]])
    found = distances[:, facility_location(x, 60).indices].amin(1).sum()
    assert float(found) == pytest.approx(float(nearest.sum()), rel=1e-3)
