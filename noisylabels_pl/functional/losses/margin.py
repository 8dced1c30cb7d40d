"""Losses of a margin, made for two classes and extended to more, one value per sample.

The margin of a sample is the logit of its label, after the mean over its logits has been subtracted from each. This
leaves the softmax as it is, and for a single logit ``z``, shown as ``(0, z)``, gives the margins ``z / 2`` and
``-z / 2``. So each of these losses is the published one for two classes, where its sum over both labels is constant.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from noisylabels_pl.functional.precision import at_least_float32


def unhinged_loss(logits: Tensor, target: Tensor) -> Tensor:
    r"""Return the unhinged loss of each sample.

    .. math::
        \ell_i = 1 - m_i, \qquad m_i = z_{i, y_i} - \frac{1}{C} \sum_k z_{ik}

    Its sum over all labels that a sample could have is :math:`C`. It is from section 5 of `Learning with Symmetric
    Label Noise: The Importance of Being Unhinged <https://arxiv.org/abs/1505.07634>`_. It has no lower bound, so the
    logits must have bounds.

    Args:
        logits: ``(B, C)``.
        target: ``(B,)`` class indices.

    Returns:
        ``(B,)``, at least float32.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import unhinged_loss
        >>> unhinged_loss(torch.tensor([[3.0, 0.0, 0.0], [3.0, 0.0, 0.0]]), torch.tensor([0, 1]))
        tensor([-1.,  2.])
    """
    return 1 - _margins(logits, target)


def sigmoid_loss(logits: Tensor, target: Tensor) -> Tensor:
    r"""Return the sigmoid loss of each sample.

    .. math::
        \ell_i = \frac{1}{1 + e^{m_i}}, \qquad m_i = z_{i, y_i} - \frac{1}{C} \sum_k z_{ik}

    It is from `Making Risk Minimization Tolerant to Label Noise <https://arxiv.org/abs/1403.3610>`_. Its gradient
    vanishes where the margin is far from 0.

    Args:
        logits: ``(B, C)``.
        target: ``(B,)`` class indices.

    Returns:
        ``(B,)`` in ``[0, 1]``, at least float32.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import sigmoid_loss
        >>> sigmoid_loss(torch.tensor([[3.0, 0.0, 0.0], [3.0, 0.0, 0.0]]), torch.tensor([0, 1]))
        tensor([0.1192, 0.7311])
    """
    return torch.sigmoid(-_margins(logits, target))


def ramp_loss(logits: Tensor, target: Tensor) -> Tensor:
    r"""Return the ramp loss of each sample.

    .. math::
        \ell_i = \tfrac12 \max(0, \min(2, 1 - m_i)), \qquad m_i = z_{i, y_i} - \frac{1}{C} \sum_k z_{ik}

    It is from `Making Risk Minimization Tolerant to Label Noise <https://arxiv.org/abs/1403.3610>`_. It has a gradient
    only where the margin lies in ``(-1, 1)``.

    Args:
        logits: ``(B, C)``.
        target: ``(B,)`` class indices.

    Returns:
        ``(B,)`` in ``[0, 1]``, at least float32.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import ramp_loss
        >>> ramp_loss(torch.tensor([[0.6, 0.0, 0.0], [0.6, 0.0, 0.0]]), torch.tensor([0, 1]))
        tensor([0.3000, 0.6000])
    """
    return (1 - _margins(logits, target)).clamp(0, 2) / 2


def savage_loss(logits: Tensor, target: Tensor) -> Tensor:
    r"""Return the Savage loss of each sample, with the probability of the label as the margin.

    .. math::
        \ell_i = \frac{1}{(1 + e^{2 p_{i, y_i}})^2}

    The loss is from `On the Design of Loss Functions for Classification: theory, robustness to outliers, and
    SavageBoost <https://papers.nips.cc/paper_files/paper/2008/hash/f5deaeeae1538fb6c45901d524ee2f98-Abstract.html>`_,
    there for real-valued margins. The margin is that of the comparisons in `Making Deep Neural Networks Robust to Label
    Noise: a Loss Correction Approach <https://arxiv.org/abs/1609.03683>`_. Values lie between 0.014 and 0.25, and
    gradients are at most a quarter of those of the mean absolute error.

    Args:
        logits: ``(B, C)``; log-probabilities give the same result.
        target: ``(B,)`` class indices.

    Returns:
        ``(B,)``, at least float32.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import savage_loss
        >>> savage_loss(torch.tensor([[1.0, 0.0], [1.0, 0.0]]).log(), torch.tensor([0, 1]))
        tensor([0.0142, 0.2500])
    """
    log_p = -F.cross_entropy(at_least_float32(logits), target, reduction="none")
    return torch.sigmoid(-2 * log_p.exp()).square()


def _margins(logits: Tensor, target: Tensor) -> Tensor:
    """Return ``(B,)``: the logits of the labels, minus the mean of each sample's logits."""
    logits = at_least_float32(logits)
    return logits.gather(1, target.unsqueeze(1)).squeeze(1) - logits.mean(1)
