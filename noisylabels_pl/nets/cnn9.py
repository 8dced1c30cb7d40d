"""The nine-layer convolutional network of Co-teaching and PRL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

from noisylabels_pl.nets.shapes import image_channels


def cnn9(input_shape: Sequence[int], num_classes: int) -> nn.Sequential:
    """Nine 3x3 convolutions with batch normalization and leaky ReLU; 4.4 M parameters for 10 classes of 32x32 images.

    Three of 128 channels and three of 256, each group followed by pooling and dropout of whole channels, then 512, 256
    and 128 without padding and a mean over the rest of the image, which must be at least 28 pixels high and wide. The
    last module is the linear head.
    """
    return _cnn9("cnn9", input_shape, num_classes, nn.BatchNorm2d)


def cnn9_gn(input_shape: Sequence[int], num_classes: int) -> nn.Sequential:
    """:func:`cnn9` with group normalization, 32 groups, so that a sample has a gradient of its own."""
    return _cnn9("cnn9_gn", input_shape, num_classes, partial(nn.GroupNorm, 32))


def _cnn9(name: str, input_shape: Sequence[int], num_classes: int, norm: Callable[[int], nn.Module]) -> nn.Sequential:
    channels = image_channels(name, input_shape)
    if min(input_shape[1:]) < 28:
        height, width = input_shape[1:]
        raise ValueError(f"net={name} needs images of at least 28x28 pixels, got {height}x{width}; net=small_cnn")
    layers: list[nn.Module] = []
    for widths, padding in (((128, 128, 128), 1), ((256, 256, 256), 1), ((512, 256, 128), 0)):
        for width in widths:
            layers += [nn.Conv2d(channels, width, 3, padding=padding), norm(width), nn.LeakyReLU(0.01)]
            channels = width
        if padding:
            layers += [nn.MaxPool2d(2), nn.Dropout2d(0.25)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
