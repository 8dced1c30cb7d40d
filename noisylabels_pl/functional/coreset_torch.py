"""Distance sums and greedy facility location in torch, on any device."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_BLOCK = 2**24  # distances held at once: 64 MiB in float32
_MATRIX = 2**26  # distances of a matrix that is kept, 8192 points: 256 MiB


def greedy(x: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor, float]:
    """``k`` picks, each point's nearest pick by its step, the distance to it, and the largest distance."""
    totals, d0, matrix = _distance_totals(x, keep=True)
    gains = len(x) * d0 - totals
    nearest = torch.full_like(x[:, 0], d0)
    assignment = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    indices = torch.empty(k, dtype=torch.int64, device=x.device)
    for step in range(k):
        pick = gains.argmax()
        indices[step] = pick
        gains[pick] = -torch.inf
        distance = (_distances(x[pick].unsqueeze(0), x) if matrix is None else matrix[pick].unsqueeze(0)).squeeze(0)
        closer = (distance < nearest).nonzero().squeeze(1)
        for rows in torch.split(closer, max(1, _BLOCK // len(x))):
            new, old = distance[rows].unsqueeze(1), nearest[rows].unsqueeze(1)
            around = _distances(x[rows], x) if matrix is None else matrix[rows]
            # Sums of few numbers lose nothing in float32, and take a third of the time.
            gains += around.clamp_(new, old).sub_(old).sum(0, dtype=torch.float64 if len(rows) > 16 else None)
        nearest[closer] = distance[closer]
        assignment[closer] = step
    return indices, assignment, nearest, d0


def central(x: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor, float]:
    """The ``k`` points of least total distance, each point's nearest of them, its distance, the largest distance."""
    totals, d0, _ = _distance_totals(x, keep=False)
    indices = totals.sort(stable=True).indices[:k]
    nearest, assignment = x.new_empty(len(x)), indices.new_empty(len(x))
    for rows in _blocks(len(x), k):
        nearest[rows], assignment[rows] = _distances(x[rows], x[indices]).min(1)
    return indices, assignment, nearest, d0


def _distances(a: Tensor, b: Tensor) -> Tensor:
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def _blocks(rows: int, columns: int) -> Iterator[slice]:
    size = max(1, _BLOCK // columns)
    return (slice(start, start + size) for start in range(0, rows, size))


def _distance_totals(x: Tensor, *, keep: bool) -> tuple[Tensor, float, Tensor | None]:
    """Each point's summed distance to all points ``(n,)`` float64, the largest, and all of them unless too many."""
    if keep and len(x) ** 2 <= _MATRIX:
        matrix = _distances(x, x)
        totals, largest = matrix.sum(1, dtype=torch.float64), matrix.max()
    else:
        matrix = None
        totals, largest = torch.empty(len(x), dtype=torch.float64, device=x.device), x.new_zeros(())
        for rows in _blocks(len(x), len(x)):
            distances = _distances(x[rows], x)
            totals[rows] = distances.sum(1, dtype=torch.float64)
            largest = torch.maximum(largest, distances.max())
    check_largest(float(largest))
    return totals, float(largest), matrix


def check_largest(distance: float) -> None:
    """Raises ``ValueError`` if distances overflowed."""
    if not distance < float("inf"):
        raise ValueError("distances between features overflow; scale features down, or pass float64")
