"""Facility location and centrality in torch, on any device.

**Greedy in rounds.** Let ``near(i)`` be the distance of point ``i`` to its nearest pick. A candidate ``e`` *covers* the
point ``i`` if it is nearer: ``d(i, e) < near(i)``. Its gain is the sum of ``near(i) - d(i, e)`` over the points that it
covers. Greedy picks the candidate with the largest gain, again and again.

1. A pick changes ``near(i)`` only at the points that it covers. So it changes the gain of another candidate only if
   both cover a common point. Two such candidates are rivals.
2. Gains never increase. So a candidate that gains more than each of its rivals will be picked before all of them, at
   the gain that it has now, whatever is picked elsewhere.
3. All such candidates are picked at once; that is a round. A candidate is one of them if, at every point that it
   covers, its gain is the largest among the candidates that cover the point.
4. Greedy's gains fall from pick to pick. So the picks of all rounds, sorted by their gains, are greedy's picks in
   greedy's order.

There are far fewer rounds than picks. Ties go to the lower index, in the rounds and in the sorting.

**Too many pairs.** A round needs all pairs of a point and a candidate that covers it. There are up to ``n^2`` at first,
and fewer after each pick. If they do not fit into the memory that is planned for them, greedy picks one by one until
they do. Each of these steps computes distances only from the points that the pick covers.

Sums of distances are exact in any order (``distances.py``), so ties are found as ties. The picks do not depend on the
number of threads, and on the free memory only in near ties.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from noisylabels_pl.functional.coreset.distances import Distances, distances_to
from noisylabels_pl.functional.coreset.medoids import Medoids

# These two stand where no gain at picking is known. They are negative, so that they sort behind all gains.
_NOT_PICKED = -1.0
_PICKED_BEFORE_THE_ROUNDS = -2.0


class _CoveringPairs(NamedTuple):
    """All pairs of a point and a candidate that covers it.

    Attributes:
        points: ``(p,)`` int32.
        candidates: ``(p,)`` int32.
        distances: ``(p,)`` float64, from the point to the candidate.
    """

    points: Tensor
    candidates: Tensor
    distances: Tensor

    def where(self, mask: Tensor) -> _CoveringPairs:
        """Return the pairs at which the mask ``(p,)`` is true."""
        kept = mask.nonzero().squeeze(1)
        return _CoveringPairs(*(values.index_select(0, kept) for values in self))


class _Picks(NamedTuple):
    """The state of greedy after ``s`` picks.

    Attributes:
        candidates: ``(s,)`` int64, the picks in order.
        assignment: ``(n,)`` int64, for each point the position of its nearest pick in ``candidates``.
        nearest: ``(n,)`` float64, the distance of each point to that pick.
    """

    candidates: Tensor
    assignment: Tensor
    nearest: Tensor


def greedy(points: Tensor, k: int, candidates: Tensor | None = None) -> Medoids:
    """Return ``k`` medoids by greedy facility location.

    Args:
        points: ``(n, d)`` float32 or float64, finite.
        k: number of medoids.
        candidates: ``(m,)`` int64, ascending; medoids are selected among these points only, for all points. All points
            if not given.

    Returns:
        The medoids. ``largest_distance`` is the largest one between a point and a candidate.

    Raises:
        ValueError: distances overflow.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional.coreset import greedy_torch
        >>> greedy_torch.greedy(torch.tensor([[0.0], [1.0], [2.0], [9.0]]), k=2).indices
        tensor([1, 3])
    """
    distances = Distances(points, candidates)
    totals, largest_distance = distances.totals()
    picks = _pick_first(distances, totals)
    pairs = _covering_pairs(distances, picks.nearest)
    if pairs is None:
        picks, pairs = _pick_one_by_one(distances, totals, largest_distance, k)
    if pairs is not None:
        picks = _pick_in_rounds(picks, pairs, distances.num_candidates, k)
    indices = picks.candidates if candidates is None else candidates[picks.candidates]
    nearest = distances_to(points, indices[picks.assignment])
    return Medoids(indices, picks.assignment, nearest, largest_distance)


def central(points: Tensor, k: int) -> Medoids:
    """Return the ``k`` points with the smallest sums of distances to all points; ties go to the lower index.

    Args:
        points: ``(n, d)`` float32 or float64, finite.
        k: number of medoids.

    Raises:
        ValueError: distances overflow.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional.coreset import greedy_torch
        >>> greedy_torch.central(torch.tensor([[0.0], [1.0], [2.0], [9.0]]), k=2).indices
        tensor([1, 2])
    """
    distances = Distances(points)
    totals, largest_distance = distances.totals()
    indices = totals.sort(stable=True).indices[:k]
    assignment = torch.cat([distances.between(rows)[:, indices].argmin(1) for rows in distances.chunks()])
    nearest = distances_to(points, indices[assignment])
    return Medoids(indices, assignment, nearest, largest_distance)


def _pick_first(distances: Distances, totals: Tensor) -> _Picks:
    """Pick the candidate with the smallest sum of distances: it has the largest gain, ``n * d0`` minus that sum."""
    pick = totals.argmin().unsqueeze(0)
    assignment = torch.zeros(distances.num_points, dtype=torch.int64, device=distances.device)
    return _Picks(pick, assignment, distances.to_candidate(pick))


def _covering_pairs(distances: Distances, nearest: Tensor) -> _CoveringPairs | None:
    """Return all pairs of a point and a candidate that covers it, or ``None`` if they are too many to hold."""
    num_candidates = distances.num_candidates
    capacity = min(distances.plan.max_pairs, distances.num_points * num_candidates)
    # On the CPU, these take memory only where they are written, so a large capacity costs nothing by itself.
    points = torch.empty(capacity, dtype=torch.int32, device=distances.device)
    candidates = torch.empty_like(points)
    pair_distances = torch.empty(capacity, dtype=torch.float64, device=distances.device)
    count = 0
    for rows in distances.chunks():
        chunk_nearest = nearest[rows]
        # Squared distances sort out most pairs, with a margin for rounding, so that few roots are taken.
        squares = distances.squares(rows)
        limits = (chunk_nearest * (1 + 1e-7)).square_().unsqueeze(1)
        near_pairs = (squares < limits).view(-1).nonzero().squeeze(1)
        chunk_distances = distances.from_squares(squares.view(-1).index_select(0, near_pairs))
        row = near_pairs.div(num_candidates, rounding_mode="floor")
        column = near_pairs.sub_(row * num_candidates)  # in place: the pairs' flat indices are not needed any more
        covers = (chunk_distances < chunk_nearest.index_select(0, row)).nonzero().squeeze(1)
        new = slice(count, count + len(covers))
        if new.stop > capacity:
            return None
        points[new] = row.index_select(0, covers) + rows.start
        candidates[new] = column.index_select(0, covers)
        pair_distances[new] = chunk_distances.index_select(0, covers)
        count = new.stop
    return _CoveringPairs(points[:count], candidates[:count], pair_distances[:count])


def _pick_in_rounds(picks: _Picks, pairs: _CoveringPairs, num_candidates: int, k: int) -> _Picks:
    """Continue greedy to ``k`` picks, in rounds."""
    num_missing = k - len(picks.candidates)
    nearest = picks.nearest.clone()
    gain_at_pick = nearest.new_full((num_candidates,), _NOT_PICKED)
    gain_at_pick[picks.candidates] = _PICKED_BEFORE_THE_ROUNDS
    rounds: list[_CoveringPairs] = []
    while True:
        gains = _gains(pairs, nearest, num_candidates)
        gains[picks.candidates] = 0  # else a distance that now rounds down could let a pick cover a point again
        # Gains fall, so a candidate below the k-th largest gain at picking cannot be among the first k picks.
        threshold = gain_at_pick.topk(num_missing).values[-1] if num_missing else torch.inf
        is_leader = _leads_everywhere(pairs, gains, len(nearest))
        is_picked = is_leader & (gains > 0) & (gains >= threshold)
        if not is_picked.any():
            break
        gain_at_pick = torch.where(is_picked, gains, gain_at_pick)
        picked_pairs = pairs.where(is_picked.index_select(0, pairs.candidates))
        nearest[picked_pairs.points] = picked_pairs.distances
        pairs = pairs.where(pairs.distances < nearest.index_select(0, pairs.points))
        rounds.append(picked_pairs)
    # If the rounds gave too few, candidates that were never picked follow, in their order: they gain nothing.
    later_picks = gain_at_pick.sort(descending=True, stable=True).indices[:num_missing]
    candidates = torch.cat([picks.candidates, later_picks])
    assignment = _reassign(picks.assignment, candidates, rounds, num_candidates)
    return _Picks(candidates, assignment, nearest)


def _gains(pairs: _CoveringPairs, nearest: Tensor, num_candidates: int) -> Tensor:
    """Return each candidate's gain ``(m,)``: by how much the distances to the points that it covers would fall."""
    gain_at_point = nearest.index_select(0, pairs.points).sub_(pairs.distances)
    return nearest.new_zeros(num_candidates).index_add_(0, pairs.candidates, gain_at_point)


