"""Coresets of points in gradient space: greedy facility location and centrality.

On the CPU both are compiled if numba is installed (``coreset_numba.py``); otherwise they are torch's
(``coreset_torch.py``). Distances are Euclidean and computed directly, never through a matrix product: ``|a|^2 - 2ab +
|b|^2`` gives a point a distance of up to 1e-3 to itself in float32, enough to change what greedy picks.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from noisylabels_pl.functional import coreset_torch


@dataclass(frozen=True)
class Coreset:
    """A subset of ``k`` medoids of ``n`` points, and the cluster of each medoid.

    Attributes:
        indices: ``(k,)`` int64, the medoids in the order in which they were chosen; all distinct.
        assignment: ``(n,)`` int64 in ``0..k-1``, the position in ``indices`` of each point's nearest medoid. A medoid
            belongs to its own cluster, also where another medoid has the same features.
        cluster_sizes: ``(k,)`` int64, at least 1, summing to ``n``.
        objective: ``F(S) = sum_i max_{j in S} (d0 - d_ij)`` with ``d0 = max_ij d_ij`` (CRUST, eq. 10).
        cost: ``sum_i min_{j in S} d_ij`` (CRUST, eq. 6), in the unit of the features.
    """

    indices: Tensor
    assignment: Tensor
    cluster_sizes: Tensor
    objective: float
    cost: float


def facility_location(features: Tensor, k: int) -> Coreset:
    r"""Greedy maximisation of the facility location function (CRUST, eq. 10 and Algorithm 1).

    Each step adds the point with the largest marginal gain :math:`\sum_i \max(0, \min_{j \in S} d_{ij} - d_{ie})`, the
    first of them on ties. The gains are kept up to date exactly: where a pick lowers a point's nearest distance from
    ``old`` to ``new``, the gain of every candidate ``e`` changes by ``clamp(d_ie, new, old) - old``. A point's nearest
    distance falls about ``log k`` times, so the work is ``O(n^2 log k)`` distances instead of ``O(n^2 k)``; the
    compiled kernel also leaves out candidates that are farther away than ``old``.

    Args:
        features: ``(n, d)`` floating point, finite. Half types are computed in float32, float64 stays float64.
        k: number of points to keep, ``1 <= k <= n``.

    Raises:
        ValueError: ``features`` is not two-dimensional, floating point and finite, or ``k`` is out of range, or
            distances overflow.
    """
    x = _checked(features, k)
    return _coreset(*_engine(x).greedy(x, k))


def centrality(features: Tensor, k: int) -> Coreset:
    """The ``k`` points with the smallest mean distance to all points, the most central first.

    This is what the public code of CRUST computes in place of facility location: its lazy greedy compares total values
    instead of marginal gains and so never re-orders. Points whose labels are wrong lie far from the others in gradient
    space, so central points are clean ones. On ties the lower index comes first.

    Args:
        features: ``(n, d)`` floating point, finite. Half types are computed in float32, float64 stays float64.
        k: number of points to keep, ``1 <= k <= n``.

    Raises:
        ValueError: ``features`` is not two-dimensional, floating point and finite, or ``k`` is out of range, or
            distances overflow.
    """
    x = _checked(features, k)
    return _coreset(*_engine(x).central(x, k))


def cluster_partners(coreset: Coreset, *, generator: torch.Generator | None = None) -> Tensor:
    """For each medoid a random other member of its cluster (CRUST, section 4.2, with ``|R_j| = 1``).

    Args:
        coreset: what :func:`facility_location` or :func:`centrality` returned.
        generator: a CPU generator; the default one if none is given.

    Returns:
        ``(k,)`` int64 on the CPU, aligned with ``coreset.indices``; the medoid itself where it is alone in its cluster.
    """
    indices, assignment = coreset.indices.cpu(), coreset.assignment.cpu()
    partners = indices.clone()
    others = torch.ones(len(assignment), dtype=torch.bool)
    others[indices] = False
    shuffled = torch.randperm(len(assignment), generator=generator)
    shuffled = shuffled[others[shuffled]]
    cluster, order = assignment[shuffled].sort(stable=True)
    first = torch.ones_like(cluster, dtype=torch.bool)
    first[1:] = cluster[1:] != cluster[:-1]
    partners[cluster[first]] = shuffled[order[first]]
    return partners


def same_label_partners(indices: Tensor, targets: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """For each selected sample a random sample of the whole set with the same label, possibly itself.

    Args:
        indices: ``(k,)`` selected rows, on the CPU.
        targets: ``(n,)`` int64 labels, on the CPU.
        generator: a CPU generator; the default one if none is given.

    Returns:
        ``(k,)`` int64 rows.
    """
    order = targets.sort(stable=True).indices
    counts = torch.bincount(targets)
    starts = counts.cumsum(0) - counts
    labels = targets[indices]
    draws = torch.rand(len(indices), dtype=torch.float64, generator=generator)
    return order[starts[labels] + (draws * counts[labels]).long()]


def _checked(features: Tensor, k: int) -> Tensor:
    if features.ndim != 2 or not features.is_floating_point():
        raise ValueError(
            f"features must be (n, d) floating point, got {tuple(features.shape)} {features.dtype}; "
            "flatten each sample to one row and convert with .float()"
        )
    if not 1 <= k <= len(features):
        raise ValueError(f"k must lie in 1..{len(features)}, the number of rows of features, got {k}")
    finite = torch.isfinite(features).all(1)
    if not finite.all():
        row = int((~finite).nonzero()[0, 0])
        raise ValueError(f"features[{row}] is not finite; the network that made it may have diverged")
    return features.detach().to(torch.promote_types(features.dtype, torch.float32))


def _engine(x: Tensor) -> ModuleType:
    """What has ``greedy`` and ``central`` for points on this device: indices, assignment, distances and the largest."""
    if x.device.type != "cpu":
        return coreset_torch
    try:
        from noisylabels_pl.functional import coreset_numba
    except ImportError:  # not installed, or too old for the installed numpy
        return coreset_torch
    return coreset_numba


def _coreset(indices: Tensor, assignment: Tensor, nearest: Tensor, d0: float) -> Coreset:
    assignment[indices] = torch.arange(len(indices), device=indices.device)
    sizes = torch.bincount(assignment, minlength=len(indices))
    cost = float(nearest.sum(dtype=torch.float64))
    return Coreset(indices, assignment, sizes, len(assignment) * d0 - cost, cost)
