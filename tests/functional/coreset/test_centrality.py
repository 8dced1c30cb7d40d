"""Centrality: the points with the smallest mean distances, in order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from noisylabels_pl.functional import centrality
from tests.functional.coreset.helpers import assert_most_central, direct_distances, normal
from tests.functional.helpers import seeded


def test_centrality_by_hand() -> None:
    # Row sums of d for 10, 3, 2, 1, 0: 34, 13, 12, 13, 16; the tie of 3 and 1 goes to the lower index.
    coreset = centrality(torch.tensor([[10.0], [3.0], [2.0], [1.0], [0.0]]), 3)
    assert coreset.indices.tolist() == [2, 1, 3]
    assert coreset.assignment.tolist() == [1, 1, 0, 2, 2]
    assert coreset.cluster_sizes.tolist() == [1, 2, 2]
    assert coreset.cost == pytest.approx(8.0)
    assert coreset.objective == pytest.approx(42.0)


@pytest.mark.parametrize(("n", "d", "k"), [(2, 1, 1), (50, 3, 50), (300, 2, 150), (1100, 6, 400)])
def test_centrality_is_argsort_of_mean_distance(n: int, d: int, k: int) -> None:
    x = normal(n, d, seed=n)
    means = direct_distances(x).mean(1)
    assert centrality(x, k).indices.tolist() == means.argsort(stable=True)[:k].tolist()
    low = x.float()
    assert_most_central(direct_distances(low), centrality(low, k).indices, 1e-5)


def test_centrality_of_many_points(large: tuple[Tensor, Tensor]) -> None:
    x, d = large
    assert_most_central(d, centrality(x, 1500).indices, 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [6, 7, 101])
def test_centrality_ties_go_to_the_lower_index(n: int, dtype: torch.dtype) -> None:
    # 0, 1, .., n-1 shuffled: all sums are exact integers, and the points i and n-1-i tie.
    place = torch.randperm(n, generator=seeded(n))
    sums = (place[:, None] - place[None, :]).abs().sum(1).tolist()
    expected = sorted(range(n), key=lambda i: (sums[i], i))
    assert centrality(place.to(dtype)[:, None], n).indices.tolist() == expected


def test_centrality_of_equal_rows_keeps_their_order() -> None:
    assert centrality(torch.full((40, 3), 0.7), 25).indices.tolist() == list(range(25))
