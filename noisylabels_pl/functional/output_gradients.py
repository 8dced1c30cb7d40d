"""Closed forms of per-sample gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from noisylabels_pl.functional.checks import check_choice
from noisylabels_pl.functional.precision import at_least_float32


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
    probs = at_least_float32(logits).softmax(1)
    # F.one_hot would look at its values, for which a device has to be waited for.
    target = target.unsqueeze(1)
    return probs.scatter_add(1, target, -torch.ones_like(target, dtype=probs.dtype))


def loss_layer_gradient_norm(output: Tensor, target: Tensor, loss: str = "ce") -> Tensor:
    """Length of each sample's gradient at the output of the network, by which PRL(L) drops samples (Algorithm 3).

    Of cross-entropy it is ``|softmax(z) - onehot(y)|``, so its square is ``|p|^2 - 2 p_y + 1`` and it lies in
    ``[0, sqrt 2]``: unlike the loss it also sees how the other classes share the rest. Of the squared error
    ``|z - y|^2 / 2`` it is ``|z - y|``, which orders samples as the loss does.

    Args:
        output: ``(B, C)`` logits, or ``(B, ...)`` predictions.
        target: ``(B,)`` class indices, or true values in the shape of ``output``.
        loss: ``ce`` or ``mse``.

    Returns:
        ``(B,)``, at least float32.

    Raises:
        ValueError: an unknown ``loss``, or for ``mse`` a ``target`` of another shape.
    """
    check_choice("loss", loss, ("ce", "mse"))
    if loss == "ce":
        residual = logit_gradient(output, target)
    elif output.shape != target.shape:
        raise ValueError(
            f"for loss='mse' target must have the shape of output, {tuple(output.shape)}, got {tuple(target.shape)}; "
            "reshape one of them"
        )
    else:
        residual = at_least_float32(output) - target
    return residual.flatten(1).square().sum(1).sqrt() if residual.ndim > 1 else residual.abs()
