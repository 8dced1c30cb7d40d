"""A convolutional network small enough for a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from noisylabels_pl.nets.shapes import image_channels


def small_cnn(input_shape: Sequence[int], num_classes: int, *, width: int = 32) -> nn.Sequential:
    """Return three stages of 3x3 convolution, batch normalization, ReLU and max pooling, and a linear head.

    Each stage halves the image. 0.1 M parameters at ``width=32``. The last module is the linear head.

    Args:
        input_shape: ``(C, H, W)`` of one image.
        num_classes: the number of outputs.
        width: the channels of the first stage; the others have two and four times as many.

    Raises:
        ValueError: samples are not images.

    Example:
        >>> import torch
        >>> net = small_cnn((1, 8, 8), num_classes=10)
        >>> net(torch.rand(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    channels = [image_channels("small_cnn", input_shape), width, 2 * width, 4 * width]
    layers: list[nn.Module] = []
    for in_channels, out_channels in pairwise(channels):
        layers += [
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], num_classes))
