"""Bounded logits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from noisylabels_pl.functional.checks import check_range
from noisylabels_pl.functional.precision import at_least_float32


def clip_logits(logits: Tensor, tau: float, clipped_norm: float | None = None) -> Tensor:
    r"""Return logits whose norm is at most a threshold.

    .. math::
        \bar z_i = z_i \cdot \min(1, \tau / \lVert z_i \rVert_2)

    Any loss of bounded logits is bounded: `Mitigating Memorization of Noisy Labels by Clipping the Model Prediction
    <https://arxiv.org/abs/2212.04055>`_.

    Args:
        logits: ``(B, C)``.
        tau: threshold; positive, may be infinite.
        clipped_norm: norm that longer logits get; ``tau`` if not given, and ``1 / tau`` in the authors' public code.

    Returns:
        ``(B, C)``, at least float32.

    Raises:
        ValueError: ``tau`` or ``clipped_norm`` is not positive.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import clip_logits
        >>> clip_logits(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), tau=1.0)
        tensor([[0.6000, 0.8000],
                [0.3000, 0.4000]])
    """
    check_range("tau", tau, "(0, inf]")
    if clipped_norm is None:
        clipped_norm = tau
    check_range("clipped_norm", clipped_norm, "(0, inf]")
    logits = at_least_float32(logits)
    if math.isinf(tau):
        return logits
    norms = logits.norm(dim=1, keepdim=True)
    # Dividing by norms below tau, which may be 0, would give gradients that are not finite even where not chosen.
    scaled = logits * (clipped_norm / norms.clamp(min=tau))
    return torch.where(norms > tau, scaled, logits)
