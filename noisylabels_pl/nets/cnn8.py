"""The eight-layer convolutional network of the active and passive losses."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from noisylabels_pl.nets.shapes import image_channels


def cnn8(input_shape: Sequence[int], num_classes: int) -> nn.Sequential:
    """Return six 3x3 convolutions and two dense layers, with batch normalization and ReLU after all but the last.

    Two convolutions each have 64, 128 and 196 channels; max pooling follows each pair, and 256 units precede the linear
    head. Kaiming-uniform weights in convolutions, Xavier-uniform ones in dense layers. 1.65 M parameters for 10 classes
    of 32x32 images. The last module is the linear head.

    The CIFAR-10 network of Ma et al., "Normalized Loss Functions for Deep Learning with Noisy Labels", ICML 2020,
    https://arxiv.org/abs/2006.13554, with the widths and the initial weights of its public code.

    Args:
        input_shape: ``(C, H, W)`` of one image, at least 8 pixels high and wide.
        num_classes: the number of outputs.

    Raises:
        ValueError: samples are not images, or too small.

    Example:
        >>> import torch
        >>> net = cnn8((3, 32, 32), num_classes=10)
        >>> net(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    channels = image_channels("cnn8", input_shape)
    height, width = input_shape[1:]
    if min(height, width) < 8:
        raise ValueError(f"cnn8 needs images of at least 8x8 pixels, got {height}x{width}; use small_cnn for them")
    layers: list[nn.Module] = []
    for out_channels in (64, 128, 196):
        for in_channels in (channels, out_channels):
            layers += [nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
        channels = out_channels
    features = channels * math.prod(size // 8 for size in (height, width))
    layers += [nn.Flatten(), nn.Linear(features, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, num_classes)]
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
    return nn.Sequential(*layers)
