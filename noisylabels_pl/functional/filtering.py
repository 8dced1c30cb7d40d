"""Filtering: the samples of a batch to train on, means over them, and how clean they are."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from noisylabels_pl.functional.checks import check_range


def keep_indices(scores: Tensor, forget_rate: float) -> Tensor:
    """Return the indices of the samples that remain when those with the largest scores are dropped.

    At least one sample is kept. Of equal scores the earlier one is kept, and NaN counts as larger than everything.

    Args:
        scores: ``(B,)``.
        forget_rate: fraction to drop in ``[0, 1]``; ``floor((1 - forget_rate) * B)`` samples are kept.

    Returns:
        ``(k,)`` int64, ascending. The call does not wait for the device, because ``k`` follows from the arguments.

    Raises:
        ValueError: ``forget_rate`` is out of range.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import keep_indices
        >>> keep_indices(torch.tensor([0.3, 2.0, 0.1, 1.0]), forget_rate=0.5)
        tensor([0, 2])
    """
    check_range("forget_rate", forget_rate, "[0, 1]")
    # Rounding to 1e-9 keeps (1 - 0.9) * 10 from counting as 0.
    num_kept = max(1, math.floor(round((1 - forget_rate) * len(scores), 9)))
    ascending = scores.detach().sort(stable=True).indices
    return ascending[:num_kept].sort().values


def keep_mask(scores: Tensor, forget_rate: float) -> Tensor:
    """Return a mask of the samples that remain when those with the largest scores are dropped.

    Args:
        scores: ``(B,)``.
        forget_rate: fraction to drop, as for :func:`keep_indices`.

    Returns:
        ``(B,)`` bool.

    Raises:
        ValueError: ``forget_rate`` is out of range.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import keep_mask
        >>> keep_mask(torch.tensor([0.3, 2.0, 0.1, 1.0]), forget_rate=0.5)
        tensor([ True, False,  True, False])
    """
    mask = torch.zeros_like(scores, dtype=torch.bool)
    return mask.index_fill_(0, keep_indices(scores, forget_rate), True)


def keep_candidates(scores: Tensor, candidates: Tensor, forget_rate: float) -> Tensor:
    """Return a mask of the candidates that remain when those with the largest scores are dropped.

    At least one candidate is kept, if there is any. Their number is not known to the host, and need not be: the call
    does not wait for the device.

    Args:
        scores: ``(B,)``; as in :func:`keep_indices`, the earlier of equal scores is kept, and NaN is the largest.
        candidates: ``(B,)`` bool, the samples to choose from.
        forget_rate: fraction of the candidates to drop, in ``[0, 1]``.

    Returns:
        ``(B,)`` bool.

    Raises:
        ValueError: ``forget_rate`` is out of range.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import keep_candidates
        >>> candidates = torch.tensor([True, True, False, True, True])
        >>> keep_candidates(torch.tensor([0.3, 2.0, 0.1, 1.0, 0.5]), candidates, forget_rate=0.5)
        tensor([ True, False, False, False,  True])
    """
    check_range("forget_rate", forget_rate, "[0, 1]")
    num_candidates = candidates.sum()
    # The small number keeps (1 - 0.9) * 10 from counting as 0.
    num_kept = torch.floor((1 - forget_rate) * num_candidates + 1e-4).clamp(min=1)
    ascending = scores.detach().sort(stable=True).indices
    candidates_first = ascending[(~candidates[ascending]).to(torch.int8).sort(stable=True).indices]
    ranks = torch.empty_like(ascending)
    ranks[candidates_first] = torch.arange(len(scores), device=scores.device)
    return candidates & (ranks < num_kept)


def robust_mean(G: Tensor, eps: float) -> Tensor:
    """Return the mean of the gradients that remain when those with the largest norms are dropped.

    This is Algorithm 1 of `Provable Robust Learning for Deep Neural Networks under Agnostic Corrupted Supervision
    <https://openreview.net/forum?id=Bi2OvVf1KPn>`_ (PRL).

    Args:
        G: ``(m, d)``, a gradient in each row.
        eps: fraction of the rows that may be corrupted, in ``[0, 1]``; at least one row is kept.

    Returns:
        ``(d,)``.

    Raises:
        ValueError: ``eps`` is out of range.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import robust_mean
        >>> robust_mean(torch.tensor([[1.0, 0.0], [0.0, 1.0], [90.0, 0.0]]), eps=1 / 3)
        tensor([0.5000, 0.5000])
    """
    check_range("eps", eps, "[0, 1]")
    return G[keep_mask(G.norm(dim=1), eps)].mean(0)


def selected_mean(losses: Tensor, selected: Tensor) -> Tensor:
    """Return the mean loss of the selected samples.

    If no sample is selected, the mean is 0 and backpropagates zeros, so that the ranks of DDP stay in step. The
    gradient with respect to a loss that is not selected is exactly 0, even where that loss is infinite or NaN.

    Args:
        losses: ``(B,)``.
        selected: ``(B,)`` bool.

    Returns:
        A scalar.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import selected_mean
        >>> selected_mean(torch.tensor([1.0, torch.inf, 3.0]), torch.tensor([True, False, True]))
        tensor(2.)
    """
    kept = torch.where(selected, losses, torch.zeros_like(losses))
    return kept.sum() / selected.sum().clamp(min=1)


def label_precision_recall(indices: Tensor, is_clean: Tensor) -> tuple[float, float]:
    """Return the label precision and the label recall of a selection.

    Args:
        indices: ``(k,)`` int64, the selected samples.
        is_clean: ``(n,)`` bool, whether the observed label of a sample is its true one.

    Returns:
        The fraction of the selected samples that are clean, and the fraction of the clean samples that are selected. A
        fraction of no samples is NaN.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import label_precision_recall
        >>> label_precision_recall(torch.tensor([0, 1]), torch.tensor([True, False, True, True, True]))
        (0.5, 0.25)
    """
    num_selected_clean = int(is_clean[indices].sum())
    precision = _fraction(num_selected_clean, len(indices))
    recall = _fraction(num_selected_clean, int(is_clean.sum()))
    return precision, recall


def _fraction(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
