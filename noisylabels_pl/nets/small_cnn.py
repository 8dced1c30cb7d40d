"""A convolutional network small enough for a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from noisylabels_pl.nets.shapes import image_channels


def small_cnn(input_shape: Sequence[int], num_classes: int, *, width: int = 32) -> nn.Sequential:
    """Three stages of 3x3 convolution, batch normalization and ReLU, each halving the image, and a linear head.

    Channels are ``width``, ``2 * width`` and ``4 * width``; 0.1 M parameters at ``width=32``.
    """
    channels = [image_channels("small_cnn", input_shape), width, 2 * width, 4 * width]
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(channels):
        layers += [
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], num_classes))
