"""ResNet-34 for 32x32 images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torchvision.models import resnet34

from noisylabels_pl.nets.shapes import image_channels


def resnet34_cifar(input_shape: Sequence[int], num_classes: int) -> nn.Module:
    """Return torchvision's ResNet-34 with a 3x3 stem of stride 1 and no pooling after the stem.

    The CIFAR network of Liu et al., "Early-Learning Regularization Prevents Memorization of Noisy Labels", NeurIPS
    2020, https://arxiv.org/abs/2007.00151, with torch's default weights in convolutions and in the linear head ``fc``.
    21.28 M parameters for 10 classes.

    Args:
        input_shape: ``(C, H, W)`` of one image.
        num_classes: the number of outputs.

    Raises:
        ValueError: samples are not images.

    Example:
        >>> import torch
        >>> net = resnet34_cifar((3, 32, 32), num_classes=10)
        >>> net(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    net: nn.Module = resnet34(num_classes=num_classes)
    net.conv1 = nn.Conv2d(image_channels("resnet34_cifar", input_shape), 64, 3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    # Replaces torchvision's Kaiming-normal weights of convolutions.
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()
    return net
