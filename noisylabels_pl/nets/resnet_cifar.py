"""Residual networks for 32x32 images.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2, https://arxiv.org/abs/1512.03385.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisylabels_pl.nets.shapes import image_channels


class _Block(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters (option A of the paper)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.stride = out_channels // in_channels
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(hidden))
        if self.stride > 1:
            # Every second pixel, with zeros for half of the new channels on either side.
            new_channels = out.shape[1] - x.shape[1]
            before = new_channels // 2
            after = new_channels - before
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, after))
        return torch.relu(out + x)


def resnet32_cifar(input_shape: Sequence[int], num_classes: int) -> nn.Sequential:
    """Return ResNet-32: widths 16, 32 and 64, five blocks each, and a linear head, with Kaiming-normal weights.

    The CIFAR network of Mirzasoleiman et al., "Coresets for Robust Training of Neural Networks against Noisy Labels",
    NeurIPS 2020, https://arxiv.org/abs/2011.07451. 0.46 M parameters for 10 classes. The last module is the linear
    head.

    Args:
        input_shape: ``(C, H, W)`` of one image.
        num_classes: the number of outputs.

    Raises:
        ValueError: samples are not images.

    Example:
        >>> net = resnet32_cifar((3, 32, 32), num_classes=10)
        >>> net(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    blocks = [_Block(16, 16) for _ in range(5)]
    blocks += [_Block(16, 32)] + [_Block(32, 32) for _ in range(4)]
    blocks += [_Block(32, 64)] + [_Block(64, 64) for _ in range(4)]
    conv = nn.Conv2d(image_channels("resnet32_cifar", input_shape), 16, 3, padding=1, bias=False)
    net = nn.Sequential(
        nn.Sequential(conv, nn.BatchNorm2d(16), nn.ReLU()),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, num_classes),
    )
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)
    return net
