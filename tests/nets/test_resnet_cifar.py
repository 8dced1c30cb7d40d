"""ResNet-32 for 32x32 images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from noisylabels_pl.nets import resnet32_cifar
from tests.nets.layers import Layers, images, randomized
from tests.nets.sizes import check_size


@pytest.mark.parametrize(
    ("shape", "parameters"),
    [
        # He et al. 2016, table 6, and CRUST's code: 0.46 M.
        ((3, 32, 32), 464_154),
        ((1, 28, 28), 464_154 - 2 * 9 * 16),
    ],
)
def test_size_follows_from_the_data(shape: tuple[int, ...], parameters: int) -> None:
    check_size(resnet32_cifar, shape, 10, parameters)


def test_blocks_keep_half_of_the_pixels_and_pad_channels() -> None:
    block: Any = resnet32_cifar((3, 32, 32), 10)[6]
    nn.init.zeros_(block.bn2.weight)  # leaves the shortcut
    x = torch.rand(1, 16, 8, 8)
    out = block(x)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2])
    assert not out[:, :8].any()
    assert not out[:, 24:].any()


@pytest.mark.parametrize("training", [True, False])
def test_the_network_of_crust(training: bool) -> None:
    """Restated: shortcuts keep every second pixel, and pad the channels with zeros on both sides."""
    net = randomized(resnet32_cifar((3, 32, 32), 10)).train(training)
    layers = Layers(net)
    x = layers.norm(layers.convolution(images())).relu()
    for number in range(15):
        stride = 2 if number in (5, 10) else 1
        hidden = layers.norm(layers.convolution(x, stride)).relu()
        hidden = layers.norm(layers.convolution(hidden))
        if stride == 2:
            quarter = hidden.shape[1] // 4
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, quarter, quarter))
        x = (hidden + x).relu()
    expected = layers.head(x)
    layers.assert_all_used()
    torch.testing.assert_close(net(images()), expected, rtol=1e-9, atol=1e-9)
