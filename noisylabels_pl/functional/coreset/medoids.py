"""The medoids that a selection returns, before they are described as a coreset."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Medoids(NamedTuple):
    """The ``k`` points that were selected from ``n``, and each point's nearest one.

    Attributes:
        indices: ``(k,)`` int64, the medoids in the order of their selection.
        assignment: ``(n,)`` int64, for each point the position of its nearest medoid in ``indices``.
        distances: ``(n,)`` floating point, the distance of each point to that medoid.
        largest_distance: the largest distance between any two points, or between a point and a candidate where only
            some points were candidates.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional.coreset import greedy_torch
        >>> greedy_torch.greedy(torch.tensor([[0.0], [1.0], [7.0]]), k=2)._asdict()
        {'indices': tensor([1, 2]), 'assignment': tensor([0, 0, 1]), \
'distances': tensor([1., 0., 0.], dtype=torch.float64), 'largest_distance': 7.0}
    """

    indices: Tensor
    assignment: Tensor
    distances: Tensor
    largest_distance: float
