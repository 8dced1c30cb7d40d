"""The compiled kernels of ``greedy_numba.py`` that compute distances anew; ``pairs_numba.py`` has the others.

Points are numbered by their place in the blocks. All distances come from :func:`distances_to_block`, which uses no
operation that a compiler may reorder or fuse. So a pair of points has the same distance in all kernels and on every
machine. Distances lie on the grid that ``distances.py`` describes: their sums are exact, so threads may add in any
order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

Array = NDArray[Any]
BLOCK_SIZE = 64  # points; a multiple of the numbers that a processor computes at once
_PARTIAL_SUMS = 16  # that a sum over a block is split into, so that they are added side by side
FAST_MATH = {"nnan", "nsz"}  # not "reassoc" and "contract", which would change how distances round


@njit(inline="always", cache=True)
def copy_point(block: Array, lane: int, out: Array) -> None:
    """Write a point of a block ``(d, 64)`` to ``out`` ``(d,)``."""
    for feature in range(len(out)):
        out[feature] = block[feature, lane]


@njit(inline="always", cache=True)
def squares_to_block(block: Array, point: Array, out: Array) -> None:
    """Write the squared distances from a point ``(d,)`` to a block ``(d, 64)`` to ``out`` ``(64,)``."""
    for lane in range(BLOCK_SIZE):
        out[lane] = 0
    for feature in range(len(point)):
        value = point[feature]
        for lane in range(BLOCK_SIZE):
            difference = block[feature, lane] - value
            out[lane] += difference * difference


@njit(inline="always", cache=True)
def distances_to_block(block: Array, point: Array, shift: float, out: Array) -> None:
    """Write the distances from a point ``(d,)`` to a block ``(d, 64)``, on the grid, to ``out`` ``(64,)``."""
    squares_to_block(block, point, out)
    for lane in range(BLOCK_SIZE):
        out[lane] = (np.sqrt(out[lane]) + shift) - shift


@njit(inline="always", cache=True)
def _lower_bound(distance: float, scale: float) -> Any:
    """Return a float32 that is at most ``distance * scale``, and less by a millionth at most."""
    return np.float32(distance * scale * (1 - 2.0**-23))


@njit(inline="always", cache=True)
def _sum(values: Array, partial_sums: Array) -> float:
    """Return the sum of a block's values ``(64,)``; ``partial_sums`` ``(16,)`` is overwritten."""
    partial_sums[:] = 0
    for start in range(0, BLOCK_SIZE, _PARTIAL_SUMS):
        for i in range(_PARTIAL_SUMS):
            partial_sums[i] += values[start + i]
    total = 0.0
    for i in range(_PARTIAL_SUMS):
        total += partial_sums[i]
    return total


@njit(parallel=True, fastmath=FAST_MATH, cache=True)
def all_distances(blocks: Array, n: int, shift: float, scale: float, num_threads: int) -> tuple[Array, Array, float]:
    """Compute all distances once; each pair of blocks is computed for both of its sides.

    Args:
        blocks: ``(n / 64, d, 64)`` float64.
        n: number of points.
        shift: rounds a distance to the grid.
        scale: factor that brings all distances below 1.
        num_threads: each takes every ``num_threads``-th block.

    Returns:
        Each point's sum of distances ``(n,)``; a lower bound for ``scale`` times the distances from each point to each
        block, ``(n, n / 64)`` float32; and the largest distance.
    """
    num_blocks, d, _ = blocks.shape
    totals = np.zeros((num_threads, num_blocks * BLOCK_SIZE))
    largest = np.zeros(num_threads)
    least = np.empty((num_blocks * BLOCK_SIZE, num_blocks), np.float32)
    for thread in prange(num_threads):
        point = np.empty(d)
        distances = np.empty(BLOCK_SIZE)
        partial_sums = np.empty(_PARTIAL_SUMS)
        column_sums = np.empty(BLOCK_SIZE)
        column_least = np.empty(BLOCK_SIZE)
        thread_largest = 0.0
        for first in range(thread, num_blocks, num_threads):
            num_rows = min(BLOCK_SIZE, n - first * BLOCK_SIZE)
            for second in range(first, num_blocks):
                num_lanes = min(BLOCK_SIZE, n - second * BLOCK_SIZE)
                column_sums[:] = 0
                column_least[:] = np.inf
                for row in range(num_rows):
                    i = first * BLOCK_SIZE + row
                    copy_point(blocks[first], row, point)
                    distances_to_block(blocks[second], point, shift, distances)
                    low = distances[0]
                    high = distances[0]
                    for lane in range(BLOCK_SIZE):
                        low = min(low, distances[lane])
                        high = max(high, distances[lane])
                        column_sums[lane] += distances[lane]
                        column_least[lane] = min(column_least[lane], distances[lane])
                    for lane in range(num_lanes, BLOCK_SIZE):
                        distances[lane] = 0  # a copy of the last point counts as none
                    totals[thread, i] += _sum(distances, partial_sums)
                    least[i, second] = _lower_bound(low, scale)
                    thread_largest = max(thread_largest, high)
                if first != second:
                    for lane in range(BLOCK_SIZE):
                        j = second * BLOCK_SIZE + lane
                        totals[thread, j] += column_sums[lane]
                        least[j, first] = _lower_bound(column_least[lane], scale)
        largest[thread] = thread_largest
    return totals[:, :n].sum(0), least[:n], largest.max()


