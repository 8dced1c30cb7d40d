"""Selections of samples: which to keep, training on them, and how clean they are."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from noisylabels_pl.functional.checks import check_range


def keep_indices(scores: Tensor, forget_rate: float) -> Tensor:
    """The samples of a batch to keep: all but the ``forget_rate`` share with the largest scores, at least one.

    Of equal scores the earlier is kept; NaN counts as larger than everything.

    Args:
        scores: ``(B,)``.
        forget_rate: share to drop in ``[0, 1]``, rounded up to whole samples: ``floor((1 - forget_rate) * B)`` stay.

    Returns:
        ``(k,)`` int64, ascending; nothing waits for the device, because ``k`` follows from the arguments.

    Raises:
        ValueError: ``forget_rate`` is out of range.
    """
    check_range("forget_rate", forget_rate, "[0, 1]")
    # Rounding to 1e-9 keeps (1 - 0.9) * 10 from counting as 0.
    count = max(1, math.floor(round((1 - forget_rate) * len(scores), 9)))
    return scores.detach().sort(stable=True).indices[:count].sort().values


def keep_mask(scores: Tensor, forget_rate: float) -> Tensor:
    """:func:`keep_indices` as a mask, ``(B,)`` bool."""
    kept = torch.zeros_like(scores, dtype=torch.bool)
    return kept.index_fill_(0, keep_indices(scores, forget_rate), True)


def robust_mean(G: Tensor, eps: float) -> Tensor:
    """Mean of the rows of ``G`` without the ``eps`` share that is longest; PRL's Algorithm 1.

    Args:
        G: ``(m, d)``, a gradient in each row.
        eps: share of the rows that may be corrupted, in ``[0, 1]``; at least one row stays.

    Returns:
        ``(d,)``.

    Raises:
        ValueError: ``eps`` is out of range.
    """
    check_range("eps", eps, "[0, 1]")
    return G[keep_mask(G.norm(dim=1), eps)].mean(0)


def selected_mean(losses: Tensor, selected: Tensor) -> Tensor:
    """Mean loss of the selected samples; of none a 0 that backpropagates zeros, so that DDP's ranks stay in step.

    The others get gradients of exactly 0, also where their loss is infinite.

    Args:
        losses: ``(B,)``.
        selected: ``(B,)`` bool.
    """
    kept = torch.where(selected, losses, torch.zeros_like(losses))
    return kept.sum() / selected.sum().clamp(min=1)


def label_precision_recall(indices: Tensor, is_clean: Tensor) -> tuple[float, float]:
    """Label precision and label recall of a selection.

    Args:
        indices: ``(k,)`` selected rows.
        is_clean: ``(n,)`` bool, whether the observed label of a row is its true one.

    Returns:
        The share of the selected rows that are clean, and the share of the clean rows that were selected. A share of
        nothing is NaN.
    """
    kept = int(is_clean[indices].sum())
    clean = int(is_clean.sum())
    return kept / len(indices) if len(indices) else float("nan"), kept / clean if clean else float("nan")
