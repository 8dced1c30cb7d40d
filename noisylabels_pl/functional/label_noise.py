"""Corruption of class labels by a transition matrix ``T[i, j] = P(observed = j | true = i)``."""

from __future__ import annotations

import torch
from torch import Tensor

from noisylabels_pl.functional.transition import check_transition_matrix


def corrupt_labels(
    labels: Tensor, T: Tensor, *, generator: torch.Generator | None = None, exact: bool = False
) -> Tensor:
    r"""Return observed labels: for each true label a draw from its row of the transition matrix.

    .. math::
        \tilde{y}_s \sim T_{y_s, \cdot}

    Args:
        labels: ``(n,)`` int64 true classes, on the CPU.
        T: ``(C, C)``; see :func:`transition_matrix` for the kinds of noise in the papers.
        generator: a CPU generator; the default one if not given.
        exact: if false, labels are drawn independently, so the realized rate varies. If true, the number of labels of
            class ``i`` that become ``j`` is ``T[i, j]`` times the size of class ``i``, rounded by largest remainder,
            and only the choice of these labels is random.

    Returns:
        ``(n,)`` int64, a new tensor.

    Raises:
        ValueError: ``T`` is not a transition matrix, or a label is not one of its classes.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import corrupt_labels, transition_matrix
        >>> labels = torch.tensor([0, 0, 0, 0, 1, 1])
        >>> observed = corrupt_labels(labels, transition_matrix("pairflip", 2, rate=0.5), exact=True)
        >>> (observed != labels).sum()
        tensor(3)
    """
    num_classes = len(T)
    T = check_transition_matrix(T, num_classes)
    outside = ((labels < 0) | (labels >= num_classes)).nonzero()
    if len(outside):
        row = int(outside[0, 0])
        raise ValueError(f"labels[{row}] is {int(labels[row])}, but T has the classes 0..{num_classes - 1}")
    if exact:
        return _corrupt_exactly(labels, T, generator)
    return _corrupt_independently(labels, T, generator)


def _corrupt_independently(labels: Tensor, T: Tensor, generator: torch.Generator | None) -> Tensor:
    cumulative = T.cumsum(1)
    # The last column becomes exactly 1, so a draw below 1 can never land on a class of probability 0.
    cumulative = cumulative / cumulative[:, -1:]
    draws = torch.rand(len(labels), 1, dtype=torch.float64, generator=generator)
    return (draws >= cumulative[labels]).sum(1)


def _corrupt_exactly(labels: Tensor, T: Tensor, generator: torch.Generator | None) -> Tensor:
    observed = labels.clone()
    for label, probabilities in enumerate(T):
        members = (labels == label).nonzero().squeeze(1)
        shuffled = members[torch.randperm(len(members), generator=generator)]
        counts = _round_by_largest_remainder(probabilities * len(members), len(members))
        observed[shuffled] = torch.arange(len(T)).repeat_interleave(counts)
    return observed


def _round_by_largest_remainder(expected: Tensor, total: int) -> Tensor:
    """Return whole numbers near the expected ones, ``(C,)`` int64, that sum to the total."""
    # Rounding to 1e-9 keeps 0.7 * 90, which is 62.999..., from counting as 62 plus a remainder.
    expected = expected.mul(1e9).round().div(1e9)
    counts = expected.floor().to(torch.int64)
    missing = total - int(counts.sum())
    by_remainder = (expected - counts).sort(descending=True, stable=True).indices
    counts[by_remainder[:missing]] += 1
    return counts
