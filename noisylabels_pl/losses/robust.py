"""Robust losses as criteria; their formulas are in :mod:`noisylabels_pl.functional.losses.robust`."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from noisylabels_pl.functional import (
    at_least_float32,
    check_range,
    generalized_cross_entropy,
    mean_absolute_error,
)
from noisylabels_pl.losses.base import Reduction, RobustCriterion


class MAELoss(RobustCriterion):
    r"""Computes the mean absolute error of predicted probabilities.

    `Robust Loss Functions under Label Noise for Deep Neural Networks <https://arxiv.org/abs/1712.09482>`_ (Ghosh, Kumar
    and Sastry, AAAI 2017). With :math:`p_y` the predicted probability of the observed label:

    .. math::
        \ell = \sum_k |p_k - y_k| = 2 (1 - p_y)

    Its sum over all labels is a constant, so symmetric noise does not move its minimizer. Its gradient is small for all
    samples that the network does not know yet, so it trains slowly, and with a hundred classes hardly at all. The
    kernel is :func:`~noisylabels_pl.functional.mean_absolute_error`.

    Args:
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: ``reduction`` is unknown.

    Example:
        >>> import torch
        >>> from noisylabels_pl import MAELoss
        >>> logits = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
        >>> MAELoss(reduction="none")(logits, torch.tensor([0, 1]))
        tensor([0.2384, 1.7616])
    """

    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__(reduction)

    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        return mean_absolute_error(logits, target)


class GCELoss(RobustCriterion):
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

    def __init__(self, q: float = 0.7, *, reduction: Reduction = "mean") -> None:
        super().__init__(reduction)
        check_range("q", q, "(0, 1]", hint="its limit 0 is torch.nn.CrossEntropyLoss()")
        self.q = q

    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        return generalized_cross_entropy(logits, target, self.q)

    def extra_repr(self) -> str:
        return f"q={self.q}"


class LabelSmoothingLoss(RobustCriterion):
    r"""Computes cross-entropy with labels that are mixed with the uniform distribution.

    `Does label smoothing mitigate label noise? <https://arxiv.org/abs/2003.02819>`_ (Lukasik, Bhojanapalli, Menon and
    Kumar, ICML 2020), eq. 1. With :math:`\alpha` the ``smoothing`` and :math:`p` the predicted probabilities of
    :math:`C` classes:

    .. math::
        \ell = -(1 - \alpha) \log p_y - \frac{\alpha}{C} \sum_k \log p_k

    It is ``torch.nn.CrossEntropyLoss(label_smoothing=smoothing)``, with half types computed in float32.

    Args:
        smoothing: weight of the uniform distribution in ``[0, 1]``; 0 is cross-entropy.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: ``smoothing`` is out of range, or ``reduction`` unknown.

    Example:
        >>> import torch
        >>> from noisylabels_pl import LabelSmoothingLoss
        >>> logits = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
        >>> LabelSmoothingLoss(0.1, reduction="none")(logits, torch.tensor([0, 1]))
        tensor([0.2269, 2.0269])
    """

    def __init__(self, smoothing: float = 0.1, *, reduction: Reduction = "mean") -> None:
        super().__init__(reduction)
        check_range("smoothing", smoothing, "[0, 1]")
        self.smoothing = smoothing

    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        logits = at_least_float32(logits)
        return F.cross_entropy(logits, target, reduction="none", label_smoothing=self.smoothing)

    def extra_repr(self) -> str:
        return f"smoothing={self.smoothing}"
