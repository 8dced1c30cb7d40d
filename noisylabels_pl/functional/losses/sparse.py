"""Sparse over-parameterization: each sample has variables of its own that absorb a wrong label.

The paper is "Robust Training under Label Noise by Over-parameterization" (SOP, https://arxiv.org/abs/2202.14026).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

EPS = 1e-4  # the least value of an adjusted probability


def sop_losses(probs: Tensor, target: Tensor, u: Tensor, v: Tensor) -> Tensor:
    r"""Return the loss of each sample, whose variables :math:`u_i` and :math:`v_i` model the noise of its label.

    With :math:`y_i` the one-hot label, :math:`s_i = u_i^2 y_i` and :math:`t_i = v_i^2 (1 - y_i)`, both clamped to
    [0, 1], and :math:`h_i` the one-hot predicted class:

    .. math::
        q_i = \frac{\max(p_i + s_i - t_i, \epsilon)}{\lVert \max(p_i + s_i - t_i, \epsilon) \rVert_1}, \qquad
        \ell_i = -\log q_{i, y_i} + \lVert h_i + s_i - t_i - y_i \rVert^2

    This is `Robust Training under Label Noise by Over-parameterization <https://arxiv.org/abs/2202.14026>`_ (SOP).
    Gradients flow into ``probs`` alone; :func:`sop_gradients` has those of ``u`` and ``v``. With ``u = v = 0`` the
    gradients are those of cross-entropy wherever all probabilities are above :math:`\epsilon` = :data:`EPS`; the value
    is larger by 2 for a sample whose predicted class is not its label.

    Args:
        probs: ``(B, C)`` predicted probabilities.
        target: ``(B,)`` int64 labels.
        u: ``(B, 1)``.
        v: ``(B, C)``.

    Returns:
        ``(B,)``.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import sop_losses
        >>> probs = torch.tensor([[0.9, 0.1], [0.9, 0.1]])
        >>> sop_losses(probs, torch.tensor([1, 1]), u=torch.tensor([[0.0], [1.0]]), v=torch.zeros(2, 2))
        tensor([4.3026, 1.5978])
    """
    s, t, one_hot, predicted = _noise(probs, target, u.detach(), v.detach())
    adjusted = (probs + s - t).clamp(min=EPS)
    q = adjusted / adjusted.sum(1, keepdim=True)
    cross_entropy = -q.gather(1, target.unsqueeze(1)).squeeze(1).log()
    squared_error = (predicted + s - t - one_hot).square().sum(1)
    return cross_entropy + squared_error


def sop_gradients(probs: Tensor, target: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return the gradients of each sample's loss, see :func:`sop_losses`, with respect to its own variables.

    As in the paper, :math:`v` learns by the squared error alone: :math:`t` counts as a constant in :math:`q`.

    Args:
        probs: ``(B, C)`` predicted probabilities.
        target: ``(B,)`` int64 labels.
        u: ``(B, 1)``.
        v: ``(B, C)``.

    Returns:
        The gradients ``(B, 1)`` and ``(B, C)``.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import sop_gradients
        >>> u, v = torch.full((1, 1), 0.1), torch.full((1, 2), 0.1)
        >>> sop_gradients(torch.tensor([[0.9, 0.1]]), torch.tensor([1]), u, v)
        (tensor([[-2.0142]]), tensor([[-0.3960,  0.0000]]))
    """
    probs = probs.detach()
    s, t, one_hot, predicted = _noise(probs, target, u, v)
    unclamped = probs + s - t
    adjusted = unclamped.clamp(min=EPS)
    by_cross_entropy = 1 / adjusted.sum(1, keepdim=True) - one_hot / adjusted
    by_cross_entropy = torch.where(unclamped >= EPS, by_cross_entropy, 0)
    by_squared_error = 2 * (predicted + s - t - one_hot)
    by_s = ((by_cross_entropy + by_squared_error) * one_hot).sum(1, keepdim=True)
    by_t = -by_squared_error * (1 - one_hot)
    # The derivative of the clamped square.
    gradient_of_u = torch.where(u.square() <= 1, 2 * u * by_s, 0)
    gradient_of_v = torch.where(v.square() <= 1, 2 * v * by_t, 0)
    return gradient_of_u, gradient_of_v


def _noise(probs: Tensor, target: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return ``s``, ``t``, the one-hot labels and the one-hot predicted classes, all ``(B, C)``."""
    num_classes = probs.shape[1]
    one_hot = F.one_hot(target, num_classes).to(probs.dtype)
    predicted = F.one_hot(probs.detach().argmax(1), num_classes).to(probs.dtype)
    s = (u.square() * one_hot).clamp(0, 1)
    t = (v.square() * (1 - one_hot)).clamp(0, 1)
    return s, t, one_hot, predicted
