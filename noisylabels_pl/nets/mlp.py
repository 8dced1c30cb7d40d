"""Fully connected network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import nn

from noisylabels_pl.functional import check_choice

Init = Literal["torch", "he"]


def mlp(
    input_shape: Sequence[int],
    num_classes: int,
    *,
    hidden: Sequence[int] = (512, 512),
    dropout: float = 0.0,
    negative_slope: float = 0.0,
    init: Init = "torch",
) -> nn.Sequential:
    """Return fully connected layers with ReLU and dropout on the flattened input, and a linear head.

    The last module is the linear head.

    Args:
        input_shape: the shape of one sample; features or images.
        num_classes: the number of outputs; in regression the number of targets.
        hidden: the widths of the hidden layers.
        dropout: the probability of dropout after each hidden layer; 0 for no dropout layers.
        negative_slope: the slope of a leaky ReLU for negative inputs; 0 for an ordinary ReLU.
        init: the initial weights: ``"torch"`` for torch's, or ``"he"`` for normally distributed ones whose variance
            keeps that of the signal (He et al., ICCV 2015, https://arxiv.org/abs/1502.01852), with biases of 0.

    Raises:
        ValueError: ``init`` is unknown.

    Example:
        >>> import torch
        >>> net = mlp((1, 8, 8), num_classes=10, hidden=(64,))
        >>> net(torch.rand(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    check_choice("init", init, Init)
    widths = [math.prod(input_shape), *hidden]
    layers: list[nn.Module] = [nn.Flatten()]
    for in_features, out_features in pairwise(widths):
        layers.append(nn.Linear(in_features, out_features))
        layers.append(nn.LeakyReLU(negative_slope) if negative_slope else nn.ReLU())
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
    layers.append(nn.Linear(widths[-1], num_classes))
    if init == "he":
        for layer in layers:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, a=negative_slope)
                nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)
