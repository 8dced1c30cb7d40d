"""Coresets of points in gradient space: greedy facility location and centrality.

On the CPU both are compiled if numba is installed (``greedy_numba.py``); otherwise they are torch's
(``greedy_torch.py``). Distances are Euclidean and never computed through a matrix product in float32: ``|a|^2 - 2ab +
|b|^2`` then gives a point a distance of up to 1e-3 to itself, enough to change what greedy picks.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from types import ModuleType

import torch
from torch import Tensor

from noisylabels_pl.functional.coreset import approximate, greedy_torch
from noisylabels_pl.functional.coreset.distances import planned

_log = logging.getLogger(__name__)
_WIDE = 32  # features of a point


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

    def cpu(self) -> Coreset:
        """A copy on the CPU."""
        return replace(
            self,
            indices=self.indices.cpu(),
            assignment=self.assignment.cpu(),
            cluster_sizes=self.cluster_sizes.cpu(),
        )


def facility_location(features: Tensor, k: int) -> Coreset:
    r"""Greedy maximization of the facility location function (CRUST, eq. 10 and Algorithm 1).

    Each step adds the point with the largest marginal gain :math:`\sum_i \max(0, \min_{j \in S} d_{ij} - d_{ie})`, the
    first of them on ties. The compiled kernel keeps the gains up to date exactly: where a pick lowers a point's nearest
    distance from ``old`` to ``new``, the gain of every candidate ``e`` nearer than ``old`` changes by
    ``clamp(d_ie, new, old) - old``. A point's nearest distance falls about ``log k`` times, so the work is
    ``O(n^2 log k)`` distances at most instead of ``O(n^2 k)``. In torch many candidates are picked at once, wherever
    they do not compete (``greedy_torch.py``); its sums are exact in any order, so ties are found as ties, and the
    selection depends neither on threads nor on the free memory, from which the size of blocks follows.

    Args:
        features: ``(n, d)`` floating point, finite. Half types are computed in float32, float64 stays float64.
        k: number of points to keep, ``1 <= k <= n``.

    Raises:
        ValueError: ``features`` is not two-dimensional, floating point and finite, or ``k`` is out of range, or
            distances overflow.
    """
    x = _checked(features, k)
    return _coreset(*_greedy(x, k))


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


def stochastic_greedy(
    features: Tensor, k: int, *, eps: float = 0.1, generator: torch.Generator | None = None
) -> Coreset:
    r"""Greedy facility location from random candidates (Mirzasoleiman et al., "Lazier than lazy greedy", AAAI 2015).

    Each step takes the largest gain among a random sample of :math:`\lceil n/k \cdot \ln(1/\epsilon) \rceil` of the
    candidates that are left. The value is in expectation at least :math:`1 - 1/e - \epsilon` of the largest. The work
    is ``n^2 ln(1/eps)`` distances and the memory ``O(n)``, for any ``k``. It is computed in torch: where numba is
    installed the exact :func:`facility_location` is faster on the CPU, but takes ``n^2 / 16`` bytes.

    Args:
        features: ``(n, d)`` floating point, finite. Half types are computed in float32, float64 stays float64.
        k: number of points to keep, ``1 <= k <= n``.
        eps: what may be lost, ``0 < eps < 1``; smaller takes larger samples. A sample of all candidates is exact.
        generator: a CPU generator; the default one if none is given. The result depends on nothing else.

    Raises:
        ValueError: as :func:`facility_location`, or ``eps`` is out of range.
    """
    if not 0 < eps < 1:
        raise ValueError(f"eps must lie between 0 and 1, got {eps}; 0.1 is usual, less is closer to exact")
    x = _checked(features, k)
    return _coreset(*approximate.stochastic(x, k, eps, generator))


def distributed_greedy(
    features: Tensor, k: int, *, parts: int | None = None, generator: torch.Generator | None = None
) -> Coreset:
    """Greedy facility location by random parts (GreeDi; Mirzasoleiman et al., JMLR 17(238), 2016, Algorithm 2).

    Exact greedy picks in each part by the points of that part, then ``k`` of all these picks by all points. A part
    gives ``3 k / parts`` of its points, or half of them if that is less, but at least ``1.5 k / parts``; in GreeDi it
    gives ``k``, which at ``k = n / 2`` would be all that it has. The last step takes ``n`` times as many distances as
    there are picks, and is computed in torch: where numba is installed the exact :func:`facility_location` is faster on
    the CPU, but takes ``n^2 / 16`` bytes.

    Args:
        features: ``(n, d)`` floating point, finite. Half types are computed in float32, float64 stays float64.
        k: number of points to keep, ``1 <= k <= n``.
        parts: number of parts, ``1 <= parts <= n``; one for every 5,000 points if not given. One part is exact.
        generator: a CPU generator; the default one if none is given. The result depends on nothing else.

    Raises:
        ValueError: as :func:`facility_location`, or ``parts`` is out of range.
    """
    x = _checked(features, k)
    parts = max(1, round(len(x) / 5000)) if parts is None else parts
    if not 1 <= parts <= len(x):
        raise ValueError(f"parts must lie in 1..{len(x)}, the number of rows of features, got {parts}; None chooses it")
    return _coreset(*approximate.distributed(x, k, parts, generator, _greedy))


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
    x = features.detach().to(torch.promote_types(features.dtype, torch.float32))
    _log_planned(x)
    return x


def planned_bytes(n: int, d: int, dtype: torch.dtype, device: torch.device) -> int:
    """Memory that selecting among ``n`` points with ``d`` features takes, whatever ``k`` is; an upper bound."""
    in_torch = planned(n, d, device).bytes
    if _engine(torch.empty(0, device=device)) is greedy_torch:
        return in_torch
    compiled = n * (n // 64 + 1 + 2 * d) * dtype.itemsize + 80 * n  # from each point to each block, and the points
    return max(in_torch, compiled) if d >= _WIDE else compiled


def _log_planned(x: Tensor) -> None:
    needed = planned_bytes(len(x), x.shape[1], x.dtype, x.device)
    level = logging.INFO if needed >= 2**28 else logging.DEBUG
    _log.log(level, "coreset of %d points, %d features: up to %.0f MiB on %s", *x.shape, needed / 2**20, x.device)


def _greedy(x: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor, float]:
    """By the faster engine; the compiled one computes distances again where it needs them, which wide points punish."""
    engine = greedy_torch if x.shape[1] >= _WIDE else _engine(x)
    found: tuple[Tensor, Tensor, Tensor, float] = engine.greedy(x, k)
    return found


def _engine(x: Tensor) -> ModuleType:
    """What has ``greedy`` and ``central`` for points on this device: indices, assignment, distances and the largest."""
    if x.device.type != "cpu":
        return greedy_torch
    try:
        from noisylabels_pl.functional.coreset import greedy_numba
    except (ImportError, RuntimeError):  # not installed, too old for the installed numpy, or nowhere to keep kernels
        return greedy_torch
    return greedy_numba


def _coreset(indices: Tensor, assignment: Tensor, nearest: Tensor, d0: float) -> Coreset:
    assignment[indices] = torch.arange(len(indices), device=indices.device)
    sizes = torch.bincount(assignment, minlength=len(indices))
    cost = float(nearest.sum(dtype=torch.float64))
    return Coreset(indices, assignment, sizes, len(assignment) * d0 - cost, cost)
