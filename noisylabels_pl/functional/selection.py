"""How clean a selection of samples is."""

from __future__ import annotations

from torch import Tensor


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
