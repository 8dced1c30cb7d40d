"""ResNet-34 for 32x32 images."""

from __future__ import annotations

import pytest
import torch

from noisylabels_pl.nets import resnet34_cifar
from tests.nets.layers import Layers, images, randomized
from tests.nets.sizes import check_size


def test_size() -> None:
    # Widely quoted for CIFAR's variant: 21.28 M.
    check_size(resnet34_cifar, (3, 32, 32), 10, 21_282_122)


@pytest.mark.parametrize("training", [True, False])
def test_the_network_of_elr(training: bool) -> None:
    """Restated: 3, 4, 6 and 3 blocks; where shapes change, a 1x1 convolution with a norm is the shortcut."""
    net = randomized(resnet34_cifar((3, 32, 32), 10)).train(training)
    layers = Layers(net)
    x = layers.norm(layers.convolution(images())).relu()
    for number in range(16):
        stride = 2 if number in (3, 7, 13) else 1
        hidden = layers.norm(layers.convolution(x, stride)).relu()
        hidden = layers.norm(layers.convolution(hidden))
        if stride == 2:
            x = layers.norm(layers.convolution(x, 2, padding=0))
        x = (hidden + x).relu()
    expected = layers.head(x)
    layers.assert_all_used()
    torch.testing.assert_close(net(images()), expected, rtol=1e-9, atol=1e-9)
