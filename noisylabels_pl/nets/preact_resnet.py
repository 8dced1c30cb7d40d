"""Residual networks with pre-activation for small images (He et al., "Identity mappings", 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from noisylabels_pl.nets.shapes import image_channels


class _Block(nn.Module):
    """Batch norm and ReLU before each of two 3x3 convolutions; a 1x1 convolution as shortcut where shapes change.

    Without ``activates`` the input is taken as activated already.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, activates: bool = True) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs) if activates else None
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        changes = stride != 1 or inputs != outputs
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        activated = x if self.bn1 is None else torch.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        out: Tensor = self.conv2(torch.relu(self.bn2(self.conv1(activated)))) + shortcut
        return out


def preact_resnet18(input_shape: Sequence[int], num_classes: int) -> nn.Sequential:
    """Widths 64 to 512, two blocks each, an activated 3x3 stem, no norm before the pooling; 11.17 M parameters.

    The network of ELR+ and DivideMix on CIFAR, as in their public code. The last module is the linear head.
    """
    conv = nn.Conv2d(image_channels("preact_resnet18", input_shape), 64, 3, padding=1, bias=False)
    stem = nn.Sequential(conv, nn.BatchNorm2d(64), nn.ReLU())
    blocks = _blocks((64, 64, 128, 256, 512), depth=2)
    return nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, num_classes))


def preact_resnet14(input_shape: Sequence[int], num_classes: int) -> nn.Sequential:
    """Two blocks each of widths 16, 32 and 64, Patrini's smaller network on CIFAR; 0.18 M parameters for 10 classes.

    The stem is activated, so the first block is not; weights of convolutions are Kaiming-normal. Where shapes change
    the shortcut branches off after the activation, as in He et al. The last module is the linear head.
    """
    return _narrow("preact_resnet14", input_shape, num_classes, depth=2)


def preact_resnet32(input_shape: Sequence[int], num_classes: int) -> nn.Sequential:
    """Five blocks each of widths 16, 32 and 64, Patrini's larger network on CIFAR; 0.47 M parameters for 10 classes.

    See :func:`preact_resnet14`.
    """
    return _narrow("preact_resnet32", input_shape, num_classes, depth=5)


def _narrow(name: str, input_shape: Sequence[int], num_classes: int, *, depth: int) -> nn.Sequential:
    net = nn.Sequential(
        nn.Conv2d(image_channels(name, input_shape), 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        *_blocks((16, 16, 32, 64), depth=depth, first_activates=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, num_classes),
    )
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return net


def _blocks(widths: Sequence[int], *, depth: int, first_activates: bool = True) -> list[_Block]:
    """``depth`` blocks of each width after the stem's, each width but the first at half the resolution of the last."""
    blocks: list[_Block] = []
    for inputs, outputs in pairwise(widths):
        stride = 1 if not blocks else 2
        blocks.append(_Block(inputs, outputs, stride, activates=first_activates or bool(blocks)))
        blocks += [_Block(outputs, outputs, 1) for _ in range(depth - 1)]
    return blocks
