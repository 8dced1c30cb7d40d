"""Distance sums and greedy facility location in torch, on any device.

What a pick changes is local: candidates compete only where they are nearer to the same point than what is chosen yet.
So greedy runs in rounds, each of which picks every candidate whose gain exceeds those of all that it competes with.
Gains only fall, so greedy would pick each of them too, at the very same gain; by these gains the picks of all rounds
are put in order. There are far fewer rounds than picks.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from noisylabels_pl.functional.coreset.distances import CACHED, Distances, planned


class _Pairs(NamedTuple):
    """Pairs that count: the candidate is nearer to the point than what is chosen yet. Three of ``(pairs,)``."""

    point: Tensor
    candidate: Tensor
    distance: Tensor

    def at(self, where: Tensor) -> _Pairs:
        return _Pairs(*(values.index_select(0, where) for values in self))


def greedy(x: Tensor, k: int, candidates: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, float]:
    """``k`` picks, each point's nearest pick by its step, the distance to it, and the largest distance.

    Picks are made among ``candidates`` ``(m,)`` for all points, and the distance is the largest to one of them.
    """
    space, most = distances_between(x, candidates), planned(len(x), x.shape[1], x.device).pairs
    totals, d0 = _distance_totals(space)
    picks, assignment = totals.argmin().unsqueeze(0), torch.zeros(space.n, dtype=torch.int64, device=x.device)
    nearest = space.to(picks)
    pairs = _pairs(space, nearest, most)
    if pairs is None:
        picks, assignment, nearest, pairs = _in_steps(space, space.n * d0 - totals, d0, k, most)
    if pairs is not None:
        picks, assignment = _in_rounds(pairs, space.m, picks, assignment, nearest, k)
    indices = picks if candidates is None else candidates[picks]
    return indices, assignment, distances_to(x, indices[assignment]), d0


def central(x: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor, float]:
    """The ``k`` points of least total distance, each point's nearest of them, its distance, the largest distance."""
    space = distances_between(x)
    totals, d0 = _distance_totals(space)
    indices = totals.sort(stable=True).indices[:k]
    assignment = torch.cat([space[rows][:, indices].argmin(1) for rows in space.blocks()])
    return indices, assignment, distances_to(x, indices[assignment]), d0


def check_largest(distance: float) -> None:
    """Raises ``ValueError`` if distances overflowed."""
    if not distance < float("inf"):
        raise ValueError("distances between features overflow; scale features down, or pass float64")


def distances_between(x: Tensor, candidates: Tensor | None = None) -> Distances:
    """In blocks that suit the device and its free memory."""
    return Distances(x, planned(len(x), x.shape[1], x.device).block, candidates)


def largest_distance(x: Tensor) -> float:
    """Between any two points: two that are so far apart lie far from the middle, where there are fewer."""
    middle = x.double().mean(0).to(x.dtype)
    radius = distances_to(x, middle)
    end = x[radius.argmax()]
    least = distances_to(x, end).amax()
    far = radius >= (least - radius.amax()) * (1 - 1e-5)  # the triangle inequality, up to rounding
    return _distance_totals(distances_between(x[far]))[1]


def _distance_totals(space: Distances) -> tuple[Tensor, float]:
    """Each candidate's summed distance to all points ``(m,)``, and the largest distance."""
    totals, largest = torch.zeros(space.m, dtype=torch.float64, device=space.device), []
    for rows in space.blocks():
        start = rows.start if space.symmetric else 0
        distances = space.from_squares(space.squares(rows, start))
        if space.symmetric:  # each pair of points in this or a later block is computed once
            totals[rows] += distances.sum(1)
            totals[rows.stop :] += distances[:, len(distances) :].sum(0)
        else:
            totals += distances.sum(0)
        largest.append(distances.amax())
    d0 = float(torch.stack(largest).amax())
    check_largest(d0)
    return totals, d0


def _pairs(space: Distances, nearest: Tensor, most: int) -> _Pairs | None:
    """All pairs that count, unless they are too many to hold."""
    device, limit = space.device, min(most, space.n * space.m)
    point = torch.empty(limit, dtype=torch.int32, device=device)  # takes memory only where it is written
    candidate, distance = torch.empty_like(point), torch.empty(limit, dtype=torch.float64, device=device)
    count = 0
    for rows in space.blocks():
        squares, near = space.squares(rows), nearest[rows]
        found = (squares < (near * (1 + 1e-7)).square_().unsqueeze(1)).view(-1).nonzero().squeeze(1)  # some too many
        distances = space.from_squares(squares.view(-1).index_select(0, found))
        row = found.div(space.m, rounding_mode="floor")
        keep = (distances < near.index_select(0, row)).nonzero().squeeze(1)
        new = slice(count, count + len(keep))
        if new.stop > limit:
            return None
        point[new] = row.index_select(0, keep) + rows.start
        candidate[new] = found.sub_(row.mul_(space.m)).index_select(0, keep)
        distance[new] = distances.index_select(0, keep)
        count = new.stop
    return _Pairs(point[:count], candidate[:count], distance[:count])