def _leads_everywhere(pairs: _CoveringPairs, gains: Tensor, num_points: int) -> Tensor:
    """Return for each candidate ``(m,)`` whether it has the largest gain at all points that it covers, if any."""
    num_candidates = len(gains)
    by_gain = gains.argsort(descending=True, stable=True)
    ranks = torch.arange(num_candidates, device=gains.device)
    rank = torch.empty_like(by_gain).index_copy_(0, by_gain, ranks)  # 0 for the largest gain
    # For each point the rank of its leader: the largest gain among the candidates that cover it.
    leader_rank = by_gain.new_full((num_points,), num_candidates)
    leader_rank.scatter_reduce_(0, pairs.points.long(), rank.index_select(0, pairs.candidates), "amin")
    points_led = leader_rank.bincount(minlength=num_candidates + 1)[rank]
    points_covered = pairs.candidates.bincount(minlength=num_candidates)
    return points_led == points_covered


def _reassign(assignment: Tensor, candidates: Tensor, rounds: list[_CoveringPairs], num_candidates: int) -> Tensor:
    """Return the position of each point's nearest pick, ``(n,)``.

    ``rounds`` holds for each round the pairs of its picks and the points that they covered. The last pick that covered
    a point is its nearest one. A pick of a round that is not among the first ``k`` has the position -1, so it never
    replaces another one.
    """
    position = candidates.new_full((num_candidates,), -1)
    position[candidates] = torch.arange(len(candidates), device=candidates.device)
    assignment = assignment.clone()
    for pairs in rounds:
        assignment[pairs.points] = torch.maximum(assignment[pairs.points], position[pairs.candidates])
    return assignment


