"""Distances in chunks, their exact sums, and the memory that is planned for them."""

from __future__ import annotations

import pytest
import torch

from noisylabels_pl.functional.coreset import distances
from noisylabels_pl.functional.coreset.distances import Distances, distances_to, largest_distance
from tests.functional.coreset.helpers import direct_distances, gradients, normal


@pytest.fixture(autouse=True, scope="module")
def engine() -> None:
    """Nothing here depends on the engine."""


def test_planned_memory_is_within_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    ample = distances.memory_plan(50_000, 10, cpu)
    monkeypatch.setattr(distances, "free_memory", lambda device: 2e8)
    scarce = distances.memory_plan(50_000, 10, cpu)
    assert scarce.num_bytes <= 1e8 < ample.num_bytes < 0.3 * 2**30
    monkeypatch.setattr(distances, "free_memory", lambda device: None)
    assert distances.memory_plan(50_000, 10, cpu) == ample


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_chunks_make_up_all_distances(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    points = normal(50, 4, seed=0, dtype=dtype)
    plan = distances.MemoryPlan(chunk_size=7 * 50, max_pairs=0, num_bytes=0)
    monkeypatch.setattr(distances, "memory_plan", lambda *args: plan)
    in_chunks = Distances(points)
    chunks = [in_chunks.between(rows).clone() for rows in in_chunks.chunks()]
    assert [len(chunk) for chunk in chunks] == [7] * 7 + [1]
    expected = direct_distances(points)
    torch.testing.assert_close(torch.cat(chunks), expected, rtol=0, atol=1e-7 * expected.max().item())
    torch.testing.assert_close(in_chunks.to_candidate(torch.tensor(3)), expected[3], rtol=1e-7, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_are_the_same_in_any_order(dtype: torch.dtype) -> None:
    points = gradients(300).to(dtype)
    matrix = Distances(points).between(slice(0, 300)).clone()
    totals = matrix.sum(1)
    for seed in range(3):
        order = torch.randperm(300, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(matrix[:, order].cumsum(1)[:, -1], totals)


def test_the_largest_distance_and_single_distances() -> None:
    points = normal(200, 3, seed=1)
    expected = direct_distances(points)
    assert largest_distance(points) == pytest.approx(expected.max().item(), rel=1e-12)
    others = torch.arange(200).roll(1)
    torch.testing.assert_close(distances_to(points, others), expected[torch.arange(200), others])
    torch.testing.assert_close(distances_to(points, points[5]), expected[5])
