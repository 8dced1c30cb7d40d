"""Wide residual networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from noisylabels_pl.nets import wide_resnet
from tests.nets.layers import Layers, images, randomized


def test_published_sizes() -> None:
    """Zagoruyko and Komodakis, table 4, in millions of parameters for CIFAR."""
    for depth, width, millions in ((40, 1, 0.6), (40, 2, 2.2), (40, 4, 8.9), (28, 10, 36.5), (16, 8, 11.0)):
        with torch.device("meta"):
            net = wide_resnet((3, 32, 32), 10, depth=depth, width=width)
        count = sum(parameter.numel() for parameter in net.parameters())
        assert round(count / 1e6, 1) == millions
        convolutions = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
        assert len(convolutions) == (depth if width > 1 else depth - 1)  # the first shortcut is the identity then


@pytest.mark.parametrize("training", [True, False])
def test_the_network(training: bool) -> None:
    """Restated: a shortcut of a 1x1 convolution starts behind norm and ReLU, the identity at the block's input."""
    net = randomized(wide_resnet((3, 32, 32), 10, depth=16, width=2)).train(training)
    layers = Layers(net)
    x = layers.convolution(images())
    for number in range(6):
        stride = 2 if number in (2, 4) else 1
        activated = layers.norm(x).relu()
        hidden = layers.norm(layers.convolution(activated, stride)).relu()
        residual = layers.convolution(hidden)
        x = residual + (layers.convolution(activated, stride, padding=0) if number in (0, 2, 4) else x)
    expected = layers.head(layers.norm(x).relu())
    layers.assert_all_used()
    torch.testing.assert_close(net(images()), expected, rtol=1e-9, atol=1e-9)


def test_dropout_between_the_convolutions() -> None:
    net = wide_resnet((3, 32, 32), 10, depth=10, width=1, dropout=0.3)
    assert [layer.p for layer in net.modules() if isinstance(layer, nn.Dropout)] == [0.3] * 3
    x = torch.rand(2, 3, 32, 32)
    assert not torch.equal(net(x), net(x))


def test_initial_weights() -> None:
    net = wide_resnet((3, 32, 32), 10, depth=10, width=4)
    assert not net[-1].bias.any()
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 10_000:
            variance = 2 / (layer.out_channels * layer.kernel_size[0] ** 2)
            assert float(layer.weight.detach().var()) == pytest.approx(variance, rel=0.05)


@pytest.mark.parametrize("depth", [4, 27, 32])
def test_depths_that_are_none(depth: int) -> None:
    with pytest.raises(ValueError, match=rf"^depth must be one of 10, 16, 22, 28, 34, \.\.\., got {depth}$"):
        wide_resnet((3, 32, 32), 10, depth=depth)
