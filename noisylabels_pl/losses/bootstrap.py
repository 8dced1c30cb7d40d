"""Bootstrapping as criteria; the formulas are in :mod:`noisylabels_pl.functional.losses.bootstrap`."""

from __future__ import annotations

from torch import Tensor

from noisylabels_pl.functional import check_range, hard_bootstrap, soft_bootstrap
from noisylabels_pl.losses.base import Reduction, RobustCriterion


class SoftBootstrapLoss(RobustCriterion):
    r"""Computes cross-entropy with labels that are mixed with the predicted probabilities.

    `Training Deep Neural Networks on Noisy Labels with Bootstrapping <https://arxiv.org/abs/1412.6596>`_ (Reed et al.,
    ICLR 2015 workshop), eq. 6. With the predicted probabilities :math:`p` and the one-hot label :math:`y`:

    .. math::
        \ell = -\sum_k (\beta y_k + (1 - \beta) p_k) \log p_k

    As in the paper, the gradient flows through both :math:`p`: the second term is the entropy of the prediction, and
    training makes it smaller. The kernel is :func:`~noisylabels_pl.functional.soft_bootstrap`.

    Args:
        beta: weight of the label in ``[0, 1]``; the paper has 0.95, and 1 is cross-entropy.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: ``beta`` is out of range, or ``reduction`` unknown.

    Example:
        >>> import torch
        >>> from noisylabels_pl import SoftBootstrapLoss
        >>> logits = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
        >>> SoftBootstrapLoss(beta=0.95, reduction="none")(logits, torch.tensor([0, 1]))
        tensor([0.1388, 2.0388])
    """

    def __init__(self, beta: float = 0.95, *, reduction: Reduction = "mean") -> None:
        super().__init__(reduction)
        check_range("beta", beta, "[0, 1]")
        self.beta = beta

    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        return soft_bootstrap(logits, target, self.beta)

    def extra_repr(self) -> str:
        return f"beta={self.beta}"


class HardBootstrapLoss(RobustCriterion):
    r"""Computes cross-entropy with labels that are mixed with the predicted class.

    `Training Deep Neural Networks on Noisy Labels with Bootstrapping <https://arxiv.org/abs/1412.6596>`_ (Reed et al.,
    ICLR 2015 workshop), eq. 7. With the predicted probabilities :math:`p` and the observed label :math:`y`:

    .. math::
        \ell = -\beta \log p_y - (1 - \beta) \max_k \log p_k

    The predicted class is a constant for the gradient. The kernel is
    :func:`~noisylabels_pl.functional.hard_bootstrap`.

    Args:
        beta: weight of the label in ``[0, 1]``; the paper has 0.8, and 1 is cross-entropy.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: ``beta`` is out of range, or ``reduction`` unknown.

    Example:
        >>> import torch
        >>> from noisylabels_pl import HardBootstrapLoss
        >>> logits = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
        >>> HardBootstrapLoss(beta=0.8, reduction="none")(logits, torch.tensor([0, 1]))
        tensor([0.1269, 1.7269])
    """

    def __init__(self, beta: float = 0.8, *, reduction: Reduction = "mean") -> None:
        super().__init__(reduction)
        check_range("beta", beta, "[0, 1]")
        self.beta = beta

    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        return hard_bootstrap(logits, target, self.beta)

    def extra_repr(self) -> str:
        return f"beta={self.beta}"
