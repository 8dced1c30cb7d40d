"""Computes a network's layers one by one, for tests that restate a network from its description."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Layers:
    """Hands out the layers of a network in the order in which they were registered, kind by kind.

    Args:
        net: in evaluation mode its norms use their running statistics, else those of the batch.
    """

    def __init__(self, net: nn.Module) -> None:
        self.convolutions = iter([layer for layer in net.modules() if isinstance(layer, nn.Conv2d)])
        self.norms = iter([layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)])
        self.heads = iter([layer for layer in net.modules() if isinstance(layer, nn.Linear)])
        self.training = net.training

    def convolution(self, x: Tensor, stride: int = 1, padding: int = 1) -> Tensor:
        layer = next(self.convolutions)
        return F.conv2d(x, layer.weight, layer.bias, stride, padding)

    def norm(self, x: Tensor) -> Tensor:
        layer = next(self.norms)
        mean, variance = layer.running_mean, layer.running_var
        assert mean is not None
        assert variance is not None
        if self.training:
            mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        scale = layer.weight / (variance + 1e-5).sqrt()
        return x * scale.view(-1, 1, 1) + (layer.bias - mean * scale).view(-1, 1, 1)

    def head(self, x: Tensor) -> Tensor:
        """Return the logits of feature maps: the mean over all pixels, and a linear layer."""
        layer = next(self.heads)
        return x.mean((2, 3)) @ layer.weight.T + layer.bias

    def assert_all_used(self) -> None:
        assert [*self.convolutions, *self.norms, *self.heads] == []


def randomized(net: nn.Module) -> nn.Module:
    """Return the network in float64, with random norms that differ from the identity."""
    generator = torch.Generator().manual_seed(0)
    net = net.double()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values in (layer.weight.data, layer.running_var):
                assert values is not None
                values.copy_(0.5 + torch.rand(len(values), generator=generator))
            for values in (layer.bias.data, layer.running_mean):
                assert values is not None
                values.copy_(torch.rand(len(values), generator=generator) - 0.5)
    return net


def images(size: int = 32) -> Tensor:
    """Return three color images in float64."""
    return torch.rand(3, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
