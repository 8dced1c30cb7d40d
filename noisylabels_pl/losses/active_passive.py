"""Sums of an active and a passive loss; the parts are in :mod:`noisylabels_pl.functional.losses.active_passive`."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from noisylabels_pl.functional import (
    at_least_float32,
    check_range,
    normalized_cross_entropy,
    normalized_negative_cross_entropy,
    reverse_cross_entropy,
)
from noisylabels_pl.functional.losses.active_passive import LOG_OF_ZERO, P_MIN
from noisylabels_pl.losses.base import Reduction, RobustCriterion


class _WeightedSum(RobustCriterion):
    """Holds the weights of two losses."""

    def __init__(self, alpha: float, beta: float, reduction: Reduction) -> None:
        super().__init__(reduction)
        check_range("alpha", alpha, "[0, inf)")
        check_range("beta", beta, "[0, inf)")
        self.alpha = alpha
        self.beta = beta

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, beta={self.beta}"


class SCELoss(_WeightedSum):
    r"""Computes symmetric cross-entropy: cross-entropy plus its reverse.

    `Symmetric Cross Entropy for Robust Learning with Noisy Labels <https://arxiv.org/abs/1908.06112>`_ (Wang et al.,
    ICCV 2019), eq. 7. With :math:`p_y` the predicted probability of the observed label:

    .. math::
        \ell = -\alpha \log p_y - \beta A (1 - p_y)

    where :math:`A` stands for :math:`\log 0` in the reverse part. Cross-entropy learns fast, and its reverse tolerates
    wrong labels. The reverse part is :func:`~noisylabels_pl.functional.reverse_cross_entropy`.

    Args:
        alpha: weight of cross-entropy; not negative. The paper has 0.1 on CIFAR-10 and 6 on CIFAR-100.
        beta: weight of the reverse part; not negative. The paper has 1 on CIFAR-10 and 0.1 on CIFAR-100.
        A: negative; the default is log(1e-4), because public code clamps labels at 1e-4.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: a number is out of range, or ``reduction`` unknown.

    Example:
        >>> import torch
        >>> from noisylabels_pl import SCELoss
        >>> logits = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
        >>> SCELoss(reduction="none")(logits, torch.tensor([0, 1]))
        tensor([1.1106, 8.3251])
    """

    def __init__(
        self, alpha: float = 0.1, beta: float = 1.0, A: float = LOG_OF_ZERO, *, reduction: Reduction = "mean"
    ) -> None:
        super().__init__(alpha, beta, reduction)
        check_range("A", A, "(-inf, 0)", hint="it stands for log 0; log(1e-4) = -9.21 is usual")
        self.A = A

    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        cross_entropy = F.cross_entropy(at_least_float32(logits), target, reduction="none")
        return self.alpha * cross_entropy + self.beta * reverse_cross_entropy(logits, target, self.A)


class NCERCELoss(_WeightedSum):
    r"""Computes normalized cross-entropy plus reverse cross-entropy, an active plus a passive loss.

    `Normalized Loss Functions for Deep Learning with Noisy Labels <https://arxiv.org/abs/2006.13554>`_ (Ma et al., ICML
    2020). With the predicted probabilities :math:`p` and the observed label :math:`y`:

    .. math::
        \ell = \alpha \frac{\log p_y}{\sum_k \log p_k} - \beta A (1 - p_y), \qquad A = \log 10^{-4}

    The sum of either part over all labels is a constant, so symmetric noise does not move the minimizer. The kernels
    are :func:`~noisylabels_pl.functional.normalized_cross_entropy` and
    :func:`~noisylabels_pl.functional.reverse_cross_entropy`.

    Args:
        alpha: weight of normalized cross-entropy; not negative. The paper has 1 on CIFAR-10 and 10 on CIFAR-100.
        beta: weight of reverse cross-entropy; not negative. The paper has 1 on CIFAR-10 and 0.1 on CIFAR-100.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: a weight is negative, or ``reduction`` unknown.

    Example:
        >>> import torch
        >>> from noisylabels_pl import NCERCELoss
        >>> logits = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
        >>> NCERCELoss(reduction="none")(logits, torch.tensor([0, 1]))
        tensor([1.1542, 9.0561])
    """

    def __init__(self, alpha: float = 1.0, beta: float = 1.0, *, reduction: Reduction = "mean") -> None:
        super().__init__(alpha, beta, reduction)

    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        active = normalized_cross_entropy(logits, target)
        return self.alpha * active + self.beta * reverse_cross_entropy(logits, target)


class ANLCELoss(_WeightedSum):
    r"""Computes normalized cross-entropy plus normalized negative cross-entropy: the active negative loss of CE.

    `Active Negative Loss Functions for Learning with Noisy Labels
    <https://papers.nips.cc/paper_files/paper/2023/hash/15f4cefb0e143c7ad9d40e879b0a9d0c-Abstract-Conference.html>`_
    (Ye et al., NeurIPS 2023). With the predicted probabilities :math:`p` and the observed label :math:`y`:

    .. math::
        \ell = \alpha \frac{\log p_y}{\sum_k \log p_k} + \beta \left( 1 - \frac{q_y}{\sum_k q_k} \right), \qquad
        q_k = \log \max(p_k, p_{\min}) - \log p_{\min}

    The sum of either part over all labels is a constant, so symmetric noise does not move the minimizer. The paper also
    penalizes the absolute values of all weights, by 5e-5 on CIFAR-10 and 5e-7 on CIFAR-100, in place of weight decay.
    That belongs to the optimizer and is not part of this loss. The kernels are
    :func:`~noisylabels_pl.functional.normalized_cross_entropy` and
    :func:`~noisylabels_pl.functional.normalized_negative_cross_entropy`.

    Args:
        alpha: weight of the active part; not negative. The paper has 5 on CIFAR-10 and 10 on CIFAR-100.
        beta: weight of the passive part; not negative. The paper has 5 on CIFAR-10 and 1 on CIFAR-100.
        p_min: smallest probability that counts, in ``(0, 1)``.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: a number is out of range, or ``reduction`` unknown.

    Example:
        >>> import torch
        >>> from noisylabels_pl import ANLCELoss
        >>> logits = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
        >>> ANLCELoss(reduction="none")(logits, torch.tensor([0, 1]))
        tensor([2.6148, 7.3852])
    """

    def __init__(
        self, alpha: float = 5.0, beta: float = 5.0, p_min: float = P_MIN, *, reduction: Reduction = "mean"
    ) -> None:
        super().__init__(alpha, beta, reduction)
        check_range("p_min", p_min, "(0, 1)", hint="1e-7 is usual")
        self.p_min = p_min

    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        active = normalized_cross_entropy(logits, target)
        return self.alpha * active + self.beta * normalized_negative_cross_entropy(logits, target, self.p_min)
