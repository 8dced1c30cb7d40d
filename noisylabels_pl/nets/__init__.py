"""Backbones: functions that make a network from the shape of a sample and the number of outputs."""

from noisylabels_pl.nets.cnn9 import cnn9, cnn9_gn
from noisylabels_pl.nets.mlp import mlp
from noisylabels_pl.nets.preact_resnet import preact_resnet14, preact_resnet18, preact_resnet32
from noisylabels_pl.nets.resnet34_cifar import resnet34_cifar
from noisylabels_pl.nets.resnet_cifar import resnet32_cifar
from noisylabels_pl.nets.small_cnn import small_cnn

__all__ = [
    "cnn9",
    "cnn9_gn",
    "mlp",
    "preact_resnet14",
    "preact_resnet18",
    "preact_resnet32",
    "resnet32_cifar",
    "resnet34_cifar",
    "small_cnn",
]
