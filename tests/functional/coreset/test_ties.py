"""Exact ties go to the lower index: both engines pick what plain greedy picks, on points full of ties."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import Tensor

from noisylabels_pl.functional import centrality, facility_location
from noisylabels_pl.functional.coreset import distances, selectors
from tests.functional.coreset.helpers import direct_distances, few, gradients, normal
from tests.functional.helpers import seeded


def exact_distances(points: Tensor) -> Tensor:
    """Distances on a grid on which all of their sums are exact."""
    matrix = direct_distances(points)
    spacing = 2.0 ** math.ceil(math.log2(max(1e-300, float(matrix.max()) * max(len(points), 2**13))) - 51)
    return (matrix / spacing).round() * spacing


def plain_greedy(points: Tensor, k: int) -> list[int]:
    """The first point of the largest gain, again and again."""
    matrix = exact_distances(points)
    nearest = matrix.amax().expand(len(points))
    picks: list[int] = []
    for _ in range(k):
        gains = (nearest.unsqueeze(1) - matrix).clamp(min=0).sum(0)
        gains[picks] = -1
        picks.append(int(gains.argmax()))
        nearest = torch.minimum(nearest, matrix[picks[-1]])
    return picks


def square_grid(size: int) -> Tensor:
    side = torch.arange(size)
    return torch.cartesian_prod(side, side).float()


def with_ties() -> dict[str, Tensor]:
    shuffled = torch.randperm(400, generator=seeded(3))
    return {
        "square grid": square_grid(20),
        "shuffled square grid": square_grid(20)[shuffled],
        "scaled square grid": square_grid(20)[shuffled] * 0.1,
        "few integers": torch.randint(0, 3, (500, 4), generator=seeded(0)).float(),
        "corners of a cube": torch.randint(0, 2, (300, 6), generator=seeded(1)).float(),
        "duplicated": normal(150, 5, seed=0, dtype=torch.float32)[torch.randint(150, (500,), generator=seeded(2))],
        "duplicated gradients": gradients(200)[torch.randint(200, (500,), generator=seeded(4))],
        "float64 duplicated": normal(150, 3, seed=1)[torch.randint(150, (400,), generator=seeded(5))],
        "digits": torch.from_numpy(load_digits().data[:700]).float(),
        "gradients": gradients(700),
        "far from the origin": square_grid(15) + 1e4,
    }


@pytest.mark.parametrize("name", with_ties())
def test_the_first_of_the_largest_gains_is_picked(name: str) -> None:
    points = with_ties()[name]
    k = len(points) // 2
    assert facility_location(points, k).indices.tolist() == plain_greedy(points, k)


@few
@given(st.integers(2, 150), st.integers(1, 3), st.integers(1, 4), st.integers(0, 10**6))
def test_the_first_of_the_largest_gains_is_picked_on_lattices(n: int, d: int, largest: int, seed: int) -> None:
    points = torch.randint(0, largest + 1, (n, d), generator=seeded(seed)).float()
    assert facility_location(points, n).indices.tolist() == plain_greedy(points, n)


@pytest.mark.parametrize("max_pairs", [700, 20_000, 60_000, 500_000])
def test_the_picks_are_the_same_however_many_pairs_fit(max_pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = distances.MemoryPlan(chunk_size=700, max_pairs=max_pairs, num_bytes=0)
    monkeypatch.setattr(distances, "memory_plan", lambda *args: plan)
    compiled_engine = selectors._compiled_engine()
    if compiled_engine is not None:
        monkeypatch.setattr(compiled_engine, "COMPILED_MAX_PAIRS", max_pairs)
    for name in ("square grid", "duplicated gradients", "gradients"):
        points = with_ties()[name]
        assert facility_location(points, len(points) // 2).indices.tolist() == plain_greedy(points, len(points) // 2)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_picks_are_the_same_on_any_number_of_threads(threads: int) -> None:
    points = with_ties()["duplicated gradients"]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        picks = facility_location(points, 250).indices.tolist()
    finally:
        torch.set_num_threads(before)
    assert picks == plain_greedy(points, 250)


@pytest.mark.parametrize("name", with_ties())
def test_the_first_of_the_most_central_points_is_kept(name: str) -> None:
    points = with_ties()[name]
    k = len(points) // 2
    matrix = exact_distances(points)
    coreset = centrality(points, k)
    assert coreset.indices.tolist() == matrix.sum(1).sort(stable=True).indices[:k].tolist()
    others = torch.ones(len(points), dtype=torch.bool)
    others[coreset.indices] = False
    assert torch.equal(coreset.assignment[others], matrix[:, coreset.indices].argmin(1)[others])
