"""The pre-activation residual networks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from noisylabels_pl.nets import (
    preact_resnet14,
    preact_resnet18,
    preact_resnet32,
    preact_resnet44,
    preact_resnet110,
)
from tests.nets.layers import Layers, images, randomized
from tests.nets.sizes import check_size


def narrow(depth: int) -> int:
    """Return the parameters: stem, blocks with norms before all convolutions but the first, shortcuts, norm, head."""
    total = 9 * 3 * 16 + 2 * 16 - 2 * 16
    for inputs, outputs in ((16, 16), (16, 32), (32, 64)):
        total += 9 * inputs * outputs + 9 * outputs * outputs + 2 * inputs + 2 * outputs
        total += inputs * outputs * (inputs != outputs)
        total += (depth - 1) * (2 * 9 * outputs * outputs + 4 * outputs)
    return total + 2 * 64 + 64 * 10 + 10


@pytest.mark.parametrize(
    ("net", "parameters"),
    [
        # Widely quoted for CIFAR's variant: 11,171,146, to which the authors' code adds a norm in the stem.
        (preact_resnet18, 11_171_146 + 2 * 64),
        # Patrini et al., 6n + 2 layers with n = 2, 5 and 7, a convolution as shortcut; counted layer by layer.
        (preact_resnet14, narrow(2)),
        (preact_resnet32, narrow(5)),
        (preact_resnet44, narrow(7)),
        (preact_resnet110, narrow(18)),
    ],
)
def test_size(net: Callable[..., nn.Module], parameters: int) -> None:
    check_size(net, (3, 32, 32), 10, parameters)


@pytest.mark.parametrize(("depth", "millions"), [(5, 0.46), (7, 0.66), (18, 1.7)])
def test_published_sizes(depth: int, millions: float) -> None:
    """He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 6, without the two convolutions."""
    assert round((narrow(depth) - 16 * 32 - 32 * 64) / 1e6, 2 if millions < 1 else 1) == millions


def elr_plus_logits(net: nn.Module, x: Tensor) -> Tensor:
    """Restate the ResNet-18 of ELR+ and DivideMix: each block's shortcut starts behind its first norm and ReLU."""
    layers = Layers(net)
    x = layers.norm(layers.convolution(x)).relu()
    for number in range(8):
        stride = 2 if number in (2, 4, 6) else 1
        activated = layers.norm(x).relu()
        hidden = layers.norm(layers.convolution(activated, stride)).relu()
        x = layers.convolution(hidden)
        x = x + (layers.convolution(activated, 2, padding=0) if stride == 2 else activated)
    logits = layers.head(x)
    layers.assert_all_used()
    return logits


def loss_correction_logits(net: nn.Module, x: Tensor, depth: int) -> Tensor:
    """Restate the narrow networks of loss correction: each block's shortcut starts at its input."""
    layers = Layers(net)
    x = layers.norm(layers.convolution(x)).relu()
    for number in range(3 * depth):
        stride = 2 if number in (depth, 2 * depth) else 1
        activated = x if number == 0 else layers.norm(x).relu()
        hidden = layers.norm(layers.convolution(activated, stride)).relu()
        residual = layers.convolution(hidden)
        x = residual + (layers.convolution(x, 2, padding=0) if stride == 2 else x)
    logits = layers.head(layers.norm(x).relu())
    layers.assert_all_used()
    return logits


@pytest.mark.parametrize("training", [True, False])
def test_the_network_of_elr_plus(training: bool) -> None:
    net = randomized(preact_resnet18((3, 32, 32), 10)).train(training)
    expected = elr_plus_logits(net, images())
    torch.testing.assert_close(net(images()), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("make", "depth"), [(preact_resnet14, 2), (preact_resnet32, 5), (preact_resnet44, 7)])
def test_the_networks_of_loss_correction(make: Callable[..., nn.Module], depth: int, training: bool) -> None:
    net = randomized(make((3, 32, 32), 10)).train(training)
    expected = loss_correction_logits(net, images(), depth)
    torch.testing.assert_close(net(images()), expected, rtol=1e-9, atol=1e-9)


def test_biases_of_convolutions_would_change_nothing() -> None:
    """The public code of loss correction has them; the norms that follow cancel them."""
    net = randomized(preact_resnet14((3, 32, 32), 10)).train()
    expected = net(images()).detach()
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            layer.bias = nn.Parameter(torch.rand(layer.out_channels, dtype=torch.float64))
    torch.testing.assert_close(net(images()).detach(), expected, rtol=1e-9, atol=1e-9)
