"""Facility location and centrality on the CPU, compiled by numba.

**Blocks of 64.** The points are ordered so that neighbors in the order are near each other, and cut into blocks of 64.
The processor computes the distances from one point to a block in a few instructions.

**One pass over all pairs** gives each point's sum of distances, from which the first gains of greedy follow, and the
least distance from each point to each block. These bounds let later steps skip most blocks without any distance:

1. Let ``near(j)`` be the distance of point ``j`` to its nearest pick. A pick can be nearer to some point of a block
   only if its least distance to the block is smaller than the largest ``near(j)`` in the block.
2. A pick lowers ``near(j)`` from ``old`` to ``new``. The gain of a candidate at distance ``d`` from ``j`` contains
   ``max(0, near(j) - d)``. This part changes by ``clamp(d, new, old) - old``, which is 0 unless ``d < old``. So gains
   change only in blocks whose least distance to ``j`` is below ``old``.
3. Each step picks the largest gain of all. Only in blocks with a changed gain the largest one is searched again.

So gains are updated, and never computed anew. On usual data the nearest distance of a point falls about ``log k``
times, so this takes about ``O(n^2 log k)`` distances instead of ``O(n^2 k)``. Ties in facility location go to the point
that is first in the order of the blocks.

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
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray
from torch import Tensor

from noisylabels_pl.functional.coreset.distances import check_no_overflow
from noisylabels_pl.functional.coreset.medoids import Medoids

Array = NDArray[Any]
_log = logging.getLogger(__name__)
BLOCK_SIZE = 64  # points; a multiple of the numbers that a processor computes at once
_one_parallel_kernel_at_a_time = Lock()  # not every threading layer lets several threads start parallel kernels
_FAST_MATH = {"nnan", "nsz", "contract"}  # not "reassoc", with which sums would depend on the machine


class _Blocks(NamedTuple):
    """Points in blocks, and the results of the one pass over all pairs.

    Points are numbered by their place in the blocks; only the values of ``order`` are the caller's numbers.

    Attributes:
        order: ``(n,)`` the caller's index of each point.
        points: ``(n / 64, d, 64)``, rounded up; the last block is filled with copies of its last point.
        totals: ``(n,)`` float64, each point's sum of distances.
        least: ``(n, n / 64)``, the least distance from each point to each block.
        largest_distance: the largest distance of all.
    """

    order: Array
    points: Array
    totals: Array
    least: Array
    largest_distance: float


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
        The medoids; distances have the type of the points.

    Raises:
        ValueError: distances overflow.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional.coreset import greedy_numba
        >>> greedy_numba.greedy(torch.tensor([[0.0], [1.0], [2.0], [9.0]]), k=2).indices
        tensor([1, 3])
    """
    blocks = _prepare(points)
    largest_distance = blocks.points.dtype.type(blocks.largest_distance)
    picks, assignment, nearest = _greedy(blocks.points, len(points), k, blocks.totals, blocks.least, largest_distance)
    return _medoids(blocks, picks, assignment, nearest)


