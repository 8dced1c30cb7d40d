"""Robust losses as criteria; their formulas are in :mod:`noisylabels_pl.functional.losses.robust`."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from noisylabels_pl.functional import check_choice, check_range, generalized_cross_entropy

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


class GCELoss(nn.Module):
    r"""Computes generalized cross-entropy, between cross-entropy and the mean absolute error.

    `Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels
    <https://arxiv.org/abs/1805.07836>`_ (Zhang and Sabuncu, NeurIPS 2018), eq. 6. With :math:`p_y` the predicted
    probability of the observed label:

    .. math::
        \ell = (1 - p_y^q) / q

    The limit :math:`q \to 0` is cross-entropy, and :math:`q = 1` half the mean absolute error. The kernel is
    :func:`~noisylabels_pl.functional.generalized_cross_entropy`.

    Args:
        q: exponent in ``(0, 1]``; the paper has 0.7.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: ``q`` is out of range, or ``reduction`` unknown.

    Example:
        >>> import torch
        >>> from noisylabels_pl import GCELoss
        >>> logits = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
        >>> GCELoss(q=0.7, reduction="none")(logits, torch.tensor([0, 1]))
        tensor([0.1215, 1.1062])
    """

    tasks = ("classification",)

    def __init__(self, q: float = 0.7, *, reduction: Reduction = "mean") -> None:
        super().__init__()
        check_range("q", q, "(0, 1]", hint="its limit 0 is torch.nn.CrossEntropyLoss()")
        check_choice("reduction", reduction, Reduction)
        self.q = q
        self.reduction = reduction

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits ``(B, C)`` and observed labels ``(B,)``, reduced."""
        return reduce(generalized_cross_entropy(logits, target, self.q), self.reduction)

    def extra_repr(self) -> str:
        return f"q={self.q}"
