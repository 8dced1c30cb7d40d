"""Points for the tests of coresets, and assertions about coresets by brute force."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import settings
from torch import Tensor

from noisylabels_pl.functional import Coreset, logit_gradient
from tests.functional.helpers import seeded

Selector = Callable[[Tensor, int], Coreset]
few = settings(derandomize=True, max_examples=30, deadline=None)


def normal(n: int, d: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normally distributed points."""
    return torch.randn(n, d, generator=seeded(seed), dtype=torch.float64).to(dtype)


def gradients(n: int, d: int = 10, seed: int = 0) -> Tensor:
    """Points like those that CRUST selects from."""
    logits = 2 * torch.randn(n, d, generator=seeded(seed))
    return logit_gradient(logits, torch.randint(d, (n,), generator=seeded(seed + 1)))


def outlier(n: int, scale: float, seed: int = 0) -> Tensor:
    """One point far from all others, like the gradient of a wrong label when the network is sure of all others."""
    x = (scale * normal(n, 5, seed)).float()
    x[0] = 1
    return x


def direct_distances(features: Tensor) -> Tensor:
    """Subtract first, then square, in float64: exact to rounding wherever the points lie."""
    x = features.detach().double()
    return (x[:, None, :] - x[None, :, :]).square().sum(-1).sqrt()


def objective_value(d: Tensor, picks: Tensor) -> float:
    """F(S) = sum_i max_{j in S} (d0 - d_ij)."""
    return (d.max() - d[:, picks]).amax(1).sum().item()


def assert_greedy(d: Tensor, picks: Tensor, rel: float) -> None:
    """Every pick has the largest marginal gain of its step, by brute force over all candidates."""
    covered = d.new_zeros(len(d))  # the contribution of each point to F so far
    for step, pick in enumerate(picks.tolist()):
        gains = ((d.max() - d) - covered[:, None]).clamp(min=0).sum(0)
        best = gains.max().item()
        assert gains[pick].item() >= best * (1 - rel), f"step {step}: gain {gains[pick].item()}, largest {best}"
        covered = torch.maximum(covered, d.max() - d[:, pick])


def assert_most_central(d: Tensor, picks: Tensor, rel: float) -> None:
    """The picks' mean distances are the k smallest, in rising order, up to rounding."""
    means = d.mean(1)
    torch.testing.assert_close(means[picks], means.sort().values[: len(picks)], rtol=rel, atol=0)


def assert_consistent(features: Tensor, coreset: Coreset, k: int, rel: float) -> None:
    """Everything in the result follows from the indices alone."""
    n = len(features)
    d = direct_distances(features)
    indices = coreset.indices
    assignment = coreset.assignment
    sizes = coreset.cluster_sizes
    assert indices.shape == (k,)
    assert indices.dtype == torch.int64
    assert len(set(indices.tolist())) == k
    assert indices.min() >= 0
    assert indices.max() < n
    assert assignment.shape == (n,)
    assert not assignment.is_floating_point()
    assert assignment.min() >= 0
    assert assignment.max() < k
    assert assignment[indices].tolist() == list(range(k))  # a medoid belongs to its own cluster
    assert sizes.shape == (k,)
    assert sizes.tolist() == torch.bincount(assignment, minlength=k).tolist()
    assert min(sizes.tolist()) >= 1
    assert sum(sizes.tolist()) == n
    to_medoids = d[:, indices]
    assigned_distance = to_medoids.gather(1, assignment.long()[:, None]).squeeze(1)
    torch.testing.assert_close(assigned_distance, to_medoids.amin(1), rtol=rel, atol=rel * d.max().item())
    assert isinstance(coreset.objective, float)
    assert isinstance(coreset.cost, float)
    scale = n * d.max().item()
    assert coreset.cost == pytest.approx(to_medoids.amin(1).sum().item(), rel=rel, abs=rel * scale)
    assert coreset.objective == pytest.approx(objective_value(d, indices), rel=rel, abs=rel * scale)