@_keep_number_of_threads()
def central(points: Tensor, k: int) -> Medoids:
    """Return the ``k`` points with the smallest sums of distances to all points; ties go to the lower index.

    Args:
        points: ``(n, d)`` float32 or float64, finite, on the CPU.
        k: number of medoids.

    Returns:
        The medoids; distances have the type of the points.

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
        assignment, nearest = _nearest_medoids(blocks.points, len(points), positions, blocks.least)
    return _medoids(blocks, picks, assignment, nearest)


def _prepare(points: Tensor) -> _Blocks:
    """Order the points, cut them into blocks, and compute all distances once."""
    if not _all_distances.signatures:
        _log.info("numba: compiling or loading the kernels of coresets; compiling takes some seconds, once")
    features = points.numpy()
    order = _order_by_nearness(features)
    block_points = _cut_into_blocks(features, order)
    with _one_parallel_kernel_at_a_time:
        totals, largest, least = _all_distances(block_points, len(features))
    largest_distance = float(largest.max())
    check_no_overflow(largest_distance)
    return _Blocks(order, block_points, totals, least, largest_distance)


def _medoids(blocks: _Blocks, picks: Array, assignment: Array, nearest: Array) -> Medoids:
    """Return the results, numbered by the place in the blocks, as medoids numbered by the caller's indices."""
    original_assignment = np.empty_like(assignment)
    original_assignment[blocks.order] = assignment
    original_nearest = np.empty_like(nearest)
    original_nearest[blocks.order] = nearest
    return Medoids(
        indices=torch.from_numpy(blocks.order[picks]),
        assignment=torch.from_numpy(original_assignment),
        distances=torch.from_numpy(original_nearest),
        largest_distance=blocks.largest_distance,
    )


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
        widest = np.argmax(part.max(0) - part.min(0))
        half = max(1, (end - start) // 2 // BLOCK_SIZE) * BLOCK_SIZE  # whole blocks
        order[start:end] = order[start:end][np.argpartition(part[:, widest], half)]
        ranges.append((start, start + half))
        ranges.append((start + half, end))
    return order


def _cut_into_blocks(features: Array, order: Array) -> Array:
    """Return the ordered points as blocks ``(n / 64, d, 64)``; the last one is filled with copies of its last point."""
    num_blocks = math.ceil(len(features) / BLOCK_SIZE)
    filling = np.full(num_blocks * BLOCK_SIZE - len(features), order[-1])
    filled = features[np.append(order, filling)]
    return np.ascontiguousarray(filled.reshape(num_blocks, BLOCK_SIZE, -1).transpose(0, 2, 1))


@njit(inline="always", cache=True)
def _copy_point(block: Array, lane: int, out: Array) -> None:
    """Write a point of a block ``(d, 64)`` to ``out`` ``(d,)``."""
    for feature in range(len(out)):
        out[feature] = block[feature, lane]


@njit(inline="always", cache=True)
def _distances(block: Array, point: Array, out: Array) -> None:
    """Write the distances from a point ``(d,)`` to a block ``(d, 64)`` to ``out`` ``(64,)``."""
    for lane in range(BLOCK_SIZE):
        out[lane] = 0
    for feature in range(len(point)):
        value = point[feature]
        for lane in range(BLOCK_SIZE):
            difference = block[feature, lane] - value
            out[lane] += difference * difference
    for lane in range(BLOCK_SIZE):
        out[lane] = np.sqrt(out[lane])


@njit(parallel=True, fastmath=_FAST_MATH, cache=True)
def _all_distances(blocks: Array, n: int) -> tuple[Array, Array, Array]:
    """Return each point's sum ``(n,)``, maximum ``(n,)``, and least in each block ``(n, n / 64)`` of its distances."""
    num_blocks, d, _ = blocks.shape
    totals = np.zeros(n)
    largest = np.zeros(n, blocks.dtype)
    least = np.empty((n, num_blocks), blocks.dtype)
    for own_block in prange(num_blocks):
        point = np.empty(d, blocks.dtype)
        distances = np.empty(BLOCK_SIZE, blocks.dtype)
        for i in range(own_block * BLOCK_SIZE, min(n, (own_block + 1) * BLOCK_SIZE)):
            _copy_point(blocks[own_block], i - own_block * BLOCK_SIZE, point)
            for block in range(num_blocks):
                _distances(blocks[block], point, distances)
                total = 0.0
                low = distances[0]
                high = distances[0]
                for lane in range(min(BLOCK_SIZE, n - block * BLOCK_SIZE)):
                    total += distances[lane]
                    low = min(low, distances[lane])
                    high = max(high, distances[lane])
                totals[i] += total
                least[i, block] = low
                largest[i] = max(largest[i], high)
    return totals, largest, least


@njit(inline="always", cache=True)
def _lower_gains(
    blocks: Array, point: Array, least: Array, old: Any, new: Any, gains: Array, is_stale: Array, distances: Array
) -> None:
    """Change the gains of all candidates where the nearest distance of a point ``(d,)`` falls from old to new.

    Args:
        blocks: ``(n / 64, d, 64)`` the candidates.
        point: ``(d,)``.
        least: ``(n / 64,)``, the least distance from the point to each block.
        old: the nearest distance before.
        new: the nearest distance now.
        gains: ``(n,)``, changed in place.
        is_stale: ``(n / 64,)``, set to true where gains of a block change.
        distances: ``(64,)``, overwritten.
    """
    for block in range(len(blocks)):
        if least[block] >= old:
            continue  # no candidate of the block covers the point
        is_stale[block] = True
        _distances(blocks[block], point, distances)
        for lane in range(BLOCK_SIZE):
            # In float64, because the distances to the first picks can be much smaller than the largest one.
            change = np.float64(min(max(distances[lane], new), old)) - np.float64(old)
            gains[block * BLOCK_SIZE + lane] += change


@njit(fastmath=_FAST_MATH, cache=True, nogil=True)
def _greedy(
    blocks: Array, n: int, k: int, totals: Array, least: Array, largest_distance: float
) -> tuple[Array, Array, Array]:
    """Return the picks ``(k,)``, each point's nearest pick by its step ``(n,)``, and the distance to it ``(n,)``."""
    num_blocks, d, _ = blocks.shape
    gains = np.full(num_blocks * BLOCK_SIZE, -np.inf)
    gains[:n] = n * largest_distance - totals
    largest_gain = np.empty(num_blocks)  # of each block
    is_stale = np.ones(num_blocks, np.bool_)  # whether a block's largest gain must be searched again
    nearest = np.zeros(num_blocks * BLOCK_SIZE, blocks.dtype)
    nearest[:n] = largest_distance
    largest_nearest = np.full(num_blocks, largest_distance, blocks.dtype)  # of each block
    picks = np.empty(k, np.int64)
    assignment = np.zeros(num_blocks * BLOCK_SIZE, np.int64)
    pick_point = np.empty(d, blocks.dtype)
    pick_distances = np.empty(BLOCK_SIZE, blocks.dtype)
    point = np.empty(d, blocks.dtype)
    distances = np.empty(BLOCK_SIZE, blocks.dtype)
    for step in range(k):
        # Pick the largest gain.
        for block in range(num_blocks):
            if is_stale[block]:
                largest_gain[block] = gains[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE].max()
                is_stale[block] = False
        pick_block = int(np.argmax(largest_gain))
        pick = pick_block * BLOCK_SIZE + np.argmax(gains[pick_block * BLOCK_SIZE : (pick_block + 1) * BLOCK_SIZE])
        picks[step] = pick
        gains[pick] = -np.inf
        is_stale[pick_block] = True
        # Lower the nearest distances of the points that the pick covers, and the gains with them.
        _copy_point(blocks[pick_block], pick - pick_block * BLOCK_SIZE, pick_point)
        for block in range(num_blocks):
            if least[pick, block] >= largest_nearest[block]:
                continue  # the pick covers no point of the block
            _distances(blocks[block], pick_point, pick_distances)
            for lane in range(BLOCK_SIZE):
                j = block * BLOCK_SIZE + lane
                old = nearest[j]
                new = pick_distances[lane]
                if new >= old:
                    continue
                nearest[j] = new
                assignment[j] = step
                _copy_point(blocks[block], lane, point)
                _lower_gains(blocks, point, least[j], old, new, gains, is_stale, distances)
            largest_nearest[block] = nearest[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE].max()
    return picks, assignment[:n], nearest[:n]


@njit(parallel=True, fastmath=_FAST_MATH, cache=True)
def _nearest_medoids(blocks: Array, n: int, positions: Array, least: Array) -> tuple[Array, Array]:
    """Return the position of each point's nearest medoid ``(n,)`` and the distance to it ``(n,)``.

    ``positions`` ``(n,)`` holds each medoid's position in the order of selection, and -1 for points that are no
    medoids. Ties go to the lower position.
    """
    num_blocks, d, _ = blocks.shape
    assignment = np.zeros(n, np.int64)
    nearest = np.full(n, np.inf, blocks.dtype)
    has_medoid = np.zeros(num_blocks, np.bool_)
    for i in range(n):
        has_medoid[i // BLOCK_SIZE] |= positions[i] >= 0
    for own_block in prange(num_blocks):
        point = np.empty(d, blocks.dtype)
        distances = np.empty(BLOCK_SIZE, blocks.dtype)
        for i in range(own_block * BLOCK_SIZE, min(n, (own_block + 1) * BLOCK_SIZE)):
            _copy_point(blocks[own_block], i - own_block * BLOCK_SIZE, point)
            for shift in range(num_blocks):
                block = (own_block + shift) % num_blocks  # the point's own block first, which gives the best bound
                if not has_medoid[block] or least[i, block] > nearest[i]:
                    continue
                _distances(blocks[block], point, distances)
                for lane in range(min(BLOCK_SIZE, n - block * BLOCK_SIZE)):
                    position = positions[block * BLOCK_SIZE + lane]
                    if position < 0:
                        continue
                    distance = distances[lane]
                    if distance < nearest[i] or (distance == nearest[i] and position < assignment[i]):
                        nearest[i] = distance
                        assignment[i] = position
    return assignment, nearest
