"""Wide residual networks for small images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from noisylabels_pl.functional import check_range
from noisylabels_pl.nets.shapes import image_channels


class _Block(nn.Module):
    """Batch norm and ReLU before each of two 3x3 convolutions, with dropout between them.

    Where the number of channels changes, a 1x1 convolution of the activated input is the shortcut; else the input is.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut = None
        if in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = torch.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        hidden = torch.relu(self.bn2(self.conv1(activated)))
        out: Tensor = self.conv2(self.dropout(hidden)) + shortcut
        return out


def wide_resnet(
    input_shape: Sequence[int], num_classes: int, *, depth: int = 28, width: int = 10, dropout: float = 0.0
) -> nn.Sequential:
    """Return a wide residual network: 16, 32 and 64 channels times ``width``, and a linear head.

    ``depth=28, width=10`` is WRN-28-10, with 36.5 M parameters for 10 classes. The weights of convolutions are
    He-normal for their outputs, and the biases of the head are 0. The last module is the linear head.

    Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016, https://arxiv.org/abs/1605.07146.

    Args:
        input_shape: ``(C, H, W)`` of one image.
        num_classes: the number of outputs.
        depth: the number of convolutions, shortcuts included: 6n + 4 for n blocks of each width.
        width: the factor of the channels.
        dropout: the probability of dropout between the convolutions of a block; the paper has 0.3.

    Raises:
        ValueError: samples are not images; or ``depth`` is none of 10, 16, 22, 28, ...

    Example:
        >>> net = wide_resnet((3, 32, 32), num_classes=10, depth=10, width=2)
        >>> net(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    check_range("width", width, "[1, inf)", integer=True)
    check_range("dropout", dropout, "[0, 1)")
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"depth must be one of 10, 16, 22, 28, 34, ..., got {depth}")
    channels = 16
    layers: list[nn.Module] = [
        nn.Conv2d(image_channels("wide_resnet", input_shape), channels, 3, padding=1, bias=False)
    ]
    for stage in range(3):
        out_channels = 16 * 2**stage * width
        for block in range((depth - 4) // 6):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(_Block(channels, out_channels, stride, dropout))
            channels = out_channels
    layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    net = nn.Sequential(*layers, nn.Linear(channels, num_classes))
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
    return net
