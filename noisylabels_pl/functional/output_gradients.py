"""Closed forms of per-sample gradients at the output of a network."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from noisylabels_pl.functional.checks import check_choice
from noisylabels_pl.functional.precision import at_least_float32

OutputLoss = Literal["ce", "mse"]


def logit_gradient(logits: Tensor, target: Tensor) -> Tensor:
    r"""Return the gradient of each sample's cross-entropy with respect to its logits.

    .. math::
        g_i = \operatorname{softmax}(z_i) - e_{y_i}

    `Coresets for Robust Training of Neural Networks against Noisy Labels <https://arxiv.org/abs/2011.07451>`_ (CRUST,
    eq. 9) bounds distances between gradients of all parameters by distances between gradients of logits. With a linear
    head of weight ``W``, ``logit_gradient(z, y) @ W`` is the gradient with respect to the input of the head.

    Args:
        logits: ``(B, C)``; log-probabilities give the same result.
        target: ``(B,)`` class indices.

    Returns:
        ``(B, C)``, at least float32.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import logit_gradient
        >>> logit_gradient(torch.tensor([[0.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1]))
        tensor([[-0.5000,  0.5000],
                [ 0.5000, -0.5000]])
    """
    probs = at_least_float32(logits).softmax(1)
    # Not F.one_hot: it checks its values, and the check waits for the device.
    label = target.unsqueeze(1)
    minus_one = -torch.ones_like(label, dtype=probs.dtype)
    if probs.requires_grad:
        return probs.scatter_add(1, label, minus_one)
    return probs.scatter_add_(1, label, minus_one)  # saves a copy


def loss_layer_gradient_norm(output: Tensor, target: Tensor, loss: OutputLoss = "ce") -> Tensor:
    r"""Return the norm of each sample's gradient at the output of the network.

    .. math::
        \text{ce:}\ \lVert \operatorname{softmax}(z_i) - e_{y_i} \rVert
        = \sqrt{\lVert p_i \rVert^2 - 2 p_{i, y_i} + 1}, \quad
        \text{mse:}\ \lVert z_i - y_i \rVert

    PRL(L) drops the samples for which this norm is largest: Algorithm 3 of `Provable Robust Learning for Deep Neural
    Networks under Agnostic Corrupted Supervision <https://openreview.net/forum?id=Bi2OvVf1KPn>`_. For cross-entropy it
    lies in :math:`[0, \sqrt{2}]`, and unlike the loss it depends on the probabilities of all classes. For the squared
    error :math:`\lVert z - y \rVert^2 / 2` it orders samples as the loss does.

    Args:
        output: ``(B, C)`` logits, or ``(B, ...)`` predictions.
        target: ``(B,)`` class indices, or true values in the shape of ``output``.
        loss: ``"ce"`` (cross-entropy) or ``"mse"`` (squared error).

    Returns:
        ``(B,)``, at least float32.

    Raises:
        ValueError: ``loss`` is unknown, or for ``"mse"`` the target has another shape.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import loss_layer_gradient_norm
        >>> loss_layer_gradient_norm(torch.tensor([[0.0, 0.0], [5.0, 0.0]]), torch.tensor([0, 1]))
        tensor([0.7071, 1.4047])
        >>> loss_layer_gradient_norm(torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, 6.0]]), loss="mse")
        tensor([5.])
    """
    check_choice("loss", loss, OutputLoss)
    if loss == "ce":
        residual = logit_gradient(output, target)
    elif output.shape == target.shape:
        residual = at_least_float32(output) - target
    else:
        raise ValueError(
            f"for loss='mse' target must have the shape of output, {tuple(output.shape)}, got {tuple(target.shape)}; "
            "reshape one of them"
        )
    if residual.ndim == 1:
        return residual.abs()
    return residual.flatten(1).square().sum(1).sqrt()
