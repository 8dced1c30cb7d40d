"""ResNet-34 for 32x32 images."""

from __future__ import annotations

from noisylabels_pl.nets import resnet34_cifar
from tests.nets.sizes import check_size


def test_size() -> None:
    # Widely quoted for CIFAR's variant: 21.28 M.
    check_size(resnet34_cifar, (3, 32, 32), 10, 21_282_122)
