"""Pre-activation residual networks for small images.

He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016, https://arxiv.org/abs/1603.05027.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from noisylabels_pl.nets.shapes import image_channels


class _Block(nn.Module):
    """Batch norm and ReLU before each of two 3x3 convolutions; a 1x1 convolution as shortcut where shapes change.

    The shortcut starts at the block's input, or with ``shortcut_after_relu`` behind the first norm and ReLU. With
    ``activates=False`` this norm and ReLU are left out, because the input is activated already.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, *, shortcut_after_relu: bool, activates: bool = True
    ) -> None:
        super().__init__()
        self.shortcut_after_relu = shortcut_after_relu
        self.bn1 = nn.BatchNorm2d(in_channels) if activates else None
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = x if self.bn1 is None else torch.relu(self.bn1(x))
        shortcut = activated if self.shortcut_after_relu else x
        if self.shortcut is not None:
            shortcut = self.shortcut(shortcut)
        hidden = torch.relu(self.bn2(self.conv1(activated)))
        out: Tensor = self.conv2(hidden) + shortcut
        return out


def preact_resnet18(input_shape: Sequence[int], num_classes: int) -> nn.Sequential:
    """Return a pre-activation ResNet-18: widths 64 to 512, two blocks each, and a linear head.

    As in the public code of ELR+ (https://arxiv.org/abs/2007.00151) and DivideMix (https://arxiv.org/abs/2002.07394),
    the 3x3 stem is activated, no norm precedes the pooling, and every shortcut starts behind the first norm and ReLU of
    its block, also where it is the identity. (In He et al. the identity starts at the block's input.) 11.17 M
    parameters for 10 classes. The last module is the linear head.

    Args:
        input_shape: ``(C, H, W)`` of one image.
        num_classes: the number of outputs.

    Raises:
        ValueError: samples are not images.

    Example:
        >>> net = preact_resnet18((3, 32, 32), num_classes=10)
        >>> net(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    conv = nn.Conv2d(image_channels("preact_resnet18", input_shape), 64, 3, padding=1, bias=False)
    stem = nn.Sequential(conv, nn.BatchNorm2d(64), nn.ReLU())
    blocks = _blocks((64, 64, 128, 256, 512), depth=2, shortcut_after_relu=True)
    return nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, num_classes))


def preact_resnet14(input_shape: Sequence[int], num_classes: int) -> nn.Sequential:
    """Return a pre-activation ResNet-14: widths 16, 32 and 64, two blocks each, and a linear head.

    The smaller CIFAR network of Patrini et al., "Making Deep Neural Networks Robust to Label Noise: a Loss Correction
    Approach", CVPR 2017, https://arxiv.org/abs/1609.03683, as in its public code: the stem is activated, so the first
    block does not activate its input; every shortcut starts at the block's input, also where it is a convolution; the
    weights of convolutions and head are He-normal. Two differences remain. That code is Keras, whose norms add 1e-3 to
    the variance and average it with momentum 0.99 (here 1e-5 and 0.9). Its convolutions have biases, but the norms that
    follow cancel them. 0.18 M parameters for 10 classes. The last module is the linear head.

    Args:
        input_shape: ``(C, H, W)`` of one image.
        num_classes: the number of outputs.

    Raises:
        ValueError: samples are not images.

    Example:
        >>> net = preact_resnet14((3, 32, 32), num_classes=10)
        >>> net(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    return _narrow_resnet("preact_resnet14", input_shape, num_classes, depth=2)


def preact_resnet32(input_shape: Sequence[int], num_classes: int) -> nn.Sequential:
    """Return a pre-activation ResNet-32: widths 16, 32 and 64, five blocks each, and a linear head.

    The larger CIFAR network of Patrini et al.; see :func:`preact_resnet14`. 0.47 M parameters for 10 classes.

    Args:
        input_shape: ``(C, H, W)`` of one image.
        num_classes: the number of outputs.

    Raises:
        ValueError: samples are not images.

    Example:
        >>> net = preact_resnet32((3, 32, 32), num_classes=10)
        >>> net(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    return _narrow_resnet("preact_resnet32", input_shape, num_classes, depth=5)


def preact_resnet44(input_shape: Sequence[int], num_classes: int) -> nn.Sequential:
    """Return a pre-activation ResNet-44: widths 16, 32 and 64, seven blocks each, and a linear head.

    The CIFAR-100 network of Patrini et al.; see :func:`preact_resnet14`. 0.66 M parameters for 10 classes.

    Args:
        input_shape: ``(C, H, W)`` of one image.
        num_classes: the number of outputs.

    Raises:
        ValueError: samples are not images.

    Example:
        >>> net = preact_resnet44((3, 32, 32), num_classes=100)
        >>> net(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 100])
    """
    return _narrow_resnet("preact_resnet44", input_shape, num_classes, depth=7)


def preact_resnet110(input_shape: Sequence[int], num_classes: int) -> nn.Sequential:
    """Return a pre-activation ResNet-110: widths 16, 32 and 64, eighteen blocks each, and a linear head.

    The deepest CIFAR network with basic blocks of He et al.; see :func:`preact_resnet14` for the blocks. 1.73 M
    parameters for 10 classes.

    Args:
        input_shape: ``(C, H, W)`` of one image.
        num_classes: the number of outputs.

    Raises:
        ValueError: samples are not images.

    Example:
        >>> net = preact_resnet110((3, 32, 32), num_classes=10)
        >>> net(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    return _narrow_resnet("preact_resnet110", input_shape, num_classes, depth=18)


def _narrow_resnet(name: str, input_shape: Sequence[int], num_classes: int, *, depth: int) -> nn.Sequential:
    """Return a network of widths 16, 32 and 64 with ``depth`` blocks each."""
    net = nn.Sequential(
        nn.Conv2d(image_channels(name, input_shape), 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        *_blocks((16, 16, 32, 64), depth=depth, shortcut_after_relu=False, first_activates=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, num_classes),
    )
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)
    return net


def _blocks(
    widths: Sequence[int], *, depth: int, shortcut_after_relu: bool, first_activates: bool = True
) -> list[_Block]:
    """Return ``depth`` blocks of each width after the stem's; all widths but the first halve the resolution."""
    blocks: list[_Block] = []
    for in_channels, out_channels in pairwise(widths):
        is_first = not blocks
        stride = 1 if is_first else 2
        activates = first_activates or not is_first
        blocks.append(
            _Block(in_channels, out_channels, stride, shortcut_after_relu=shortcut_after_relu, activates=activates)
        )
        for _ in range(depth - 1):
            blocks.append(_Block(out_channels, out_channels, 1, shortcut_after_relu=shortcut_after_relu))
    return blocks
