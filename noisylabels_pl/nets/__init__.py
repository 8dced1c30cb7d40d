"""Backbones: factories that take the shape of a sample and the number of classes."""

from noisylabels_pl.nets.mlp import mlp
from noisylabels_pl.nets.resnet_cifar import resnet32_cifar
from noisylabels_pl.nets.small_cnn import small_cnn

__all__ = ["mlp", "resnet32_cifar", "small_cnn"]
