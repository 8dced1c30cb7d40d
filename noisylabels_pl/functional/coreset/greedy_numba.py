"""Distance sums and greedy facility location on the CPU, compiled by numba.

Points are ordered so that neighbors in the order are close, in blocks of 64. One pass over all pairs gives the sums
and the least distance from each point to each block; by that bound every step leaves most blocks out.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numba
import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray
from torch import Tensor

from noisylabels_pl.functional.coreset.greedy_torch import check_largest

Array = NDArray[Any]
_log = logging.getLogger(__name__)
LANES = 64  # points of a block; a multiple of what a processor computes at once
_one_at_a_time = Lock()  # not every threading layer lets several threads start parallel kernels
_FAST = {"nnan", "nsz", "contract"}  # not "reassoc", which would change sums with the machine


@contextmanager
def _torch_threads() -> Iterator[None]:
    """As many threads as torch has, whose own number stays.

    When numba's threads start, they set OpenMP's number for torch too, and with it how torch's sums round.
    """
    threads, most = torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    numba.set_num_threads(min(threads, most))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@_torch_threads()
def greedy(x: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor, float]:
    """``k`` picks, each point's nearest pick by its step, the distance to it, and the largest distance."""
    order, blocks, totals, d0, least = _prepare(x)
    picks, assignment, nearest = _greedy(blocks, len(x), k, totals, least, blocks.dtype.type(d0))
    return (*_in_given_order(order, order[picks], assignment, nearest), d0)


@_torch_threads()
def central(x: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor, float]:
    """The ``k`` points of least total distance, each point's nearest of them, its distance, the largest distance."""
    order, blocks, totals, d0, least = _prepare(x)
    ranks = np.lexsort((order, totals))[:k]
    steps = np.full(len(x), -1)
    steps[ranks] = np.arange(k)
    with _one_at_a_time:
        assignment, nearest = _nearest_of(blocks, len(x), steps, least)
    return (*_in_given_order(order, order[ranks], assignment, nearest), d0)


def _prepare(x: Tensor) -> tuple[Array, Array, Array, float, Array]:
    if not _distance_pass.signatures:
        _log.info("numba: compiling or loading the kernels of coresets; compiling takes some seconds, once")
    order, blocks = _in_blocks(x.numpy())
    with _one_at_a_time:
        totals, largest, least = _distance_pass(blocks, len(x))
    d0 = float(largest.max())
    check_largest(d0)
    return order, blocks, totals, d0, least


def _in_given_order(order: Array, indices: Array, assignment: Array, nearest: Array) -> tuple[Tensor, Tensor, Tensor]:
    """Of arrays by the order of blocks those by the order of the points."""
    for values in (assignment, nearest):
        values[order] = values.copy()
    return torch.from_numpy(indices), torch.from_numpy(assignment), torch.from_numpy(nearest)


