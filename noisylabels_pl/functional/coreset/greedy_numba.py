"""Facility location and centrality on the CPU, compiled by numba.

**Blocks of 64.** The points are ordered so that neighbors in the order are near each other, and cut into blocks of 64.
The processor computes the distances from one point to a block in a few instructions.

**One pass over all pairs** gives each point's sum of distances, from which the first gains of greedy follow, and a
lower bound for the distances from each point to each block. These bounds let later steps skip most blocks.

**Covering pairs.** Let ``near(j)`` be the distance of point ``j`` to its nearest pick. A candidate at distance ``d``
from ``j`` covers it if ``d < near(j)``, and its gain is the sum of ``near(j) - d`` over the points that it covers. A
second pass, with all threads, writes down all covering pairs and the gains. The first few picks change most of the
pairs, and take all threads, too. Then greedy runs on one thread:

1. It picks the candidate with the largest gain. Only in blocks with a changed gain the largest one is searched again.
2. The pick lowers ``near(j)`` from ``old`` to ``new`` at the points that it covers. That changes the gains of the
   candidates in the pairs of ``j`` alone, each by ``max(d, new) - old``; pairs with ``d >= new`` are dropped.

So gains are updated, and never computed anew. If there are too many pairs to hold, the
first picks are made one by one, with all threads for each, until the pairs fit: then a pick computes the distances from
the points that it covers.

**Ties go to the lower index,** as in torch's engine. Distances are rounded to its grid (``distances.py``), so sums are
exact, and ties are found as ties. The two engines compute a distance by other formulas, so they may round it to
neighboring multiples of the spacing. That can decide a near tie differently, but not a tie.

**Threads.** When numba's threads start, they change the number of threads that torch uses, and with it how torch's sums
round. So both public functions set torch's number of threads back before they return. No other function of the package
``functional`` changes a global setting.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor

from noisylabels_pl.functional.coreset import kernels_numba as kernels
from noisylabels_pl.functional.coreset import pairs_numba as pair_kernels
from noisylabels_pl.functional.coreset.distances import (
    COMPILED_MAX_PAIRS,
    check_no_overflow,
    distances_to,
    rounding_shift,
)
from noisylabels_pl.functional.coreset.kernels_numba import BLOCK_SIZE, Array
from noisylabels_pl.functional.coreset.medoids import Medoids

_log = logging.getLogger(__name__)
_PAIRS_OF_ONE_COVERING = 8  # about one pair in so many covers after the first pick, or fewer
_FIRST_PICKS = 16
_one_parallel_kernel_at_a_time = Lock()  # not every threading layer lets several threads start parallel kernels


class _Blocks(NamedTuple):
    """Points in blocks, and the results of the one pass over all pairs.

    Points are numbered by their place in the blocks; only the values of ``order`` are the caller's numbers.

    Attributes:
        order: ``(n,)`` the caller's index of each point, rising within each block.
        points: ``(n / 64, d, 64)`` float64; the last block is filled with copies of its last point.
        shift: rounds a distance to the grid by being added and subtracted.
        scale: factor of the bounds in ``least``.
        least: ``(n, n / 64)`` float32, a lower bound for ``scale`` times the distances from each point to each block.
        totals: ``(n,)``, each point's sum of distances.
        largest_distance: the largest distance of all.
    """

    order: Array
    points: Array
    shift: float
    scale: float
    least: Array
    totals: Array
    largest_distance: float

    def geometry(self) -> tuple[Array, int, float, float, Array]:
        """Return the first arguments of the kernels."""
        return self.points, len(self.order), self.shift, self.scale, self.least


class _State(NamedTuple):
    """The state of greedy, which is changed in place.

    Attributes:
        gains: ``(64 * n / 64,)``, ``-inf`` for picks and for fillings of the last block.
        nearest: ``(n,)``, the distance of each point to its nearest pick.
        assignment: ``(n,)``, the position of that pick in ``picks``.
        picks: ``(k,)``.
    """

    gains: Array
    nearest: Array
    assignment: Array
    picks: Array


@contextmanager
def _keep_number_of_threads() -> Iterator[None]:
    """Let numba use as many threads as torch, and set the numbers of both back afterwards."""
    torch_threads = torch.get_num_threads()
    numba_threads = numba.get_num_threads()
    available = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    numba.set_num_threads(min(torch_threads, available))
    try:
        yield
    finally:
        numba.set_num_threads(numba_threads)
        torch.set_num_threads(torch_threads)


@_keep_number_of_threads()
def greedy(points: Tensor, k: int) -> Medoids:
    """Return ``k`` medoids by greedy facility location.

    Args:
        points: ``(n, d)`` float32 or float64, finite, on the CPU.
        k: number of medoids.

    Returns:
        The medoids.

    Raises:
        ValueError: distances overflow.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional.coreset import greedy_numba
        >>> greedy_numba.greedy(torch.tensor([[0.0], [1.0], [2.0], [9.0]]), k=2).indices
        tensor([1, 3])
    """
    blocks = _prepare(points)
    n = len(points)
    gains = np.full(len(blocks.points) * BLOCK_SIZE, -np.inf)
    gains[:n] = n * blocks.largest_distance - blocks.totals
    nearest = np.full(n, blocks.largest_distance)
    state = _State(gains, nearest, np.zeros(n, np.int64), np.empty(k, np.int64))
    _pick_all(blocks, state, COMPILED_MAX_PAIRS)
    return _medoids(blocks, points, state.picks, state.assignment)


@_keep_number_of_threads()
def central(points: Tensor, k: int) -> Medoids:
    """Return the ``k`` points with the smallest sums of distances to all points; ties go to the lower index.

    Args:
        points: ``(n, d)`` float32 or float64, finite, on the CPU.
        k: number of medoids.

    Returns:
        The medoids.

    Raises:
        ValueError: distances overflow.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional.coreset import greedy_numba
        >>> greedy_numba.central(torch.tensor([[0.0], [1.0], [2.0], [9.0]]), k=2).indices
        tensor([1, 2])
    """
    blocks = _prepare(points)
    picks = np.lexsort((blocks.order, blocks.totals))[:k]
    positions = np.full(len(points), -1)
    positions[picks] = np.arange(k)
    with _one_parallel_kernel_at_a_time:
        assignment = kernels.nearest_medoids(*blocks.geometry(), positions, numba.get_num_threads())
    return _medoids(blocks, points, picks, assignment)


def _prepare(points: Tensor) -> _Blocks:
    """Order the points, cut them into blocks, and compute all distances once."""
    if not kernels.all_distances.signatures:
        _log.info("numba: compiling or loading the kernels of coresets; compiling takes some seconds, once")
    features = points.numpy()
    order = _order_by_nearness(features)
    block_points = _cut_into_blocks(features, order)
    shift, bound = rounding_shift(points)
    scale = math.ldexp(1.0, -math.frexp(bound)[1])
    with _one_parallel_kernel_at_a_time:
        totals, least, largest_distance = kernels.all_distances(
            block_points, len(features), shift, scale, numba.get_num_threads()
        )
    check_no_overflow(largest_distance)
    return _Blocks(order, block_points, shift, scale, least, totals, largest_distance)


def _pick_all(blocks: _Blocks, state: _State, max_pairs: int) -> None:
    """Let greedy pick until ``state.picks`` is full."""
    n = len(state.nearest)
    if n * n <= _PAIRS_OF_ONE_COVERING * max_pairs:
        # The pairs may fit after one pick. Then the gains after this pick come from the pairs.
        pick = _first_of_the_largest(state.gains, blocks.order)
        state.picks[0] = pick
        gains = state.gains.copy()
        gains[pick] = -np.inf
        nearest = kernels.distances_from(blocks.points, n, blocks.shift, pick)
        if _pick_from_pairs(blocks, state._replace(gains=gains, nearest=nearest), 1, max_pairs):
            return
    num_covering = np.full(n, n)
    for step in range(len(state.picks)):
        if step and num_covering.sum() <= max_pairs:
            if _pick_from_pairs(blocks, state, step, max_pairs):
                return
            max_pairs = max_pairs * 9 // 10  # the threads' parts were too unequal
        pick = _first_of_the_largest(state.gains, blocks.order)
        state.picks[step] = pick
        with _one_parallel_kernel_at_a_time:
            state.gains[:] += kernels.lower_gains(
                *blocks.geometry(),
                pick,
                step,
                state.nearest,
                state.assignment,
                num_covering,
                numba.get_num_threads(),
            )
        state.gains[pick] = -np.inf


def _pick_from_pairs(blocks: _Blocks, state: _State, num_picked: int, max_pairs: int) -> bool:
    """Make all picks that are left from the covering pairs, unless these are too many; return whether they were not."""
    candidates = np.empty(max_pairs, np.uint32)  # takes memory only where it is written
    distances = np.empty(max_pairs)
    with _one_parallel_kernel_at_a_time:
        starts, counts, gains, all_fit = pair_kernels.covering_pairs(
            *blocks.geometry(), state.nearest, candidates, distances, numba.get_num_threads()
        )
    if not all_fit:
        return False
    gains[np.isneginf(state.gains)] = -np.inf
    pairs = (starts, counts, candidates, distances)
    num_first = min(len(state.picks), _FIRST_PICKS if numba.get_num_threads() > 1 else 0)
    for step in range(num_picked, num_first):  # with all threads, because these picks change most of the pairs
        pick = _first_of_the_largest(gains, blocks.order)
        state.picks[step] = pick
        with _one_parallel_kernel_at_a_time:
            gains += pair_kernels.lower_gains_from_pairs(
                *blocks.geometry(), pick, step, state.nearest, state.assignment, *pairs, numba.get_num_threads()
            )
        gains[pick] = -np.inf
    num_picked = max(num_picked, num_first)
    pair_kernels.pick_from_pairs(*blocks.geometry(), blocks.order, *state._replace(gains=gains), num_picked, *pairs)
    return True


def _first_of_the_largest(gains: Array, order: Array) -> int:
    """Return the place of the largest gain; of several, the one with the caller's lowest index."""
    places = np.flatnonzero(gains[: len(order)] == gains.max())
    return int(places[order[places].argmin()])


