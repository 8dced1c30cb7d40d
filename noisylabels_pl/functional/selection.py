"""Selections of samples: training on one, and how clean it is."""

from __future__ import annotations

import torch
from torch import Tensor


def selected_mean(losses: Tensor, selected: Tensor) -> Tensor:
    """Mean loss of the selected samples; of none a 0 that backpropagates zeros, so that DDP's ranks stay in step.

    The others get gradients of exactly 0, also where their loss is infinite.

    Args:
        losses: ``(B,)``.
        selected: ``(B,)`` bool.
    """
    kept = torch.where(selected, losses, torch.zeros_like(losses))
    return kept.sum() / selected.sum().clamp(min=1)


def selection_quality(indices: Tensor, is_clean: Tensor) -> tuple[float, float]:
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
