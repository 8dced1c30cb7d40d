"""Parts of active and passive losses, one value per sample.

An active loss raises the probability of the label, a passive one lowers those of the other classes. The papers add one
of each, because an active loss that tolerates wrong labels underfits.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from noisylabels_pl.functional.checks import check_range
from noisylabels_pl.functional.losses.robust import generalized_cross_entropy
from noisylabels_pl.functional.precision import at_least_float32

LOG_OF_ZERO = math.log(1e-4)
"""The number that stands for log 0, where a one-hot label is compared with a prediction."""

P_MIN = 1e-7
"""The smallest probability that the active negative loss tells from 0."""


def reverse_cross_entropy(logits: Tensor, target: Tensor, A: float = LOG_OF_ZERO) -> Tensor:
    r"""Return the cross-entropy of each sample with prediction and label exchanged.

    .. math::
        \ell_i = -\sum_k p_{ik} \log y_{ik} = -A (1 - p_{i, y_i})

    where :math:`A < 0` stands for :math:`\log 0`. This is eq. 6 of `Symmetric Cross Entropy for Robust Learning with
    Noisy Labels <https://arxiv.org/abs/1908.06112>`_, a multiple of the mean absolute error.

    Args:
        logits: ``(B, C)``; log-probabilities give the same result.
        target: ``(B,)`` class indices.
        A: negative.

    Returns:
        ``(B,)`` in ``[0, -A]``, at least float32.

    Raises:
        ValueError: ``A`` is not negative.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import reverse_cross_entropy
        >>> logits = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]).log()
        >>> reverse_cross_entropy(logits, torch.tensor([0, 1]), A=-4.0)
        tensor([2., 3.])
    """
    check_range("A", A, "(-inf, 0)", hint="it stands for log 0; log(1e-4) is usual")
    return -A * generalized_cross_entropy(logits, target, 1.0)


def normalized_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    r"""Return the cross-entropy of each sample, divided by its sum over all labels that the sample could have.

    .. math::
        \ell_i = \frac{\log p_{i, y_i}}{\sum_k \log p_{ik}}

    Its sum over the labels is 1, so that symmetric noise does not move its minimizer: `Normalized Loss Functions for
    Deep Learning with Noisy Labels <https://arxiv.org/abs/2006.13554>`_, eq. 3.

    Args:
        logits: ``(B, C)`` with at least two classes; log-probabilities give the same result.
        target: ``(B,)`` class indices.

    Returns:
        ``(B,)`` in ``[0, 1]``, at least float32.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import normalized_cross_entropy
        >>> logits = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]).log()
        >>> normalized_cross_entropy(logits, torch.tensor([0, 1]))
        tensor([0.2000, 0.4000])
    """
    log_probs = F.log_softmax(at_least_float32(logits), 1)
    return _of_label(log_probs, target) / log_probs.sum(1)


def normalized_negative_cross_entropy(logits: Tensor, target: Tensor, p_min: float = P_MIN) -> Tensor:
    r"""Return the normalized negative cross-entropy of each sample, a passive loss.

    .. math::
        \ell_i = 1 - \frac{q_{i, y_i}}{\sum_k q_{ik}}, \qquad q_{ik} = \log \max(p_{ik}, p_{\min}) - \log p_{\min}

    Its sum over the labels is :math:`C - 1`, so that symmetric noise does not move its minimizer: `Active Negative Loss
    Functions for Learning with Noisy Labels
    <https://papers.nips.cc/paper_files/paper/2023/hash/15f4cefb0e143c7ad9d40e879b0a9d0c-Abstract-Conference.html>`_.
    Classes whose probability is below ``p_min`` have no gradient.

    Args:
        logits: ``(B, C)``; log-probabilities give the same result.
        target: ``(B,)`` class indices.
        p_min: smallest probability, in ``(0, 1)``; smaller than ``1 / C``.

    Returns:
        ``(B,)`` in ``[0, 1]``, at least float32.

    Raises:
        ValueError: ``p_min`` is out of range.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import normalized_negative_cross_entropy
        >>> logits = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]).log()
        >>> normalized_negative_cross_entropy(logits, torch.tensor([0, 1]), p_min=0.125)
        tensor([0.5000, 0.7500])
    """
    check_range("p_min", p_min, "(0, 1)", hint="1e-7 is usual")
    log_probs = F.log_softmax(at_least_float32(logits), 1)
    above_minimum = torch.relu(log_probs - math.log(p_min))
    return 1 - _of_label(above_minimum, target) / above_minimum.sum(1)


def _of_label(values: Tensor, target: Tensor) -> Tensor:
    return values.gather(1, target.unsqueeze(1)).squeeze(1)
