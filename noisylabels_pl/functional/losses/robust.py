"""Losses that tolerate wrong labels: one value per sample, to be reduced by whoever calls."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from noisylabels_pl.functional.precision import at_least_float32


def generalized_cross_entropy(logits: Tensor, target: Tensor, q: float = 0.7) -> Tensor:
    """``(1 - p_y^q) / q``, between cross-entropy (``q`` to 0) and half the mean absolute error (``q = 1``).

    Zhang and Sabuncu, NeurIPS 2018, eq. 6. A sample that the network thinks mislabeled has a small ``p_y`` and with it
    a small gradient, ``p_y^q`` times that of cross-entropy. The power is taken of the log-probability, so neither value
    nor gradient needs a clamp where ``p_y`` underflows.

    Args:
        logits: ``(B, C)``; log-probabilities give the same result.
        target: ``(B,)`` class indices.
        q: in ``(0, 1]``.

    Returns:
        ``(B,)`` in ``[0, 1 / q]``, at least float32.

    Raises:
        ValueError: ``q`` is out of range.
    """
    if not 0 < q <= 1:
        raise ValueError(f"q must lie in (0, 1], got {q}; its limit 0 is cross-entropy")
    logits = at_least_float32(logits)
    log_p = -F.cross_entropy(logits, target, reduction="none")
    return -torch.expm1(q * log_p) / q
