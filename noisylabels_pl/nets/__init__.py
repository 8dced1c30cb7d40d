"""Backbones: functions that make a network from the shape of a sample and the number of outputs."""

from noisylabels_pl.nets.cnn8 import cnn8
from noisylabels_pl.nets.cnn9 import cnn9, cnn9_gn
from noisylabels_pl.nets.hf_net import hf_net
from noisylabels_pl.nets.mlp import mlp
from noisylabels_pl.nets.preact_resnet import (
    preact_resnet14,
    preact_resnet18,
    preact_resnet32,
    preact_resnet44,
    preact_resnet110,
)
from noisylabels_pl.nets.resnet34_cifar import resnet34_cifar
from noisylabels_pl.nets.resnet_cifar import resnet32_cifar
from noisylabels_pl.nets.small_cnn import small_cnn
from noisylabels_pl.nets.text import embedding_flat, embedding_lstm, embedding_mean
from noisylabels_pl.nets.timm_net import timm_net
from noisylabels_pl.nets.torchvision_net import torchvision_net
from noisylabels_pl.nets.weights import load_weights
from noisylabels_pl.nets.wide_resnet import wide_resnet

__all__ = [
    "cnn8",
    "cnn9",
    "cnn9_gn",
    "embedding_flat",
    "embedding_lstm",
    "embedding_mean",
    "hf_net",
    "load_weights",
    "mlp",
    "preact_resnet14",
    "preact_resnet18",
    "preact_resnet32",
    "preact_resnet44",
    "preact_resnet110",
    "resnet32_cifar",
    "resnet34_cifar",
    "small_cnn",
    "timm_net",
    "torchvision_net",
    "wide_resnet",
]