@njit(fastmath=FAST_MATH, cache=True, nogil=True)
def distances_from(blocks: Array, n: int, shift: float, place: int) -> Array:
    """Return the distances from one point to all, ``(n,)``; the arguments are those of :func:`all_distances`."""
    num_blocks, d, _ = blocks.shape
    point = np.empty(d)
    distances = np.empty((num_blocks, BLOCK_SIZE))
    copy_point(blocks[place // BLOCK_SIZE], place % BLOCK_SIZE, point)
    for block in range(num_blocks):
        distances_to_block(blocks[block], point, shift, distances[block])
    result: Array = distances.ravel()[:n].copy()
    return result


@njit(parallel=True, fastmath=FAST_MATH, cache=True)
def lower_gains(
    blocks: Array,
    n: int,
    shift: float,
    scale: float,
    least: Array,
    pick: int,
    step: int,
    nearest: Array,
    assignment: Array,
    num_covering: Array,
    num_threads: int,
) -> Array:
    """Let a pick cover points, and return by how much the gain of each candidate changes, ``(64 * n / 64,)``.

    Args:
        blocks: ``(n / 64, d, 64)`` float64.
        n: number of points.
        shift: rounds a distance to the grid.
        scale: factor of the bounds in ``least``.
        least: ``(n, n / 64)``, from :func:`all_distances`.
        pick: a point.
        step: the number of picks before it.
        nearest: ``(n,)``, each point's distance to its nearest pick; changed in place.
        assignment: ``(n,)``, the step of that pick; changed in place.
        num_covering: ``(n,)``, how many candidates are nearer to a point than its nearest pick; changed in place.
        num_threads: each takes every ``num_threads``-th block of points.
    """
    num_blocks, d, _ = blocks.shape
    changes = np.zeros((num_threads, num_blocks * BLOCK_SIZE))
    for thread in prange(num_threads):
        point = np.empty(d)
        pick_point = np.empty(d)
        distances = np.empty(BLOCK_SIZE)
        pick_distances = np.empty(BLOCK_SIZE)
        copy_point(blocks[pick // BLOCK_SIZE], pick % BLOCK_SIZE, pick_point)
        for own_block in range(thread, num_blocks, num_threads):
            distances_to_block(blocks[own_block], pick_point, shift, pick_distances)
            for lane in range(min(BLOCK_SIZE, n - own_block * BLOCK_SIZE)):
                j = own_block * BLOCK_SIZE + lane
                old = nearest[j]
                new = pick_distances[lane]
                if new >= old:
                    continue
                nearest[j] = new
                assignment[j] = step
                copy_point(blocks[own_block], lane, point)
                count = 0
                for block in range(num_blocks):
                    if least[j, block] >= old * scale:
                        continue  # no candidate of the block covers the point
                    distances_to_block(blocks[block], point, shift, distances)
                    for other in range(BLOCK_SIZE):
                        change = min(max(distances[other], new), old) - old
                        changes[thread, block * BLOCK_SIZE + other] += change
                        count += distances[other] < new
                num_covering[j] = count
    total: Array = changes.sum(0)
    return total


@njit(parallel=True, fastmath=FAST_MATH, cache=True)
def nearest_medoids(
    blocks: Array, n: int, shift: float, scale: float, least: Array, positions: Array, num_threads: int
) -> Array:
    """Return the position of each point's nearest medoid, ``(n,)``; ties go to the lower position.

    Args:
        blocks: ``(n / 64, d, 64)`` float64.
        n: number of points.
        shift: rounds a distance to the grid.
        scale: factor of the bounds in ``least``.
        least: ``(n, n / 64)``, from :func:`all_distances`.
        positions: ``(n,)``, each medoid's position in the order of selection, and -1 for points that are no medoids.
        num_threads: each takes every ``num_threads``-th block of points.
    """
    num_blocks, d, _ = blocks.shape
    assignment = np.zeros(n, np.int64)
    has_medoid = np.zeros(num_blocks, np.bool_)
    for i in range(n):
        has_medoid[i // BLOCK_SIZE] |= positions[i] >= 0
    for thread in prange(num_threads):
        point = np.empty(d)
        distances = np.empty(BLOCK_SIZE)
        for own_block in range(thread, num_blocks, num_threads):
            for i in range(own_block * BLOCK_SIZE, min(n, (own_block + 1) * BLOCK_SIZE)):
                nearest = np.inf
                copy_point(blocks[own_block], i - own_block * BLOCK_SIZE, point)
                for offset in range(num_blocks):
                    block = (own_block + offset) % num_blocks  # the own block first, which gives the best bound
                    if not has_medoid[block] or least[i, block] > nearest * scale:
                        continue
                    distances_to_block(blocks[block], point, shift, distances)
                    for lane in range(min(BLOCK_SIZE, n - block * BLOCK_SIZE)):
                        position = positions[block * BLOCK_SIZE + lane]
                        if position < 0:
                            continue
                        distance = distances[lane]
                        if distance < nearest or (distance == nearest and position < assignment[i]):
                            nearest = distance
                            assignment[i] = position
    return assignment
