"""Euclidean distances between many points in float64, computed for a chunk of points at a time.

**Sums on a grid.** Greedy compares sums of distances. A sum of rounded numbers depends on the order of its terms, and
with it on the number of threads, on the size of the chunks and on the atomic additions of a GPU; chance would decide
ties. So each distance is rounded to a multiple of a spacing ``h``. Let ``D`` be a bound for all distances between ``n``
points, and ``h`` the power of two that is next above ``n D / 2^53``. A sum of ``n`` distances is then ``h`` times a
whole number below ``2^53``. float64 holds all of these numbers, so no addition rounds, and every order gives the same
sum. At 50,000 points the spacing is four orders of magnitude below float32's own rounding. An addition and a
subtraction of ``1.5 * 2^52 * h`` round to the grid, because the last bit of that number is worth ``h``.

**One matrix product.** For float32 points, all squared distances ``|a|^2 - 2 a.b + |b|^2`` are one matrix product in
float64: of rows ``(a, |a|^2, 1)`` and ``(-2 b, 1, |b|^2)``. The points are moved first, so that one of them is the
origin. A distance then has an error of at most ``1e-7 D``, and the error comes near this bound only for distances that
are themselves about that small. Squared distances smaller than their error count as 0. float64 points have no wider
type, so their differences are squared and added directly.

A matrix product of another shape may round a distance to the neighboring multiple of ``h``. A change of the chunk size
can therefore decide a near tie differently, but not a tie.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from noisylabels_pl.memory import free_memory

COMPILED_MAX_PAIRS = 2**23  # that the compiled engine may hold: 96 MiB, enough for classes of 8,000 points
_CPU_CHUNK_SIZE = 2**20  # 8 MiB of distances, which stay in the processor's cache
_DEVICE_CHUNK_SIZE = 2**24  # 128 MiB
_CPU_MAX_PAIRS = 2**22
_DEVICE_MAX_PAIRS = 2**25
_BYTES_PER_DISTANCE = 16  # of a chunk, intermediate results included
_BYTES_PER_PAIR = 48  # 16 to hold it, and 32 more while a round is computed


class MemoryPlan(NamedTuple):
    """Limits for a selection in torch; they depend on the machine only where little memory is free.

    Attributes:
        chunk_size: distances that are computed at a time.
        max_pairs: pairs of a point and a candidate that greedy may hold.
        num_bytes: upper bound for the memory that the selection takes.
    """

    chunk_size: int
    max_pairs: int
    num_bytes: int


def memory_plan(num_points: int, num_features: int, device: torch.device) -> MemoryPlan:
    """Return limits that keep a selection within half of the free memory, if one point at a time fits into that.

    Args:
        num_points: points to select from.
        num_features: features of each point.
        device: the device of the points.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional.coreset.distances import memory_plan
        >>> memory_plan(200, 10, torch.device("meta"))
        MemoryPlan(chunk_size=40000, max_pairs=40000, num_bytes=2617600)
    """
    on_cpu = device.type == "cpu"
    chunk_size = _CPU_CHUNK_SIZE if on_cpu else _DEVICE_CHUNK_SIZE
    max_pairs = _CPU_MAX_PAIRS if on_cpu else _DEVICE_MAX_PAIRS
    # In float64: two copies of the points, and up to 16 more values for each point.
    fixed_bytes = 8 * num_points * (2 * num_features + 16)
    free_bytes = free_memory(device)
    usable_bytes = math.inf if free_bytes is None else max(0.0, free_bytes / 2 - fixed_bytes)
    # A quarter for the chunk, three quarters for the pairs, but at least the distances from one point to all.
    chunk_size = int(min(chunk_size, num_points**2, usable_bytes / 4 / _BYTES_PER_DISTANCE))
    chunk_size = max(chunk_size, num_points)
    max_pairs = int(min(max_pairs, num_points**2, usable_bytes * 3 / 4 / _BYTES_PER_PAIR))
    max_pairs = max(max_pairs, num_points)
    num_bytes = fixed_bytes + _BYTES_PER_DISTANCE * chunk_size + _BYTES_PER_PAIR * max_pairs
    return MemoryPlan(chunk_size, max_pairs, num_bytes)


class Distances:
    """Distances from ``n`` points to ``m`` candidates, rounded to the grid that the module's docstring describes.

    Args:
        points: ``(n, d)`` float32 or float64, finite.
        candidates: ``(m,)`` int64, indices of the points that distances are measured to; all points if not given.

    Attributes:
        num_points: ``n``.
        num_candidates: ``m``.
        device: the device of the points.
        plan: the limits that the free memory sets.

    Raises:
        ValueError: distances overflow.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional.coreset.distances import Distances
        >>> distances = Distances(torch.tensor([[0.0], [3.0], [7.0]]))
        >>> [distances.between(rows) for rows in distances.chunks()]
        [tensor([[0., 3., 7.],
                [3., 0., 4.],
                [7., 4., 0.]], dtype=torch.float64)]
        >>> distances.totals()
        (tensor([10.,  7., 11.], dtype=torch.float64), 7.0)
    """

    def __init__(self, points: Tensor, candidates: Tensor | None = None) -> None:
        self.num_points = len(points)
        self.device = points.device
        self.plan = memory_plan(len(points), points.shape[1], points.device)
        self._is_direct = points.dtype == torch.float64
        self._rounding_shift, _ = rounding_shift(points)
        self._points = points if self._is_direct else _append_squared_norms(points.double() - points[0].double())
        self._candidates = self._points if candidates is None else self._points[candidates]
        self._is_symmetric = candidates is None
        self.num_candidates = len(self._candidates)
        self._buffer = torch.empty(0, dtype=torch.float64, device=points.device)

    def chunks(self) -> Iterator[slice]:
        """Return slices of the points for which the distances to all candidates fit into a chunk."""
        length = max(1, self.plan.chunk_size // self.num_candidates)
        return (slice(start, min(start + length, self.num_points)) for start in range(0, self.num_points, length))

    def between(self, rows: slice | Tensor) -> Tensor:
        """Return the distances from some points to all candidates, ``(rows, m)``; the next call overwrites them."""
        return self.from_squares(self.squares(rows))

    def to_candidate(self, candidate: Tensor) -> Tensor:
        """Return the distances from all points to one candidate, ``(n,)``."""
        squares = self._squares_between(self._candidates[candidate.view(1)], self._points)
        return self.from_squares(squares).view(-1).clone()

    def squares(self, rows: slice | Tensor, first_candidate: int = 0) -> Tensor:
        """Return the squared distances to the candidates from the first one on; they may be slightly negative."""
        return self._squares_between(self._points[rows], self._candidates[first_candidate:])

    def from_squares(self, squares: Tensor) -> Tensor:
        """Return the distances on the grid, computed in place."""
        return squares.clamp_(min=0).sqrt_().add_(self._rounding_shift).sub_(self._rounding_shift)

    def totals(self) -> tuple[Tensor, float]:
        """Return each candidate's sum of distances to all points, ``(m,)``, and the largest distance.

        Raises:
            ValueError: distances overflow.
        """
        totals = torch.zeros(self.num_candidates, dtype=torch.float64, device=self.device)
        chunk_maxima = []
        for rows in self.chunks():
            if self._is_symmetric:  # a pair of points is computed once, in the chunk of the earlier point
                distances = self.from_squares(self.squares(rows, rows.start))
                totals[rows] += distances.sum(1)
                totals[rows.stop :] += distances[:, len(distances) :].sum(0)
            else:
                distances = self.between(rows)
                totals += distances.sum(0)
            chunk_maxima.append(distances.amax())
        largest_distance = float(torch.stack(chunk_maxima).amax())
        check_no_overflow(largest_distance)
        return totals, largest_distance

    def _squares_between(self, points: Tensor, others: Tensor) -> Tensor:
        """Return the squared distances ``(len(points), len(others))``, in a buffer that the next call overwrites."""
        if self._is_direct:
            return torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist").square_()
        size = len(points) * len(others)
        if self._buffer.numel() < size:
            self._buffer = self._buffer.new_empty(size)
        out = self._buffer[:size].view(len(points), len(others))
        return torch.mm(_other_factor(points), others.T, out=out)


def rounding_shift(points: Tensor) -> tuple[float, float]:
    """Return the number that rounds distances to the grid by being added and subtracted, and a bound for distances.

    Args:
        points: ``(n, d)`` float32 or float64, finite.

    Raises:
        ValueError: distances overflow.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional.coreset.distances import rounding_shift
        >>> shift, bound = rounding_shift(torch.tensor([[0.0], [3.0], [7.0]]))
        >>> bound
        14.0
        >>> (torch.tensor(7.0 + 1e-15, dtype=torch.float64) + shift) - shift
        tensor(7., dtype=torch.float64)
    """
    reach = float((points.double() - points[0].double()).abs().amax()) if points.numel() else 0.0
    bound = 2 * reach * math.sqrt(max(1, points.shape[1]))
    check_no_overflow(bound * len(points), torch.finfo(points.dtype).max)
    if bound == 0:
        return 0.0, 0.0
    # The spacing has a minimum, above the errors of a matrix product, so that ties stay ties.
    least_cells = 4 if points.dtype == torch.float64 else 2**13
    _, exponent = math.frexp(bound * max(len(points), least_cells))
    return 1.5 * math.ldexp(1.0, exponent - 1), bound


def _append_squared_norms(centered: Tensor) -> Tensor:
    """Return rows ``(a, |a|^2, 1)``, whose product with a row of :func:`_other_factor` is a squared distance.

    Each of the two squared norms is lowered by half of the product's error bound. So a product that is not larger than
    its error comes out negative, and counts as 0.
    """
    squared_norms = centered.square().sum(1, keepdim=True)
    error_bound = 4 * math.sqrt(centered.shape[1]) * torch.finfo(torch.float64).eps * squared_norms.amax()
    return torch.cat([centered, squared_norms - error_bound / 2, torch.ones_like(squared_norms)], 1)


def _other_factor(rows: Tensor) -> Tensor:
    """Return rows ``(-2 b, 1, |b|^2)`` for rows ``(b, |b|^2, 1)``."""
    return torch.cat([-2 * rows[:, :-2], rows[:, -1:], rows[:, -2:-1]], 1)


def distances_to(points: Tensor, target: Tensor) -> Tensor:
    """Return the distance of each point to its target, ``(n,)`` float64.

    Args:
        points: ``(n, d)``.
        target: ``(d,)`` floating point, one target for all points; or ``(n,)`` int64, for each point the index of the
            point that is its target.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional.coreset.distances import distances_to
        >>> points = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
        >>> distances_to(points, torch.tensor([1, 1]))
        tensor([5., 0.], dtype=torch.float64)
    """
    length = max(1, _CPU_CHUNK_SIZE // max(1, points.shape[1]))
    chunks = []
    for start in range(0, len(points), length):
        rows = slice(start, start + length)
        others = target if target.is_floating_point() else points[target[rows]]
        chunks.append(torch.linalg.vector_norm(points[rows] - others, dim=1, dtype=torch.float64))
    return torch.cat(chunks)


def largest_distance(points: Tensor) -> float:
    """Return the largest distance between any two points.

    Few points need to be compared. Let ``r`` be the largest distance of a point from the middle, and ``d`` the distance
    of some pair. By the triangle inequality, both members of the farthest pair are at least ``d - r`` from the middle.

    Args:
        points: ``(n, d)``.

    Raises:
        ValueError: distances overflow.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional.coreset.distances import largest_distance
        >>> largest_distance(torch.tensor([[0.0], [3.0], [7.0]]))
        7.0
    """
    middle = points.double().mean(0).to(points.dtype)
    from_middle = distances_to(points, middle)
    outermost = points[from_middle.argmax()]
    far_pair = distances_to(points, outermost).amax()
    lower_bound = far_pair - from_middle.amax()
    is_far = from_middle >= lower_bound * (1 - 1e-5)  # the factor is for rounding
    return Distances(points[is_far]).totals()[1]


def check_no_overflow(distance: float, limit: float = sys.float_info.max) -> None:
    """Check that a distance is finite, or at most some other limit.

    Args:
        distance: a distance, or a bound for distances.
        limit: the largest number that is allowed.

    Raises:
        ValueError: distances overflow.
    """
    if not distance <= limit:
        raise ValueError("distances between features overflow; scale features down, or pass float64")
