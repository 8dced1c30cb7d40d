"""Facility location where exact greedy is too much: from random samples of candidates, and by parts of the points."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from noisylabels_pl.functional.coreset import greedy_torch
from noisylabels_pl.functional.coreset.distances import Distances
from noisylabels_pl.functional.coreset.greedy_torch import distances_between, distances_to, largest_distance

Selected = tuple[Tensor, Tensor, Tensor, float]


def stochastic(x: Tensor, k: int, eps: float, generator: torch.Generator | None) -> Selected:
    """What :func:`greedy_torch.greedy` returns, each step from a sample of the candidates."""
    n, d0 = len(x), largest_distance(x)
    space = distances_between(x)
    sample = min(n, math.ceil(n / k * math.log(1 / eps)))
    draws = torch.rand(k, sample, dtype=torch.float64, generator=generator).to(x.device)
    free, indices = torch.arange(n, device=x.device), torch.empty(k, dtype=torch.int64, device=x.device)
    nearest = torch.full((n,), d0, dtype=torch.float64, device=x.device)
    assignment = torch.zeros_like(free)
    for step in range(k):
        left = n - step
        # Drawn with replacement, which costs nothing that grows with n; in place of more than are left, all of them.
        places = (draws[step] * left).long() if sample < left else free[:left].argsort()
        candidates = free[places]
        best, distance = _best(space, candidates, nearest)
        closer = distance < nearest
        nearest = torch.minimum(nearest, distance)
        assignment.masked_fill_(closer, step)
        indices[step] = candidates[best]
        free[places[best]] = free[left - 1]
    return indices, assignment, distances_to(x, indices[assignment]), d0


def distributed(
    x: Tensor, k: int, parts: int, generator: torch.Generator | None, exact: Callable[[Tensor, int], Selected]
) -> Selected:
    """What :func:`greedy_torch.greedy` returns, among what ``exact`` picks in each of random parts."""
    if parts == 1:
        return exact(x, k)
    own = math.ceil(max(1.5 * k, min(3 * k, len(x) / 2)) / parts)
    union = []
    for part in torch.randperm(len(x), generator=generator).to(x.device).tensor_split(parts):
        union.append(part[exact(x[part], min(own, len(part)))[0]])
    candidates = torch.cat(union).sort().values
    return (*greedy_torch.greedy(x, k, candidates)[:3], largest_distance(x))


def _best(space: Distances, candidates: Tensor, nearest: Tensor) -> tuple[Tensor, Tensor]:
    """The place of the candidate of largest gain, and its distances to all points, without waiting for the device."""
    best, gain, distance = candidates.new_zeros(()), nearest.new_full((), -1), nearest
    rows, start = max(1, space.block // space.n), 0
    for some in torch.split(candidates, rows):
        distances = space[some]
        gains = (nearest - distances).clamp_(min=0).sum(1)
        top = gains.argmax()
        better = gains[top] > gain
        best = torch.where(better, top + start, best)
        distance = torch.where(better, distances[top], distance)
        gain = torch.maximum(gain, gains[top])
        start += len(some)
    return best, distance
