"""Greedy in torch: the picks do not depend on how much memory it may take."""

from __future__ import annotations

import pytest
import torch

from noisylabels_pl.functional.coreset import distances, greedy_torch
from tests.functional.coreset.helpers import gradients, outlier


@pytest.fixture(autouse=True, scope="module")
def engine() -> None:
    """Nothing here depends on the engine."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_picks_with_little_memory(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    x = gradients(400).to(dtype)
    with_plenty = [greedy_torch.greedy(x, 150), greedy_torch.central(x, 150)]
    for free in (0.0, 1e6, 3e6):  # greedy picks one by one to the end, for some picks, and never
        monkeypatch.setattr(distances, "free_memory", lambda device, free=free: free)
        with_little = [greedy_torch.greedy(x, 150), greedy_torch.central(x, 150)]
        for expected, medoids in zip(with_plenty, with_little, strict=True):
            for expected_field, field in zip(expected, medoids, strict=True):
                assert torch.equal(torch.as_tensor(expected_field), torch.as_tensor(field))


def test_as_many_distinct_picks_as_asked_for_with_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for max_pairs in (400, 1200, 4000, 8000):
        plan = distances.MemoryPlan(chunk_size=400, max_pairs=max_pairs, num_bytes=0)
        monkeypatch.setattr(distances, "memory_plan", lambda *args, plan=plan: plan)
        for seed in range(8):
            for x in (outlier(400, 1e-6, seed), gradients(400, seed=seed)):
                for k in (200, 400):
                    assert len(greedy_torch.greedy(x, k).indices.unique()) == k
