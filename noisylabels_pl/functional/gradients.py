"""Closed forms of per-sample gradients."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def logit_gradient(logits: Tensor, target: Tensor) -> Tensor:
    """Gradient of each sample's cross-entropy with respect to its logits: ``softmax(z) - onehot(y)``.

    It is the part of the last layer's gradient by which CRUST bounds distances between gradients (eq. 9). With a linear
    head of weight ``W``, ``logit_gradient(z, y) @ W`` is the gradient with respect to the head's input.

    Args:
        logits: ``(B, C)``; log-probabilities give the same result.
        target: ``(B,)`` class indices.

    Returns:
        ``(B, C)``, at least float32.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits.softmax(1) - F.one_hot(target, logits.shape[1])
