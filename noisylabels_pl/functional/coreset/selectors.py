"""Coresets of points in gradient space: greedy facility location, its two approximations, and centrality.

A selector checks its arguments, lets an engine select medoids, and describes them as a :class:`Coreset`. On the CPU the
engine is compiled if numba is installed and enough memory is free (``greedy_numba.py``); otherwise it is torch
(``greedy_torch.py``). Each engine has two functions, ``greedy`` and ``central``, that return :class:`Medoids`; both
select the same points.

Distances are Euclidean. No engine computes them as ``|a|^2 - 2 a.b + |b|^2`` in float32: a point would then have a
distance of up to 1e-3 to itself, enough to change the greedy picks.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from types import ModuleType

import torch
from torch import Tensor

from noisylabels_pl.functional.checks import check_range
from noisylabels_pl.functional.coreset import approximate, greedy_torch
from noisylabels_pl.functional.coreset.distances import COMPILED_MAX_PAIRS, memory_plan
from noisylabels_pl.functional.coreset.medoids import Medoids
from noisylabels_pl.functional.precision import at_least_float32
from noisylabels_pl.memory import free_memory

_log = logging.getLogger(__name__)
_MIN_FEATURES_FOR_TORCH = 32  # from so many features on, torch's greedy is faster than the compiled one
_POINTS_IN_A_PART = 5000


@dataclass(frozen=True)
class Coreset:
    """A subset of ``k`` medoids of ``n`` points, and the cluster of each medoid.

    Attributes:
        indices: ``(k,)`` int64, the medoids in the order of their selection; all distinct.
        assignment: ``(n,)`` int64 in ``0..k-1``, for each point the position of its nearest medoid in ``indices``. A
            medoid belongs to its own cluster, also where another medoid has the same features.
        cluster_sizes: ``(k,)`` int64, at least 1, summing to ``n``.
        objective: ``F(S) = sum_i max_{j in S} (d0 - d_ij)`` with ``d0 = max_ij d_ij`` (CRUST, eq. 10).
        cost: ``sum_i min_{j in S} d_ij`` (CRUST, eq. 6), in the unit of the features.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import facility_location
        >>> facility_location(torch.tensor([[0.0], [1.0], [2.0], [9.0]]), k=2).cpu()
        Coreset(indices=tensor([1, 3]), assignment=tensor([0, 0, 0, 1]), cluster_sizes=tensor([3, 1]), \
objective=34.0, cost=2.0)
    """

    indices: Tensor
    assignment: Tensor
    cluster_sizes: Tensor
    objective: float
    cost: float

    def cpu(self) -> Coreset:
        """Return a copy on the CPU."""
        return replace(
            self,
            indices=self.indices.cpu(),
            assignment=self.assignment.cpu(),
            cluster_sizes=self.cluster_sizes.cpu(),
        )


def facility_location(features: Tensor, k: int) -> Coreset:
    r"""Select medoids by greedy maximization of the facility location function.

    This is Algorithm 1 of `Coresets for Robust Training of Neural Networks against Noisy Labels
    <https://arxiv.org/abs/2011.07451>`_ (CRUST). It maximizes eq. 10,

    .. math::
        F(S) = \sum_i \max_{j \in S} (d_0 - d_{ij}), \quad d_0 = \max_{ij} d_{ij}

    Each step adds the point :math:`e` with the largest gain :math:`\sum_i \max(0, \min_{j \in S} d_{ij} - d_{ie})`. The
    value :math:`F(S)` is at least :math:`1 - 1/e` of the largest possible one. Both engines avoid most of the
    :math:`O(n^2 k)` distances of plain greedy; the derivations are at the top of their modules. Ties go to the lower
    index. The selection depends neither on the engine nor on the number of threads; they may decide a near tie
    differently, in which two gains agree to about 11 digits. On the CPU it takes ``n^2 / 16`` bytes if compiled; where
    less than twice as much is free, torch selects, and the log says so.

    Args:
        features: ``(n, d)`` floating point, finite. Half types are computed in float32, float64 stays float64.
        k: number of points to keep, ``1 <= k <= n``.

    Returns:
        The medoids in the order of their selection.

    Raises:
        ValueError: ``features`` is not two-dimensional, floating point and finite, or ``k`` is out of range, or
            distances overflow.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import facility_location
        >>> coreset = facility_location(torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0], [30.0]]), k=3)
        >>> coreset.indices
        tensor([3, 1, 6])
        >>> coreset.assignment
        tensor([1, 1, 1, 0, 0, 0, 2])
        >>> coreset.cost
        5.0
    """
    points = _checked_points(features, k)
    return _coreset(_exact_greedy(points, k))


def centrality(features: Tensor, k: int) -> Coreset:
    """Select the points with the smallest mean distance to all points, the most central first.

    The public code of `Coresets for Robust Training of Neural Networks against Noisy Labels
    <https://arxiv.org/abs/2011.07451>`_ (CRUST) computes this in place of facility location: its lazy greedy compares
    total values instead of gains, and so never changes the first order. Wrongly labeled samples lie far from the others
    in gradient space, so central points are rightly labeled ones. Ties go to the lower index.

    Args:
        features: ``(n, d)`` floating point, finite. Half types are computed in float32, float64 stays float64.
        k: number of points to keep, ``1 <= k <= n``.

    Returns:
        The medoids by rising mean distance.

    Raises:
        ValueError: ``features`` is not two-dimensional, floating point and finite, or ``k`` is out of range, or
            distances overflow.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import centrality
        >>> centrality(torch.tensor([[10.0], [3.0], [2.0], [1.0], [0.0]]), k=3).indices
        tensor([2, 1, 3])
    """
    points = _checked_points(features, k)
    return _coreset(_engine(points.device, *points.shape).central(points, k))


def stochastic_greedy(
    features: Tensor, k: int, *, eps: float = 0.1, generator: torch.Generator | None = None
) -> Coreset:
    r"""Select medoids by greedy facility location from a random sample of candidates in each step.

    This is the algorithm of `Lazier Than Lazy Greedy <https://arxiv.org/abs/1409.7938>`_ (AAAI 2015). Each step takes
    the largest gain among :math:`\lceil n/k \cdot \ln(1/\epsilon) \rceil` of the candidates that are left. In
    expectation, the value is at least :math:`1 - 1/e - \epsilon` of the largest possible one. For any ``k``, this takes
    :math:`n^2 \ln(1/\epsilon)` distances and :math:`O(n)` memory.

    It is computed in torch. On the CPU, the exact :func:`facility_location` is faster where numba is installed, but it
    takes ``n^2 / 16`` bytes.

    Args:
        features: ``(n, d)`` floating point, finite. Half types are computed in float32, float64 stays float64.
        k: number of points to keep, ``1 <= k <= n``.
        eps: fraction of the value that may be lost, ``0 < eps < 1``. A smaller one takes larger samples; a sample of
            all candidates is exact.
        generator: a CPU generator; the default one if not given. It is the only source of randomness.

    Returns:
        The medoids in the order of their selection.

    Raises:
        ValueError: as for :func:`facility_location`, or ``eps`` is out of range.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import stochastic_greedy
        >>> generator = torch.Generator().manual_seed(0)
        >>> points = torch.randn(100, 3, generator=generator)
        >>> stochastic_greedy(points, k=4, generator=generator).cluster_sizes.sum()
        tensor(100)
    """
    check_range("eps", eps, "(0, 1)", hint="0.1 is usual, a smaller one is closer to exact greedy")
    points = _checked_points(features, k)
    return _coreset(approximate.stochastic(points, k, eps, generator))


def distributed_greedy(
    features: Tensor, k: int, *, parts: int | None = None, generator: torch.Generator | None = None
) -> Coreset:
    """Select medoids of random parts by greedy facility location, and from these medoids those of all points.

    This is GreeDi, Algorithm 2 of "Distributed Submodular Maximization" (JMLR 17(238), 2016,
    https://arxiv.org/abs/1411.0541), with fewer points from each part. In GreeDi each part gives ``k`` candidates; for
    ``k = n / 2`` these would be all of its points. Here a part gives ``3 k / parts`` candidates, or half of its points
    if these are fewer, but at least ``1.5 k / parts``. The last step computes ``n`` distances for each of these
    candidates.

    The last step is computed in torch. On the CPU, the exact :func:`facility_location` is faster where numba is
    installed, but takes ``n^2 / 16`` bytes.

    Args:
        features: ``(n, d)`` floating point, finite. Half types are computed in float32, float64 stays float64.
        k: number of points to keep, ``1 <= k <= n``.
        parts: number of parts, ``1 <= parts <= n``; one for every 5,000 points if not given. One part is exact.
        generator: a CPU generator; the default one if not given. It is the only source of randomness.

    Returns:
        The medoids in the order of their selection.

    Raises:
        ValueError: as for :func:`facility_location`, or ``parts`` is out of range.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import distributed_greedy
        >>> generator = torch.Generator().manual_seed(0)
        >>> points = torch.randn(100, 3, generator=generator)
        >>> distributed_greedy(points, k=4, parts=5, generator=generator).cluster_sizes.sum()
        tensor(100)
    """
    points = _checked_points(features, k)
    if parts is None:
        parts = max(1, round(len(points) / _POINTS_IN_A_PART))
    check_range("parts", parts, f"[1, {len(points)}]", hint="at most one part for each row of features; None chooses")
    return _coreset(approximate.distributed(points, k, parts, generator, _exact_greedy))


def planned_bytes(n: int, d: int, device: torch.device) -> int:
    """Return an upper bound for the memory that a selection takes, in bytes, whatever ``k`` is.

    Args:
        n: number of points.
        d: number of features of each point.
        device: the device of the features.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional.coreset import planned_bytes
        >>> planned_bytes(200, 10, torch.device("meta"))
        2617600
    """
    torch_bytes = memory_plan(n, d, device).num_bytes
    if _engine(device, n, d) is greedy_torch:
        return torch_bytes
    compiled_bytes = _compiled_bytes(n, d)
    if d < _MIN_FEATURES_FOR_TORCH:
        return compiled_bytes
    return max(torch_bytes, compiled_bytes)


def _compiled_bytes(n: int, d: int) -> int:
    """Return an upper bound for the memory that a selection by the compiled engine takes, in bytes."""
    num_blocks = n // 64 + 1
    max_pairs = min(COMPILED_MAX_PAIRS, n * n)
    # Two copies of the points, up to 16 more values a point, a bound for each point and block, and the covering pairs.
    return n * (16 * d + 4 * num_blocks + 128) + 12 * max_pairs


def _checked_points(features: Tensor, k: int) -> Tensor:
    """Check a selector's arguments, log the memory that it will take, and return the features as an engine's points."""
    if features.ndim != 2 or not features.is_floating_point():
        raise ValueError(
            f"features must be (n, d) floating point, got {tuple(features.shape)} {features.dtype}; "
            "flatten each sample to one row and convert with .float()"
        )
    check_range("k", k, f"[1, {len(features)}]", hint="at most the number of rows of features can be kept")
    is_finite = torch.isfinite(features).all(1)
    if not is_finite.all():
        row = int((~is_finite).nonzero()[0, 0])
        raise ValueError(f"features[{row}] is not finite; the network that made it may have diverged")
    points = at_least_float32(features.detach())
    _log_memory(points)
    return points


def _log_memory(points: Tensor) -> None:
    n, d = points.shape
    device = points.device
    num_bytes = planned_bytes(n, d, device)
    level = logging.INFO if num_bytes >= 2**28 else logging.DEBUG
    _log.log(level, "coreset of %d points, %d features: up to %.0f MiB on %s", n, d, num_bytes / 2**20, device)
    if device.type == "cpu" and _engine(device, n, d) is not _compiled_engine() is not None:
        _log.info(
            "coreset of %d points: torch selects the same points, more slowly, because the compiled engine may take "
            "%.0f MiB, more than half of the free memory",
            n,
            _compiled_bytes(n, d) / 2**20,
        )


def _exact_greedy(points: Tensor, k: int) -> Medoids:
    """Select by the faster engine: the compiled one recomputes many distances, which is slower with many features."""
    engine = greedy_torch if points.shape[1] >= _MIN_FEATURES_FOR_TORCH else _engine(points.device, *points.shape)
    medoids: Medoids = engine.greedy(points, k)
    return medoids


def _engine(device: torch.device, n: int, d: int) -> ModuleType:
    """Return the module whose functions ``greedy`` and ``central`` select from ``(n, d)`` points on a device.

    The compiled engine must fit into half of the free memory. The picks do not depend on the engine.
    """
    engine = _compiled_engine() if device.type == "cpu" else None
    free_bytes = free_memory(device)
    if engine is None or (free_bytes is not None and _compiled_bytes(n, d) > free_bytes / 2):
        return greedy_torch
    return engine


def _compiled_engine() -> ModuleType | None:
    """Return the compiled engine, or ``None`` where it does not work."""
    try:
        from noisylabels_pl.functional.coreset import greedy_numba
    except (ImportError, RuntimeError):  # not installed, too old for the installed numpy, or nowhere to keep kernels
        return None
    return greedy_numba


def _coreset(medoids: Medoids) -> Coreset:
    """Describe the medoids of an engine; each of them belongs to its own cluster."""
    k = len(medoids.indices)
    assignment = medoids.assignment.clone()
    assignment[medoids.indices] = torch.arange(k, device=assignment.device)
    cluster_sizes = torch.bincount(assignment, minlength=k)
    cost = float(medoids.distances.sum(dtype=torch.float64))
    objective = len(assignment) * medoids.largest_distance - cost
    return Coreset(medoids.indices, assignment, cluster_sizes, objective, cost)
