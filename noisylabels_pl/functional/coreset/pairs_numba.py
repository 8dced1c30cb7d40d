"""The compiled kernels of ``greedy_numba.py`` that work on covering pairs in memory.

Points are numbered by their place in the blocks. The pairs of a point stand one after the other; those that do not
cover it any more are overwritten.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from noisylabels_pl.functional.coreset.kernels_numba import (
    BLOCK_SIZE,
    FAST_MATH,
    Array,
    copy_point,
    distances_to_block,
    squares_to_block,
)


@njit(parallel=True, fastmath=FAST_MATH, cache=True)
def covering_pairs(
    blocks: Array,
    n: int,
    shift: float,
    scale: float,
    least: Array,
    nearest: Array,
    candidates: Array,
    distances: Array,
    num_threads: int,
) -> tuple[Array, Array, Array, bool]:
    """Write all pairs of a point and a candidate that is nearer to it than its nearest pick.

    Args:
        blocks: ``(n / 64, d, 64)`` float64.
        n: number of points.
        shift: rounds a distance to the grid.
        scale: factor of the bounds in ``least``.
        least: ``(n, n / 64)``, from :func:`all_distances`.
        nearest: ``(n,)``, each point's distance to its nearest pick.
        candidates: ``(p,)`` uint32, receives the candidate of each pair.
        distances: ``(p,)`` float64, receives the distance of each pair.
        num_threads: each takes every ``num_threads``-th block of points, and an equal part of ``p``.

    Returns:
        The place of each point's first pair ``(n,)``, the number of its pairs ``(n,)``, the gain of each candidate
        ``(64 * n / 64,)``, and whether there was room for all pairs.
    """
    num_blocks, d, _ = blocks.shape
    starts = np.zeros(n, np.int64)
    counts = np.zeros(n, np.int64)
    gains = np.zeros((num_threads, num_blocks * BLOCK_SIZE))
    fits = np.ones(num_threads, np.bool_)
    part = len(candidates) // num_threads
    for thread in prange(num_threads):
        point = np.empty(d)
        squares = np.empty(BLOCK_SIZE)
        place = np.uint64(thread * part)
        end = np.uint64((thread + 1) * part)
        for own_block in range(thread, num_blocks, num_threads):
            for row in range(min(BLOCK_SIZE, n - own_block * BLOCK_SIZE)):
                i = own_block * BLOCK_SIZE + row
                limit = nearest[i]
                square_limit = limit * limit * (1 + 1e-12)  # sorts out most pairs before their roots are taken
                starts[i] = place
                copy_point(blocks[own_block], row, point)
                for block in range(num_blocks):
                    if least[i, block] >= limit * scale:
                        continue
                    if place + np.uint64(BLOCK_SIZE) > end:
                        fits[thread] = False
                        break
                    squares_to_block(blocks[block], point, squares)
                    for lane in range(min(BLOCK_SIZE, n - block * BLOCK_SIZE)):
                        if squares[lane] < square_limit:
                            distance = (np.sqrt(squares[lane]) + shift) - shift
                            candidates[place] = block * BLOCK_SIZE + lane
                            distances[place] = distance
                            gains[thread, block * BLOCK_SIZE + lane] += max(limit - distance, 0.0)
                            place += np.uint64(distance < limit)
                counts[i] = place - starts[i]
                if not fits[thread]:
                    break
            if not fits[thread]:
                break
    all_fit = bool(fits.all())
    return starts, counts, gains.sum(0), all_fit


@njit(inline="always", cache=True)
def _lower_gains_of_pairs(
    candidates: Array, distances: Array, old: float, new: float, gains: Array, is_stale: Array
) -> Any:
    """Change the gains of a point's pairs where its nearest distance falls from old to new.

    Pairs that do not cover the point any more are overwritten by later ones; returns the number of the others. There is
    no branch in the loop, because a processor could not predict it.
    """
    count = np.uint64(0)
    for pair in range(len(candidates)):
        candidate = candidates[pair]
        distance = distances[pair]
        gains[candidate] += max(distance, new) - old
        is_stale[candidate >> np.uint32(6)] = True
        candidates[count] = candidate
        distances[count] = distance
        count += np.uint64(distance < new)
    return count


@njit(parallel=True, fastmath=FAST_MATH, cache=True)
def lower_gains_from_pairs(
    blocks: Array,
    n: int,
    shift: float,
    scale: float,
    least: Array,
    pick: int,
    step: int,
    nearest: Array,
    assignment: Array,
    starts: Array,
    counts: Array,
    candidates: Array,
    distances: Array,
    num_threads: int,
) -> Array:
    """Let a pick cover points, as :func:`lower_gains` does, with all pairs in memory.

    The arguments are those of :func:`lower_gains` and :func:`pick_from_pairs`.
    """
    num_blocks, d, _ = blocks.shape
    changes = np.zeros((num_threads, num_blocks * BLOCK_SIZE))
    for thread in prange(num_threads):
        is_stale = np.empty(num_blocks, np.bool_)  # written only
        pick_point = np.empty(d)
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
                pairs = slice(starts[j], starts[j] + counts[j])
                counts[j] = _lower_gains_of_pairs(
                    candidates[pairs], distances[pairs], old, new, changes[thread], is_stale
                )
    total: Array = changes.sum(0)
    return total


@njit(fastmath=FAST_MATH, cache=True, nogil=True)
def pick_from_pairs(
    blocks: Array,
    n: int,
    shift: float,
    scale: float,
    least: Array,
    order: Array,
    gains: Array,
    nearest: Array,
    assignment: Array,
    picks: Array,
    num_picked: int,
    starts: Array,
    counts: Array,
    candidates: Array,
    distances: Array,
) -> None:
    """Continue greedy until ``picks`` is full, with all pairs in memory.

    Args:
        blocks: ``(n / 64, d, 64)`` float64.
        n: number of points.
        shift: rounds a distance to the grid.
        scale: factor of the bounds in ``least``.
        least: ``(n, n / 64)``, from :func:`all_distances`.
        order: ``(n,)`` the caller's index of each point, rising within each block.
        gains: ``(64 * n / 64,)``, of picks and fillings ``-inf``; changed in place.
        nearest: ``(n,)``; changed in place.
        assignment: ``(n,)``; changed in place.
        picks: ``(k,)``, the first ``num_picked`` of which are set.
        num_picked: number of picks before.
        starts: ``(n,)``, from :func:`covering_pairs`, as the next three; all are changed in place.
        counts: ``(n,)``.
        candidates: ``(p,)``.
        distances: ``(p,)``.
    """
    num_blocks, d, _ = blocks.shape
    best_lane = np.zeros(num_blocks, np.int64)  # the first candidate with the largest gain of each block
    is_stale = np.ones(num_blocks, np.bool_)  # whether it must be searched again
    largest_nearest = np.zeros(num_blocks)
    for j in range(n):
        largest_nearest[j // BLOCK_SIZE] = max(largest_nearest[j // BLOCK_SIZE], nearest[j])
    pick_point = np.empty(d)
    pick_distances = np.empty(BLOCK_SIZE)
    for step in range(num_picked, len(picks)):
        pick = -1
        for block in range(num_blocks):
            first = block * BLOCK_SIZE
            if is_stale[block]:
                best_lane[block] = np.argmax(gains[first : first + BLOCK_SIZE])
                is_stale[block] = False
            rival = first + best_lane[block]
            if pick < 0 or gains[rival] > gains[pick] or (gains[rival] == gains[pick] and order[rival] < order[pick]):
                pick = rival
        picks[step] = pick
        gains[pick] = -np.inf
        is_stale[pick // BLOCK_SIZE] = True
        copy_point(blocks[pick // BLOCK_SIZE], pick % BLOCK_SIZE, pick_point)
        for block in range(num_blocks):
            if least[pick, block] >= largest_nearest[block] * scale:
                continue  # the pick covers no point of the block
            distances_to_block(blocks[block], pick_point, shift, pick_distances)
            largest = 0.0
            for lane in range(min(BLOCK_SIZE, n - block * BLOCK_SIZE)):
                j = block * BLOCK_SIZE + lane
                old = nearest[j]
                new = pick_distances[lane]
                largest = max(largest, min(old, new))
                if new >= old:
                    continue
                nearest[j] = new
                assignment[j] = step
                pairs = slice(starts[j], starts[j] + counts[j])
                counts[j] = _lower_gains_of_pairs(candidates[pairs], distances[pairs], old, new, gains, is_stale)
            largest_nearest[block] = largest
