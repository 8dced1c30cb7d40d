"""Euclidean distances between many points, by blocks of rows, in float64 and exact enough to be added in any order."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from noisylabels_pl.memory import free_memory

CACHED = 2**20  # distances of a block on the CPU: 8 MiB, which stay in its cache
_BLOCK = 2**24  # on a device: 128 MiB
_PAIRS, _DEVICE_PAIRS = 2**22, 2**25  # held by greedy: 16 bytes each, and twice as many in a round


class Planned(NamedTuple):
    """What a selection in torch may hold at once. It is the same unless hardly anything is free."""

    block: int
    pairs: int
    bytes: int


def planned(n: int, d: int, device: torch.device) -> Planned:
    """Blocks and pairs of a selection among ``n`` points of ``d`` features, within half of the free memory."""
    cpu, fixed = device.type == "cpu", 8 * n * (2 * d + 16)
    known = free_memory(device)
    free = math.inf if known is None else max(0.0, known / 2 - fixed)
    block = int(min(CACHED if cpu else _BLOCK, n * n, free / 4 / 16))
    pairs = int(min(_PAIRS if cpu else _DEVICE_PAIRS, n * n, free * 3 / 4 / 48))
    return Planned(max(block, n), max(pairs, n), fixed + 16 * max(block, n) + 48 * max(pairs, n))


class Distances:
    """Distances between ``n`` points, rounded to a grid so fine that float64 holds every sum of ``n`` of them exactly.

    Sums thus do not depend on their order: not on threads or on a device's atomic additions. The grid is ``n * 2^-53``
    of the diameter, at 50,000 points four orders below float32's own rounding. Products of other shapes may round to
    the next point of the grid: blocks of another size may decide a near tie otherwise.

    Points in float32 are moved so that the first of them is the origin, and ``|a|^2 - 2ab + |b|^2`` is computed in
    float64 as one matrix product. Its error in a distance is at most ``1e-7`` of the diameter, for distances of that
    size only; squares within the error count as 0. Points in float64 have
    no wider type, so theirs are computed directly.

    Args:
        x: ``(n, d)`` float32 or float64, finite.
        block: most distances held at once.
        candidates: ``(m,)`` the points that distances are measured to; all of them if not given.
    """

    def __init__(self, x: Tensor, block: int, candidates: Tensor | None = None) -> None:
        self.n, self.device, self.block = len(x), x.device, block
        reach = float((x.double() - x[0].double()).abs().amax()) if x.numel() else 0.0
        bound = 2 * reach * math.sqrt(max(1, x.shape[1]))  # of the diameter
        if not bound * self.n <= torch.finfo(x.dtype).max:
            raise ValueError("distances between features overflow; scale features down, or pass float64")
        self._direct = x.dtype == torch.float64
        # A product's errors must vanish in the grid, for ties to stay ties.
        cells = max(self.n, 4 if self._direct else 2**13)
        self._shift = 1.5 * math.ldexp(1.0, math.frexp(bound * cells)[1] - 1) if bound else 0.0
        self._points = x if self._direct else _augmented(x.double() - x[0].double())
        self._candidates = self._points if candidates is None else self._points[candidates]
        self.m, self.symmetric = len(self._candidates), candidates is None
        self._scratch = torch.empty(0, dtype=torch.float64, device=x.device)

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        """From those points to all candidates ``(rows, m)``, overwritten by the next call."""
        return self.from_squares(self.squares(rows))

    def to(self, candidate: Tensor) -> Tensor:
        """From all points to one candidate, ``(n,)``."""
        return self.from_squares(self._product(self._candidates[candidate.view(1)], self._points)).view(-1).clone()

    def squares(self, rows: slice | Tensor, start: int = 0) -> Tensor:
        """Squared distances to the candidates from ``start`` on, neither rounded to the grid nor cut off at 0."""
        return self._product(self._points[rows], self._candidates[start:])

    def _product(self, points: Tensor, others: Tensor) -> Tensor:
        if self._direct:
            return torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist").square_()
        size = len(points) * len(others)
        if self._scratch.numel() < size:
            self._scratch = self._scratch.new_empty(size)
        return torch.mm(_opposite(points), others.T, out=self._scratch[:size].view(len(points), len(others)))

    def from_squares(self, squares: Tensor) -> Tensor:
        """Distances on the grid, in place."""
        return squares.clamp_(min=0).sqrt_().add_(self._shift).sub_(self._shift)

    def blocks(self) -> Iterator[slice]:
        """Rows that are to be computed together."""
        size = max(1, self.block // self.m)
        return (slice(start, min(start + size, self.n)) for start in range(0, self.n, size))


def _augmented(centered: Tensor) -> Tensor:
    """``(n, d + 2)``: the product of one of these rows with the :func:`_opposite` of another is their squared distance.

    Half of the product's error is taken off each norm, so that what the error alone made positive becomes 0.
    """
    norms = centered.square().sum(1, keepdim=True)
    error = 4 * math.sqrt(centered.shape[1]) * torch.finfo(torch.float64).eps * norms.amax()
    return torch.cat([centered, norms - error / 2, torch.ones_like(norms)], 1)


def _opposite(rows: Tensor) -> Tensor:
    return torch.cat([-2 * rows[:, :-2], rows[:, -1:], rows[:, -2:-1]], 1)
