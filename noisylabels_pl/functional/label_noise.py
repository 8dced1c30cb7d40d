"""Label noise as a transition matrix ``T[i, j] = P(observed = j | true = i)``.

The papers mean different things by "symmetric": see ``kind`` of :func:`transition_matrix`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from noisylabels_pl.functional.transition import check_transition_matrix


def corrupt_labels(
    labels: Tensor, T: Tensor, *, generator: torch.Generator | None = None, exact: bool = False
) -> Tensor:
    """Observed labels drawn from ``T`` given the true ones.

    Args:
        labels: ``(n,)`` int64 true classes, on the CPU.
        T: ``(C, C)`` row-stochastic.
        generator: a CPU generator; the default one if none is given.
        exact: if false, every label is drawn on its own, so the realized rate varies. If true, the number of labels of
            class ``i`` that become ``j`` is ``T[i, j]`` times the size of class ``i``, rounded by largest remainder,
            and only which ones is random.

    Returns:
        ``(n,)`` int64, a new tensor.

    Raises:
        ValueError: ``T`` is not a transition matrix, or a label is not one of its classes.
    """
    num_classes = len(T)
    T = check_transition_matrix(T, num_classes)
    outside = ((labels < 0) | (labels >= num_classes)).nonzero()
    if len(outside):
        row = int(outside[0, 0])
        raise ValueError(f"labels[{row}] is {int(labels[row])}, but T has the classes 0..{num_classes - 1}")
    if exact:
        return _corrupt_exactly(labels, T, generator)
    # Dividing by the last column makes it exactly 1, so a draw below 1 can never land on a class of probability 0.
    cumulative = T.cumsum(1)
    cumulative = cumulative / cumulative[:, -1:]
    draws = torch.rand(len(labels), 1, dtype=torch.float64, generator=generator)
    return (draws >= cumulative[labels]).sum(1)


def _corrupt_exactly(labels: Tensor, T: Tensor, generator: torch.Generator | None) -> Tensor:
    observed = labels.clone()
    for label, row in enumerate(T):
        members = (labels == label).nonzero().squeeze(1)
        members = members[torch.randperm(len(members), generator=generator)]
        # Rounding to 1e-9 keeps 0.1 * 30 from counting as 3 plus a remainder.
        share = (row * len(members)).mul(1e9).round().div(1e9)
        counts = share.floor().to(torch.int64)
        missing = len(members) - int(counts.sum())
        counts[(share - counts).sort(descending=True, stable=True).indices[:missing]] += 1
        observed[members] = torch.arange(len(T)).repeat_interleave(counts)
    return observed
