"""Losses that tolerate wrong labels, one value per sample."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from noisylabels_pl.functional.checks import check_range
from noisylabels_pl.functional.precision import at_least_float32


def generalized_cross_entropy(logits: Tensor, target: Tensor, q: float = 0.7) -> Tensor:
    r"""Return the generalized cross-entropy of each sample.

    .. math::
        \ell_i = \frac{1 - p_{i, y_i}^q}{q}

    where :math:`p_{i, y_i}` is the predicted probability of the label. It lies between the cross-entropy
    (:math:`q \to 0`) and half the mean absolute error (:math:`q = 1`). A sample that looks mislabeled has a small
    :math:`p_{i, y_i}`, and its gradient is that of the cross-entropy times :math:`p_{i, y_i}^q`. This is eq. 6 of
    `Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels
    <https://arxiv.org/abs/1805.07836>`_.

    Args:
        logits: ``(B, C)``; log-probabilities give the same result.
        target: ``(B,)`` class indices.
        q: exponent in ``(0, 1]``.

    Returns:
        ``(B,)`` in ``[0, 1 / q]``, at least float32.

    Raises:
        ValueError: ``q`` is out of range.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import generalized_cross_entropy
        >>> logits = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]).log()
        >>> generalized_cross_entropy(logits, torch.tensor([0, 1]), q=0.5)
        tensor([0.5858, 1.0000])
    """
    check_range("q", q, "(0, 1]", hint="its limit 0 is cross-entropy")
    log_p = -F.cross_entropy(at_least_float32(logits), target, reduction="none")
    # 1 - p^q is computed from log p, so where p underflows neither the value nor the gradient needs a clamp.
    return -torch.expm1(q * log_p) / q


def mean_absolute_error(logits: Tensor, target: Tensor) -> Tensor:
    r"""Return the absolute error between each sample's predicted probabilities and its one-hot label.

    .. math::
        \ell_i = \sum_k |p_{ik} - y_{ik}| = 2 (1 - p_{i, y_i})

    Its sum over all labels that a sample could have is :math:`2 (C - 1)`, whatever the prediction. So symmetric noise
    adds a constant to its expectation, and does not move the minimizer: theorem 1 of `Robust Loss Functions under Label
    Noise for Deep Neural Networks <https://arxiv.org/abs/1712.09482>`_.

    Args:
        logits: ``(B, C)``; log-probabilities give the same result.
        target: ``(B,)`` class indices.

    Returns:
        ``(B,)`` in ``[0, 2]``, at least float32.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import mean_absolute_error
        >>> logits = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]).log()
        >>> mean_absolute_error(logits, torch.tensor([0, 1]))
        tensor([1.0000, 1.5000])
    """
    return 2 * generalized_cross_entropy(logits, target, 1.0)