def _in_rounds(
    pairs: _Pairs, m: int, picks: Tensor, assignment: Tensor, nearest: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Greedy from those picks on: all ``k``, and each point's nearest of them by its step."""
    missing = k - len(picks)
    gained = nearest.new_full((m,), -1)  # what a pick gained, -1 if not picked
    gained[picks] = -2  # behind all others
    ranks, covered = torch.arange(m, device=nearest.device), []
    while True:
        value = nearest.index_select(0, pairs.point).sub_(pairs.distance)
        gains = nearest.new_zeros(m).index_add_(0, pairs.candidate, value)
        gains[picks] = 0
        order = gains.argsort(descending=True, stable=True)
        rank = torch.empty_like(order).index_copy_(0, order, ranks)
        # Of each point the candidate with the largest gain; who is that of all its points has no rival left.
        first = torch.full_like(assignment, m).scatter_reduce_(
            0, pairs.point.long(), rank.index_select(0, pairs.candidate), "amin"
        )
        leads = first.bincount(minlength=m + 1)[rank] == pairs.candidate.bincount(minlength=m)
        # Less than the last of enough picks can only be chosen after them.
        enough = gained.topk(missing).values[-1] if missing else torch.inf
        won = leads & (gains > 0) & (gains >= enough)
        if not won.any():
            break
        gained = torch.where(won, gains, gained)
        taken = pairs.at(won.index_select(0, pairs.candidate).nonzero().squeeze(1))
        nearest[taken.point] = taken.distance
        covered.append(taken)
        pairs = pairs.at((pairs.distance < nearest.index_select(0, pairs.point)).nonzero().squeeze(1))
    rest = gained.sort(descending=True, stable=True).indices[:missing]
    picks = torch.cat([picks, rest])
    step = torch.full_like(rank, -1).index_copy_(0, picks, ranks[:k])
    for taken in covered:
        assignment[taken.point] = torch.maximum(assignment[taken.point], step[taken.candidate])
    return picks, assignment


def _in_steps(
    space: Distances, gains: Tensor, d0: float, k: int, most: int
) -> tuple[Tensor, Tensor, Tensor, _Pairs | None]:
    """Greedy one by one, until few enough pairs count: picks, nearest of them by step, distances to them, the pairs.

    The pairs are ``None`` if all ``k`` are picked before.
    """
    nearest = torch.full((space.n,), d0, dtype=gains.dtype, device=space.device)
    counts, assignment = torch.full_like(nearest, space.m), torch.zeros_like(nearest, dtype=torch.int64)
    picks: list[Tensor] = []
    bound = most
    while len(picks) < k:
        if counts.sum() <= bound:
            pairs = _pairs(space, nearest, most)
            if pairs is not None:
                return torch.stack(picks), assignment, nearest, pairs
            bound = bound * 9 // 10  # rounded otherwise, more of them counted
        pick = gains.argmax()
        distance = space.to(pick)
        closer = (distance < nearest).nonzero().squeeze(1)
        for rows in torch.split(closer, max(1, space.block // space.m)):
            new, old = distance[rows].unsqueeze(1), nearest[rows].unsqueeze(1)
            around = space[rows]
            counts[rows] = (around < new).sum(1, dtype=gains.dtype)
            gains += around.clamp_(new, old).sub_(old).sum(0)
        nearest[closer] = distance[closer]
        assignment[closer] = len(picks)
        gains[pick] = -torch.inf
        picks.append(pick)
    return torch.stack(picks), assignment, nearest, None


def distances_to(x: Tensor, to: Tensor) -> Tensor:
    """From each point to its own of those of indices ``(n,)``, or to one point ``(d,)``."""
    rows, found = max(1, CACHED // max(1, x.shape[1])), []
    for start in range(0, len(x), rows):
        part = slice(start, start + rows)
        other = to if to.is_floating_point() else x[to[part]]
        found.append(torch.linalg.vector_norm(x[part] - other, dim=1, dtype=torch.float64))
    return torch.cat(found)