def _in_blocks(x: Array) -> tuple[Array, Array]:
    """The order of the points, ``(n,)``, and their blocks ``(n / 64, d, 64)``, the last one filled up with its last."""
    order = np.arange(len(x))
    parts = [(0, len(x))]
    while parts:
        start, end = parts.pop()
        if end - start <= LANES:
            continue
        part = x[order[start:end]]
        widest = np.argmax(part.max(0) - part.min(0))
        half = max(1, (end - start) // 2 // LANES) * LANES
        order[start:end] = order[start:end][np.argpartition(part[:, widest], half)]
        parts += [(start, start + half), (start + half, end)]
    count = math.ceil(len(x) / LANES)
    filled = x[np.append(order, np.full(count * LANES - len(x), order[-1]))]
    return order, np.ascontiguousarray(filled.reshape(count, LANES, -1).transpose(0, 2, 1))


@njit(inline="always", cache=True)
def _distances(block: Array, point: Array, out: Array) -> None:
    for lane in range(LANES):
        out[lane] = 0
    for c in range(len(point)):
        value = point[c]
        for lane in range(LANES):
            difference = block[c, lane] - value
            out[lane] += difference * difference
    for lane in range(LANES):
        out[lane] = np.sqrt(out[lane])


@njit(parallel=True, fastmath=_FAST, cache=True)
def _distance_pass(blocks: Array, n: int) -> tuple[Array, Array, Array]:
    """Sums ``(n,)`` float64 and maxima ``(n,)`` of each point's distances, the least to each block ``(n, n / 64)``."""
    count, d, _ = blocks.shape
    totals, largest = np.zeros(n), np.zeros(n, blocks.dtype)
    least = np.empty((n, count), blocks.dtype)
    for own in prange(count):
        out, point = np.empty(LANES, blocks.dtype), np.empty(d, blocks.dtype)
        for i in range(own * LANES, min(n, (own + 1) * LANES)):
            for c in range(d):
                point[c] = blocks[own, c, i - own * LANES]
            for b in range(count):
                _distances(blocks[b], point, out)
                total, low, high = 0.0, out[0], out[0]
                for lane in range(min(LANES, n - b * LANES)):
                    total += out[lane]
                    low, high = min(low, out[lane]), max(high, out[lane])
                totals[i] += total
                least[i, b] = low
                largest[i] = max(largest[i], high)
    return totals, largest, least


@njit(fastmath=_FAST, cache=True, nogil=True)
def _greedy(blocks: Array, n: int, k: int, totals: Array, least: Array, d0: float) -> tuple[Array, Array, Array]:
    """The picks ``(k,)``, each point's nearest pick by its step ``(n,)``, and the distance to it ``(n,)``."""
    count, d, _ = blocks.shape
    gains = np.full(count * LANES, -np.inf)
    gains[:n] = n * d0 - totals
    best = np.empty(count)
    for b in range(count):
        best[b] = gains[b * LANES : (b + 1) * LANES].max()
    nearest = np.zeros(count * LANES, blocks.dtype)
    nearest[:n] = d0
    farthest = np.full(count, d0, blocks.dtype)  # of the nearest, in each block
    picks, assignment = np.empty(k, np.int64), np.zeros(count * LANES, np.int64)
    changed = np.zeros(count, np.bool_)
    point, other = np.empty(d, blocks.dtype), np.empty(d, blocks.dtype)
    distances, around = np.empty(LANES, blocks.dtype), np.empty(LANES, blocks.dtype)
    for step in range(k):
        b = int(np.argmax(best))
        pick = b * LANES + np.argmax(gains[b * LANES : (b + 1) * LANES])
        picks[step] = pick
        gains[pick] = -np.inf
        changed[b] = True
        for c in range(d):
            point[c] = blocks[b, c, pick - b * LANES]
        for near in range(count):
            if least[pick, near] >= farthest[near]:
                continue
            _distances(blocks[near], point, distances)
            for lane in range(LANES):
                j = near * LANES + lane
                old, new = nearest[j], distances[lane]
                if new >= old:
                    continue
                nearest[j] = new
                assignment[j] = step
                for c in range(d):
                    other[c] = blocks[near, c, lane]
                for affected in range(count):
                    if least[j, affected] >= old:  # no gain there counts on this point
                        continue
                    changed[affected] = True
                    _distances(blocks[affected], other, around)
                    for i in range(LANES):  # in float64: a first pick's distances are much smaller than d0
                        gains[affected * LANES + i] += np.float64(min(max(around[i], new), old)) - np.float64(old)
            farthest[near] = nearest[near * LANES : (near + 1) * LANES].max()
        for b in range(count):
            if changed[b]:
                best[b] = gains[b * LANES : (b + 1) * LANES].max()
                changed[b] = False
    return picks, assignment[:n], nearest[:n]


@njit(parallel=True, fastmath=_FAST, cache=True)
def _nearest_of(blocks: Array, n: int, steps: Array, least: Array) -> tuple[Array, Array]:
    """Each point's nearest among the points whose ``steps`` ``(n,)`` are not negative: its step, and the distance."""
    count, d, _ = blocks.shape
    assignment, nearest = np.zeros(n, np.int64), np.full(n, np.inf, blocks.dtype)
    chosen = np.zeros(count, np.bool_)
    for i in range(n):
        chosen[i // LANES] |= steps[i] >= 0
    for own in prange(count):
        out, point = np.empty(LANES, blocks.dtype), np.empty(d, blocks.dtype)
        for i in range(own * LANES, min(n, (own + 1) * LANES)):
            for c in range(d):
                point[c] = blocks[own, c, i - own * LANES]
            for shift in range(count):  # its own block first, which gives the best bound
                b = (own + shift) % count
                if not chosen[b] or least[i, b] > nearest[i]:
                    continue
                _distances(blocks[b], point, out)
                for lane in range(min(LANES, n - b * LANES)):
                    step = steps[b * LANES + lane]
                    if step >= 0 and (out[lane] < nearest[i] or (out[lane] == nearest[i] and step < assignment[i])):
                        nearest[i], assignment[i] = out[lane], step
    return assignment, nearest
