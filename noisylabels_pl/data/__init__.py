"""Datasets, label noise, and batches that know the positions of their samples."""

from noisylabels_pl.data.arrays import Arrays
from noisylabels_pl.data.batch import Batch, Positions
from noisylabels_pl.data.datamodule import NoisyDataModule
from noisylabels_pl.data.datasets import (
    CIFAR10,
    MNIST,
    CelebALandmarks,
    Diabetes,
    Digits,
    FeatureData,
    HfDisk,
    ImageFolder,
    NpzData,
    NpzRegression,
    SyntheticRegression,
    TableData,
    TorchData,
)
from noisylabels_pl.data.indexed import IndexedDataset, IndexedLoader, indexed
from noisylabels_pl.data.noise import LabelNoise
from noisylabels_pl.data.noisy_labels import NoisyLabels
from noisylabels_pl.data.sampler import Selection, SelectionSampler

__all__ = [
    "CIFAR10",
    "MNIST",
    "Arrays",
    "Batch",
    "CelebALandmarks",
    "Diabetes",
    "Digits",
    "FeatureData",
    "HfDisk",
    "ImageFolder",
    "IndexedDataset",
    "IndexedLoader",
    "LabelNoise",
    "NoisyDataModule",
    "NoisyLabels",
    "NpzData",
    "NpzRegression",
    "Positions",
    "Selection",
    "SelectionSampler",
    "SyntheticRegression",
    "TableData",
    "TorchData",
    "indexed",
]
