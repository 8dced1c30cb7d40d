"""The nine-layer convolutional network of Co-teaching and PRL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from noisylabels_pl.nets.shapes import image_channels


class AlwaysDropout2d(nn.Dropout2d):
    """Drops whole channels at random, in evaluation mode as in training mode.

    Example:
        >>> import torch
        >>> dropped = AlwaysDropout2d(0.5).eval()(torch.ones(1, 1000, 1, 1))
        >>> dropped.unique()
        tensor([0., 2.])
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout2d(x, self.p, training=True)


def cnn9(input_shape: Sequence[int], num_classes: int, *, dropout_at_test: bool = False) -> nn.Sequential:
    """Return nine 3x3 convolutions with batch normalization and leaky ReLU, and a linear head.

    Three convolutions have 128 channels and three have 256, each group followed by max pooling and dropout of whole
    channels. The last three have 512, 256 and 128 channels and no padding; a mean over the remaining pixels follows.
    4.4 M parameters for 10 classes of 32x32 images. The last module is the linear head.

    The network of Han et al., "Co-teaching: Robust training of deep neural networks with extremely noisy labels",
    NeurIPS 2018, https://arxiv.org/abs/1804.06872. In the public code of Co-teaching and PRL, dropout is active at
    test, too: the accuracies that it prints are those of randomly thinned networks. ``dropout_at_test`` repeats that.

    Args:
        input_shape: ``(C, H, W)`` of one image, at least 28 pixels high and wide.
        num_classes: the number of outputs.
        dropout_at_test: drop channels in evaluation mode, too, so that outputs are random.

    Raises:
        ValueError: samples are not images, or too small.

    Example:
        >>> import torch
        >>> net = cnn9((3, 32, 32), num_classes=10)
        >>> net(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    dropout = AlwaysDropout2d if dropout_at_test else nn.Dropout2d
    return _cnn9("cnn9", input_shape, num_classes, nn.BatchNorm2d, dropout)


def cnn9_gn(input_shape: Sequence[int], num_classes: int) -> nn.Sequential:
    """Return :func:`cnn9` with group normalization (32 groups) instead of batch normalization.

    The gradient of a sample then does not depend on the others in its batch, as PRL(G) and individual clipping need.
    PRL's public code has a ResNet-32 with group normalization for that. Group normalization: Wu and He, ECCV 2018,
    https://arxiv.org/abs/1803.08494.

    Args:
        input_shape: ``(C, H, W)`` of one image, at least 28 pixels high and wide.
        num_classes: the number of outputs.

    Raises:
        ValueError: samples are not images, or too small.

    Example:
        >>> import torch
        >>> net = cnn9_gn((1, 28, 28), num_classes=10)
        >>> net(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """
    return _cnn9("cnn9_gn", input_shape, num_classes, partial(nn.GroupNorm, 32), nn.Dropout2d)


def _cnn9(
    name: str,
    input_shape: Sequence[int],
    num_classes: int,
    make_norm: Callable[[int], nn.Module],
    make_dropout: Callable[[float], nn.Module],
) -> nn.Sequential:
    """Return the nine layers.

    Args:
        name: the network's name, for messages.
        input_shape: see :func:`cnn9`.
        num_classes: see :func:`cnn9`.
        make_norm: makes the normalization of a number of channels.
        make_dropout: makes the dropout of a probability.
    """
    channels = image_channels(name, input_shape)
    height, width = input_shape[1:]
    if min(height, width) < 28:
        raise ValueError(f"{name} needs images of at least 28x28 pixels, got {height}x{width}; use small_cnn for them")
    layers: list[nn.Module] = []
    groups = (((128, 128, 128), 1), ((256, 256, 256), 1), ((512, 256, 128), 0))
    for widths, padding in groups:
        for out_channels in widths:
            layers += [
                nn.Conv2d(channels, out_channels, 3, padding=padding),
                make_norm(out_channels),
                nn.LeakyReLU(0.01),
            ]
            channels = out_channels
        if padding:  # not after the last group
            layers += [nn.MaxPool2d(2), make_dropout(0.25)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
