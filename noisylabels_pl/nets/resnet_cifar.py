"""Residual networks for 32x32 images (He et al. 2016, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisylabels_pl.nets.shapes import image_channels


class _Block(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters (option A)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride = outputs // inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            new = out.shape[1] - x.shape[1]
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, new // 2, new - new // 2))
        return torch.relu(out + x)


def resnet32_cifar(input_shape: Sequence[int], num_classes: int) -> nn.Sequential:
    """ResNet-32 with widths 16, 32 and 64 and Kaiming-normal weights; 0.46 M parameters for 10 classes.

    The network of CRUST's CIFAR experiments. The last module is the linear head.
    """
    blocks = [_Block(16, 16) for _ in range(5)]
    blocks += [_Block(16, 32)] + [_Block(32, 32) for _ in range(4)]
    blocks += [_Block(32, 64)] + [_Block(64, 64) for _ in range(4)]
    stem = nn.Conv2d(image_channels("resnet32_cifar", input_shape), 16, 3, padding=1, bias=False)
    net = nn.Sequential(
        nn.Sequential(stem, nn.BatchNorm2d(16), nn.ReLU()),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, num_classes),
    )
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)
    return net
