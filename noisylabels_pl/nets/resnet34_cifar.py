"""ResNet-34 for 32x32 images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torchvision.models import resnet34

from noisylabels_pl.nets.shapes import image_channels


def resnet34_cifar(input_shape: Sequence[int], num_classes: int) -> nn.Module:
    """Torchvision's ResNet-34 with a 3x3 stem of stride 1 and no pooling after it; 21.28 M parameters for 10 classes.

    The network of ELR on CIFAR, with torch's default weights of convolutions and of the linear head ``fc``.
    """
    net: nn.Module = resnet34(num_classes=num_classes)
    net.conv1 = nn.Conv2d(image_channels("resnet34_cifar", input_shape), 64, 3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()
    return net
