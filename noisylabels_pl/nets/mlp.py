"""Fully connected network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def mlp(
    input_shape: Sequence[int], num_classes: int, *, hidden: Sequence[int] = (512, 512), dropout: float = 0.0
) -> nn.Sequential:
    """ReLU layers of the given widths on the flattened input, each with dropout; the last module is the linear head."""
    widths = [math.prod(input_shape), *hidden]
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()] + [nn.Dropout(dropout)] * (dropout > 0)
    return nn.Sequential(*layers, nn.Linear(widths[-1], num_classes))
