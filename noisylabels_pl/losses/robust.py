"""Robust losses as criteria for any training loop; the formulas are in :mod:`noisylabels_pl.functional`."""

from __future__ import annotations

import logging

from torch import Tensor, nn

from noisylabels_pl.functional import (
    check_choice,
    generalized_cross_entropy,
)

_log = logging.getLogger(__name__)


def reduce(losses: Tensor, reduction: str) -> Tensor:
    """Per-sample losses as ``none``, their ``mean`` or their ``sum``."""
    check_choice("reduction", reduction, ("none", "mean", "sum"))
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


class GCELoss(nn.Module):
    """Generalized cross-entropy; see :func:`~noisylabels_pl.functional.generalized_cross_entropy`.

    Args:
        q: in ``(0, 1]``; the paper takes 0.7.
        reduction: ``none``, ``mean`` or ``sum``.
    """

    tasks = ("classification",)

    def __init__(self, q: float = 0.7, *, reduction: str = "mean") -> None:
        super().__init__()
        if not 0 < q <= 1:
            raise ValueError(f"q must lie in (0, 1], got {q}; its limit 0 is torch.nn.CrossEntropyLoss()")
        check_choice("reduction", reduction, ("none", "mean", "sum"))
        self.q = q
        self.reduction = reduction

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return reduce(generalized_cross_entropy(logits, target, self.q), self.reduction)

    def extra_repr(self) -> str:
        return f"q={self.q}"
