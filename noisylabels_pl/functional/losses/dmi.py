"""The loss by determinant-based mutual information, one value for a whole batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from noisylabels_pl.functional.checks import check_range


def dmi_loss(logits: Tensor, target: Tensor, eps: float = 1e-3) -> Tensor:
    r"""Return minus the logarithm of the determinant-based mutual information of labels and predictions.

    .. math::
        \ell = -\log(|\det U| + \epsilon), \qquad U_{jk} = \sum_i [y_i = j] \, p_{ik}

    This is eq. 9 of `L_DMI: A Novel Information-theoretic Loss Function for Training Deep Nets Robust to Label Noise
    <https://arxiv.org/abs/1909.03388>`_. Noise that depends on the true class alone multiplies :math:`\det U` by
    :math:`\det T`, so it shifts the loss by a constant. Sums over the batch stand for means, which shifts the loss by
    :math:`C \log B`. The logarithm of the determinant is computed in float64, because the determinant itself leaves the
    range of float32 for many classes.

    If a label does not occur in the batch, :math:`\det U` is 0, and the batch has no gradient. So a batch should have
    several samples of each class.

    Args:
        logits: ``(B, C)``; log-probabilities give the same result.
        target: ``(B,)`` class indices.
        eps: positive; bounds the loss, as in the authors' public code.

    Returns:
        A scalar, at least float32.

    Raises:
        ValueError: ``eps`` is not positive.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import dmi_loss
        >>> logits = torch.tensor([[0.9, 0.1], [0.2, 0.8]]).log()
        >>> dmi_loss(logits, torch.tensor([0, 1]))  # -log(0.9 * 0.8 - 0.1 * 0.2 + eps)
        tensor(0.3552)
    """
    check_range("eps", eps, "(0, inf)")
    dtype = torch.promote_types(logits.dtype, torch.float32)
    # Apple's GPUs have no float64.
    wide = logits.to(dtype if logits.device.type == "mps" else torch.float64)
    probs = wide.softmax(1)
    # F.one_hot would wait for the device.
    labels = torch.arange(logits.shape[1], device=logits.device)
    joint = (labels.unsqueeze(1) == target).to(probs.dtype) @ probs
    log_det = _log_abs_det(joint)
    log_eps = torch.full_like(log_det, math.log(eps))
    return -torch.logaddexp(log_det, log_eps).to(dtype)


def _log_abs_det(matrix: Tensor) -> Tensor:
    """Return the logarithm of the absolute determinant; that of a singular matrix is -inf and has no gradient.

    The gradient is the transposed inverse. That of ``torch.linalg.slogdet`` waits for the device, to check the matrix.
    """
    constant = matrix.detach()
    permutation, lower, upper = torch.linalg.lu(constant)
    log_det: Tensor = upper.diagonal().abs().log().sum()
    half = torch.linalg.solve_triangular(lower, permutation.T, upper=False, unitriangular=True)
    inverse = torch.linalg.solve_triangular(upper, half, upper=True)
    gradient: Tensor = inverse.T.masked_fill(log_det.isneginf(), 0)
    return log_det + (gradient * (matrix - constant)).sum()
