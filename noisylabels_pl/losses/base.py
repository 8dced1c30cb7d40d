"""The base class of criteria that have one loss for each sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

from torch import Tensor, nn

from noisylabels_pl.functional import check_choice

Reduction = Literal["none", "mean", "sum"]


def reduce(losses: Tensor, reduction: Reduction) -> Tensor:
    """Reduce per-sample losses.

    Args:
        losses: ``(B,)``.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.

    Returns:
        ``(B,)`` for ``"none"``, otherwise a scalar.

    Raises:
        ValueError: ``reduction`` is unknown.

    Example:
        >>> import torch
        >>> reduce(torch.tensor([1.0, 2.0]), "sum")
        tensor(3.)
    """
    check_choice("reduction", reduction, Reduction)
    if reduction == "none":
        return losses
    if reduction == "mean":
        return losses.mean()
    return losses.sum()


class RobustCriterion(nn.Module, ABC):
    """Reduces the losses of single samples; a subclass computes them.

    Args:
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: ``reduction`` is unknown.
    """

    tasks = ("classification",)

    def __init__(self, reduction: Reduction) -> None:
        super().__init__()
        check_choice("reduction", reduction, Reduction)
        self.reduction = reduction

    @abstractmethod
    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each sample, ``(B,)``, of logits ``(B, C)`` and observed labels ``(B,)``."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits ``(B, C)`` and observed labels ``(B,)``, reduced."""
        return reduce(self.losses(logits, target), self.reduction)
