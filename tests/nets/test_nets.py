"""Shapes and sizes of the networks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from noisylabels_pl.nets import (
    cnn9,
    cnn9_gn,
    mlp,
    preact_resnet14,
    preact_resnet18,
    preact_resnet32,
    resnet32_cifar,
    resnet34_cifar,
    small_cnn,
)


def narrow(depth: int) -> int:
    """Stem, blocks of convolutions with a norm before each but the very first, shortcuts, last norm, head."""
    total = 9 * 3 * 16 + 2 * 16 - 2 * 16
    for inputs, outputs in ((16, 16), (16, 32), (32, 64)):
        total += 9 * inputs * outputs + 9 * outputs * outputs + 2 * inputs + 2 * outputs
        total += inputs * outputs * (inputs != outputs)
        total += (depth - 1) * (2 * 9 * outputs * outputs + 4 * outputs)
    return total + 2 * 64 + 64 * 10 + 10


def nine(channels: int, classes: int) -> int:
    widths = [channels, 128, 128, 128, 256, 256, 256, 512, 256, 128]
    convolutions = sum(9 * inputs * outputs + 3 * outputs for inputs, outputs in pairwise(widths))
    return convolutions + 128 * classes + classes


@pytest.mark.parametrize(
    ("net", "shape", "classes", "parameters"),
    [
        (mlp, (1, 8, 8), 10, 64 * 512 + 512 + 512 * 512 + 512 + 512 * 10 + 10),
        (mlp, (7,), 3, 7 * 512 + 512 + 512 * 512 + 512 + 512 * 3 + 3),
        # He et al. 2016, table 6, and CRUST's code: 0.46 M.
        (resnet32_cifar, (3, 32, 32), 10, 464_154),
        (resnet32_cifar, (1, 28, 28), 10, 464_154 - 2 * 9 * 16),
        # Widely quoted for CIFAR's variants: 11,171,146, to which the authors' code adds a norm in the stem; 21.28 M.
        (preact_resnet18, (3, 32, 32), 10, 11_171_146 + 2 * 64),
        (resnet34_cifar, (3, 32, 32), 10, 21_282_122),
        # Patrini et al., 6n + 2 layers with n = 2 and 5, a convolution as shortcut; counted layer by layer.
        (preact_resnet14, (3, 32, 32), 10, narrow(2)),
        (preact_resnet32, (3, 32, 32), 10, narrow(5)),
        # Han et al. 2018, about 4.4 M: nine convolutions with a scale and a shift each, and the head.
        *((net, (3, 32, 32), 10, nine(3, 10)) for net in (cnn9, cnn9_gn)),
        (cnn9, (1, 28, 28), 7, nine(1, 7)),
        (small_cnn, (3, 32, 32), 10, 9 * (3 * 32 + 32 * 64 + 64 * 128) + 2 * (32 + 64 + 128) + 128 * 10 + 10),
        (small_cnn, (1, 8, 8), 10, 9 * (32 + 32 * 64 + 64 * 128) + 2 * (32 + 64 + 128) + 128 * 10 + 10),
    ],
)
def test_size_follows_from_the_data(
    net: Callable[..., nn.Module], shape: tuple[int, ...], classes: int, parameters: int
) -> None:
    model = net(shape, classes)
    assert model(torch.rand(2, *shape)).shape == (2, classes)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_resnet_blocks_keep_half_of_the_pixels_and_pad_channels() -> None:
    block: Any = resnet32_cifar((3, 32, 32), 10)[6]
    nn.init.zeros_(block.bn2.weight)  # leaves the shortcut
    x = torch.rand(1, 16, 8, 8)
    out = block(x)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2])
    assert not out[:, :8].any()
    assert not out[:, 24:].any()


@pytest.mark.parametrize("net", [small_cnn, resnet32_cifar])
def test_features_are_no_images(net: Callable[..., nn.Module]) -> None:
    with pytest.raises(ValueError, match=rf"net={net.__name__} needs images \(C, H, W\).*\(64,\); net=mlp"):
        net((64,), 10)


def test_the_nine_layers() -> None:
    for net in (cnn9, cnn9_gn):
        layers = net((3, 32, 32), 10)
        kinds = [type(layer).__name__ for layer in layers]
        assert kinds.count("Conv2d") == kinds.count("LeakyReLU") == 9
        assert [i for i, kind in enumerate(kinds) if kind == "MaxPool2d"] == [9, 20]
        assert [layer.p for layer in layers if isinstance(layer, nn.Dropout2d)] == [0.25, 0.25]
    assert kinds.count("GroupNorm") == 9
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in layers)
    with pytest.raises(ValueError, match=r"net=cnn9_gn needs images of at least 28x28 pixels, got 8x8; net=small_cnn"):
        cnn9_gn((1, 8, 8), 10)


def test_a_leaky_mlp() -> None:
    layers = mlp((512,), 10, hidden=(256, 256), negative_slope=0.01)
    slopes = [layer.negative_slope for layer in layers if isinstance(layer, nn.LeakyReLU)]
    assert slopes == [0.01, 0.01]
    assert sum(isinstance(layer, nn.Linear) for layer in layers) == 3
