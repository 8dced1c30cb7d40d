"""Approximate facility location, for where exact greedy takes too long or too much memory.

**Stochastic.** Each step draws some of the candidates that are left and picks the one with the largest gain among them.
Only distances from the drawn candidates to all points are needed, and none are stored.

**Distributed.** The points are split into random parts, and exact greedy selects medoids of each part alone. It then
selects again, for all points, with these medoids as the only candidates.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from noisylabels_pl.functional.coreset import greedy_torch
from noisylabels_pl.functional.coreset.distances import Distances, distances_to, largest_distance
from noisylabels_pl.functional.coreset.medoids import Medoids


def stochastic(points: Tensor, k: int, eps: float, generator: torch.Generator | None) -> Medoids:
    """Return ``k`` medoids by greedy facility location that looks at a random sample of the candidates in each step.

    Args:
        points: ``(n, d)`` float32 or float64, finite.
        k: number of medoids.
        eps: the sample has ``n / k * log(1 / eps)`` candidates.
        generator: a CPU generator.

    Raises:
        ValueError: distances overflow.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional.coreset.approximate import stochastic
        >>> generator = torch.Generator().manual_seed(0)
        >>> stochastic(torch.tensor([[0.0], [1.0], [2.0], [9.0]]), 2, 0.1, generator).indices
        tensor([1, 3])
    """
    n = len(points)
    device = points.device
    farthest = largest_distance(points)
    distances = Distances(points)
    sample_size = min(n, math.ceil(n / k * math.log(1 / eps)))
    draws = torch.rand(k, sample_size, dtype=torch.float64, generator=generator).to(device)
    remaining = torch.arange(n, device=device)  # its first ``n - step`` entries are the candidates that are left
    indices = torch.empty(k, dtype=torch.int64, device=device)
    assignment = torch.zeros(n, dtype=torch.int64, device=device)
    nearest = torch.full((n,), farthest, dtype=torch.float64, device=device)
    for step in range(k):
        num_remaining = n - step
        if sample_size < num_remaining:
            # Drawn with replacement, because the work for that does not grow with n.
            drawn = (draws[step] * num_remaining).long()
        else:
            drawn = remaining[:num_remaining].argsort()  # all, by index, so that ties go to the lower one
        sample = remaining[drawn]
        best, pick_distances = _largest_gain(distances, sample, nearest)
        assignment.masked_fill_(pick_distances < nearest, step)
        nearest = torch.minimum(nearest, pick_distances)
        indices[step] = sample[best]
        remaining[drawn[best]] = remaining[num_remaining - 1]  # the last candidate takes the place of the pick
    return Medoids(indices, assignment, distances_to(points, indices[assignment]), farthest)


def distributed(
    points: Tensor,
    k: int,
    num_parts: int,
    generator: torch.Generator | None,
    exact_greedy: Callable[[Tensor, int], Medoids],
) -> Medoids:
    """Return ``k`` medoids by greedy facility location, with the medoids of random parts as the only candidates.

    Args:
        points: ``(n, d)`` float32 or float64, finite.
        k: number of medoids.
        num_parts: number of parts; one part is exact.
        generator: a CPU generator.
        exact_greedy: a function from points and a number of medoids to these medoids.

    Raises:
        ValueError: distances overflow.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional.coreset import approximate, greedy_torch
        >>> points = torch.tensor([[0.0], [1.0], [2.0], [9.0]])
        >>> approximate.distributed(points, 2, 1, None, greedy_torch.greedy).indices
        tensor([1, 3])
    """
    if num_parts == 1:
        return exact_greedy(points, k)
    num_candidates = max(1.5 * k, min(3 * k, len(points) / 2))
    num_from_each_part = math.ceil(num_candidates / num_parts)
    candidates = []
    shuffled = torch.randperm(len(points), generator=generator).to(points.device)
    for part in shuffled.tensor_split(num_parts):
        medoids = exact_greedy(points[part], min(num_from_each_part, len(part)))
        candidates.append(part[medoids.indices])
    medoids = greedy_torch.greedy(points, k, torch.cat(candidates).sort().values)
    return medoids._replace(largest_distance=largest_distance(points))


def _largest_gain(distances: Distances, sample: Tensor, nearest: Tensor) -> tuple[Tensor, Tensor]:
    """Return the position of the candidate with the largest gain in the sample, and its distances to all points.

    The choice stays on the device: no step waits for a number from there.
    """
    best = sample.new_zeros(())
    best_gain = nearest.new_full((), -1)
    best_distances = nearest
    chunk_length = max(1, distances.plan.chunk_size // distances.num_points)
    for start in range(0, len(sample), chunk_length):
        chunk_distances = distances.between(sample[start : start + chunk_length])
        gains = (nearest - chunk_distances).clamp_(min=0).sum(1)
        top = gains.argmax()
        is_better = gains[top] > best_gain
        best = torch.where(is_better, top + start, best)
        best_distances = torch.where(is_better, chunk_distances[top], best_distances)
        best_gain = torch.maximum(best_gain, gains[top])
    return best, best_distances
