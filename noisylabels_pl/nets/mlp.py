"""Fully connected network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def mlp(
    input_shape: Sequence[int],
    num_classes: int,
    *,
    hidden: Sequence[int] = (512, 512),
    dropout: float = 0.0,
    negative_slope: float = 0.0,
) -> nn.Sequential:
    """Layers of given widths on the flattened input, each with ReLU and dropout; the last module is the linear head.

    A ``negative_slope`` makes the ReLU leaky. ``num_classes`` is the number of outputs, in regression too.
    """
    widths = [math.prod(input_shape), *hidden]
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(negative_slope) if negative_slope else nn.ReLU()]
        layers += [nn.Dropout(dropout)] * (dropout > 0)
    return nn.Sequential(*layers, nn.Linear(widths[-1], num_classes))
