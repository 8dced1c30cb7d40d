"""The nine-layer network."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from noisylabels_pl.nets import cnn9, cnn9_gn
from tests.nets.layers import Layers, images, randomized
from tests.nets.sizes import check_size


def nine(channels: int, classes: int) -> int:
    """Return the number of parameters, about 4.4 M in Han et al. 2018: convolutions, a scale and a shift each, head."""
    widths = [channels, 128, 128, 128, 256, 256, 256, 512, 256, 128]
    convolutions = sum(9 * inputs * outputs + 3 * outputs for inputs, outputs in pairwise(widths))
    return convolutions + 128 * classes + classes


@pytest.mark.parametrize(
    ("net", "shape", "classes"), [(cnn9, (3, 32, 32), 10), (cnn9_gn, (3, 32, 32), 10), (cnn9, (1, 28, 28), 7)]
)
def test_size_follows_from_the_data(net: Callable[..., nn.Module], shape: tuple[int, ...], classes: int) -> None:
    check_size(net, shape, classes, nine(shape[0], classes))


def test_the_nine_layers() -> None:
    for net in (cnn9, cnn9_gn):
        layers = net((3, 32, 32), 10)
        kinds = [type(layer).__name__ for layer in layers]
        assert kinds.count("Conv2d") == kinds.count("LeakyReLU") == 9
        assert [i for i, kind in enumerate(kinds) if kind == "MaxPool2d"] == [9, 20]
        assert [layer.p for layer in layers if isinstance(layer, nn.Dropout2d)] == [0.25, 0.25]
    assert kinds.count("GroupNorm") == 9
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in layers)


def test_images_that_are_too_small() -> None:
    with pytest.raises(ValueError, match=r"^cnn9_gn needs images of at least 28x28 pixels, got 8x8; use small_cnn"):
        cnn9_gn((1, 8, 8), 10)


def test_the_network_of_co_teaching() -> None:
    net = randomized(cnn9((3, 32, 32), 10)).eval()  # without dropout
    layers, x = Layers(net), images()
    for number in range(9):
        x = layers.norm(layers.convolution(x, padding=1 if number < 6 else 0))
        x = torch.where(x > 0, x, 0.01 * x)
        if number in (2, 5):
            x = F.max_pool2d(x, kernel_size=2, stride=2)
    expected = layers.head(x)
    layers.assert_all_used()
    torch.testing.assert_close(net(images()), expected, rtol=1e-9, atol=1e-9)


def test_dropout_at_test_as_in_the_public_code() -> None:
    net = cnn9((1, 28, 28), 10, dropout_at_test=True).eval()
    x = torch.rand(2, 1, 28, 28)
    assert not torch.equal(net(x), net(x))
    plain = cnn9((1, 28, 28), 10).eval()
    plain.load_state_dict(net.state_dict())
    assert torch.equal(plain(x), plain(x))
    torch.manual_seed(0)
    at_test = net(x)
    torch.manual_seed(0)
    for layer in plain.modules():
        layer.train(isinstance(layer, nn.Dropout2d))
    torch.testing.assert_close(plain(x), at_test)