def _pick_one_by_one(
    distances: Distances, totals: Tensor, largest_distance: float, k: int
) -> tuple[_Picks, _CoveringPairs | None]:
    """Pick one by one until the covering pairs fit; return the picks, and the pairs, or ``None`` after ``k`` picks.

    A point's nearest distance falls from ``old`` to ``new``. Its part of a gain, ``max(0, near - d)``, then changes by
    ``clamp(d, new, old) - old``. That is 0 for a candidate that does not cover the point, and ``new - old`` for one
    that is nearer than the pick.
    """
    gains = distances.num_points * largest_distance - totals
    nearest = torch.full((distances.num_points,), largest_distance, dtype=gains.dtype, device=distances.device)
    assignment = torch.zeros_like(nearest, dtype=torch.int64)
    num_covering = torch.full_like(nearest, distances.num_candidates)  # candidates that cover each point, at most
    chunk_length = max(1, distances.plan.chunk_size // distances.num_candidates)
    max_pairs = distances.plan.max_pairs
    picks: list[Tensor] = []
    for step in range(k):
        if num_covering.sum() <= max_pairs:
            pairs = _covering_pairs(distances, nearest)
            if pairs is not None:
                return _Picks(torch.stack(picks), assignment, nearest), pairs
            max_pairs = max_pairs * 9 // 10  # another shape of matrix product rounded differently and gave more pairs
        pick = gains.argmax()
        pick_distances = distances.to_candidate(pick)
        covered = (pick_distances < nearest).nonzero().squeeze(1)
        for rows in torch.split(covered, chunk_length):
            new = pick_distances[rows].unsqueeze(1)
            old = nearest[rows].unsqueeze(1)
            candidate_distances = distances.between(rows)
            num_covering[rows] = (candidate_distances < new).sum(1, dtype=gains.dtype)
            gain_changes = candidate_distances.clamp_(new, old).sub_(old)
            gains += gain_changes.sum(0)
        nearest[covered] = pick_distances[covered]
        assignment[covered] = step
        gains[pick] = -torch.inf
        picks.append(pick)
    return _Picks(torch.stack(picks), assignment, nearest), None
