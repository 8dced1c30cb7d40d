"""The eight-layer network."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisylabels_pl.nets import cnn8
from tests.nets.layers import Layers, images, randomized
from tests.nets.sizes import check_size


def eight(channels: int, classes: int, pixels: int) -> int:
    """Return the number of parameters: convolutions with a bias, a scale and a shift each, and two dense layers."""
    widths = [channels, 64, 64, 128, 128, 196, 196]
    convolutions = sum(9 * a * b + 3 * b for a, b in pairwise(widths))
    return convolutions + 196 * pixels * 256 + 3 * 256 + 256 * classes + classes


@pytest.mark.parametrize(("shape", "classes", "pixels"), [((3, 32, 32), 10, 16), ((1, 28, 28), 7, 9)])
def test_size_follows_from_the_data(shape: tuple[int, ...], classes: int, pixels: int) -> None:
    check_size(cnn8, shape, classes, eight(shape[0], classes, pixels))


def test_the_network_of_the_active_losses() -> None:
    net = randomized(cnn8((3, 32, 32), 10)).eval()
    layers, x = Layers(net), images()
    for number in range(6):
        x = layers.norm(layers.convolution(x)).relu()
        if number % 2:
            x = F.max_pool2d(x, kernel_size=2, stride=2)
    hidden, norm = (layer for layer in net if isinstance(layer, (nn.Linear, nn.BatchNorm1d)) and len(layer.weight) > 10)
    mean, variance = norm.running_mean, norm.running_var
    assert isinstance(mean, Tensor)
    assert isinstance(variance, Tensor)
    dense = x.flatten(1) @ hidden.weight.T + hidden.bias
    dense = ((dense - mean) / (variance + 1e-5).sqrt() * norm.weight + norm.bias).relu()
    expected = dense @ net[-1].weight.T + net[-1].bias  # type: ignore[index]
    torch.testing.assert_close(net(images()), expected, rtol=1e-9, atol=1e-9)


def test_initial_weights() -> None:
    torch.manual_seed(0)
    net = cnn8((3, 32, 32), 10)
    for layer in net:
        if isinstance(layer, nn.Conv2d):
            bound = (6 / (9 * layer.in_channels)) ** 0.5  # Kaiming: 2 / fan_in is the variance
            assert float(layer.weight.detach().abs().max()) == pytest.approx(bound, rel=0.01)
        elif isinstance(layer, nn.Linear):
            bound = (6 / (layer.in_features + layer.out_features)) ** 0.5
            assert float(layer.weight.detach().abs().max()) == pytest.approx(bound, rel=0.01)


def test_images_that_are_too_small() -> None:
    with pytest.raises(ValueError, match=r"^cnn8 needs images of at least 8x8 pixels, got 4x28; use small_cnn"):
        cnn8((1, 4, 28), 10)
