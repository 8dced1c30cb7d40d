"""Bootstrapping: labels that are mixed with the network's own predictions, one loss per sample.

The paper is "Training Deep Neural Networks on Noisy Labels with Bootstrapping" (https://arxiv.org/abs/1412.6596).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from noisylabels_pl.functional.checks import check_range
from noisylabels_pl.functional.precision import at_least_float32


def soft_bootstrap(logits: Tensor, target: Tensor, beta: float = 0.95) -> Tensor:
    r"""Return the cross-entropy of each sample with its label, mixed with the predicted probabilities.

    .. math::
        \ell_i = -\sum_k (\beta y_{ik} + (1 - \beta) p_{ik}) \log p_{ik}

    This is eq. 6 of `Training Deep Neural Networks on Noisy Labels with Bootstrapping
    <https://arxiv.org/abs/1412.6596>`_. The gradient flows through both :math:`p`, so that the second term is the
    entropy of the prediction, which is made smaller.

    Args:
        logits: ``(B, C)``; log-probabilities give the same result.
        target: ``(B,)`` class indices.
        beta: weight of the label in ``[0, 1]``.

    Returns:
        ``(B,)``, at least float32.

    Raises:
        ValueError: ``beta`` is out of range.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import soft_bootstrap
        >>> soft_bootstrap(torch.tensor([[0.9, 0.1], [0.9, 0.1]]).log(), torch.tensor([0, 1]), beta=0.5)
        tensor([0.2152, 1.3138])
    """
    check_range("beta", beta, "[0, 1]")
    logits = at_least_float32(logits)
    log_probs = F.log_softmax(logits, 1)
    entropy = -(log_probs.exp() * log_probs).sum(1)
    return beta * F.nll_loss(log_probs, target, reduction="none") + (1 - beta) * entropy


def hard_bootstrap(logits: Tensor, target: Tensor, beta: float = 0.8) -> Tensor:
    r"""Return the cross-entropy of each sample with its label, mixed with the predicted class.

    .. math::
        \ell_i = -\beta \log p_{i, y_i} - (1 - \beta) \max_k \log p_{ik}

    This is eq. 7 of `Training Deep Neural Networks on Noisy Labels with Bootstrapping
    <https://arxiv.org/abs/1412.6596>`_. The predicted class is a constant.

    Args:
        logits: ``(B, C)``; log-probabilities give the same result.
        target: ``(B,)`` class indices.
        beta: weight of the label in ``[0, 1]``.

    Returns:
        ``(B,)``, at least float32.

    Raises:
        ValueError: ``beta`` is out of range.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import hard_bootstrap
        >>> hard_bootstrap(torch.tensor([[0.9, 0.1], [0.9, 0.1]]).log(), torch.tensor([0, 1]), beta=0.5)
        tensor([0.1054, 1.2040])
    """
    check_range("beta", beta, "[0, 1]")
    logits = at_least_float32(logits)
    of_label = F.cross_entropy(logits, target, reduction="none")
    of_prediction = F.cross_entropy(logits, logits.detach().argmax(1), reduction="none")
    return beta * of_label + (1 - beta) * of_prediction