def _medoids(blocks: _Blocks, points: Tensor, picks: Array, assignment: Array) -> Medoids:
    """Return the results, numbered by the place in the blocks, as medoids numbered by the caller's indices."""
    original_assignment = np.empty_like(assignment)
    original_assignment[blocks.order] = assignment
    indices = torch.from_numpy(blocks.order[picks])
    nearest = distances_to(points, indices[torch.from_numpy(original_assignment)])
    return Medoids(indices, torch.from_numpy(original_assignment), nearest, blocks.largest_distance)


def _order_by_nearness(features: Array) -> Array:
    """Return an order of the points ``(n,)`` in which neighbors are near each other.

    Halves the points along their widest feature, then each half, until the parts have at most 64 points.
    """
    order = np.arange(len(features))
    ranges = [(0, len(features))]
    while ranges:
        start, end = ranges.pop()
        if end - start <= BLOCK_SIZE:
            continue
        part = features[order[start:end]]
        low, high = torch.from_numpy(part).aminmax(dim=0)
        widest = int((high - low).argmax())
        half = max(1, (end - start) // 2 // BLOCK_SIZE) * BLOCK_SIZE  # whole blocks
        order[start:end] = order[start:end][np.argpartition(part[:, widest], half)]
        ranges.append((start, start + half))
        ranges.append((start + half, end))
    for start in range(0, len(order), BLOCK_SIZE):
        order[start : start + BLOCK_SIZE].sort()  # so that the first of several in a block has the lowest index
    return order


def _cut_into_blocks(features: Array, order: Array) -> Array:
    """Return the ordered points as blocks ``(n / 64, d, 64)``; the last one is filled with copies of its last point."""
    num_blocks = math.ceil(len(features) / BLOCK_SIZE)
    filling = np.full(num_blocks * BLOCK_SIZE - len(features), order[-1])
    filled = features[np.append(order, filling)].reshape(num_blocks, BLOCK_SIZE, -1)
    # Memory of torch starts at a multiple of 64 bytes, so that no vector of a processor lies across two cache lines.
    blocks = torch.empty(num_blocks, features.shape[1], BLOCK_SIZE, dtype=torch.float64).numpy()
    blocks[:] = filled.transpose(0, 2, 1)
    return blocks
