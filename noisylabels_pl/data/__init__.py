"""Datasets, label noise, and batches that know the positions of their samples."""

from noisylabels_pl.data.arrays import Arrays
from noisylabels_pl.data.batch import Batch, Positions
from noisylabels_pl.data.datamodule import NoisyDataModule
from noisylabels_pl.data.datasets import (
    CIFAR10,
    CIFAR100,
    IMDB,
    MNIST,
    Animal10N,
    CelebALandmarks,
    Clothing1M,
    Diabetes,
    Digits,
    FashionMNIST,
    FeatureData,
    HfDisk,
    ImageFolder,
    MiniWebVision,
    NpzData,
    NpzRegression,
    SyntheticRegression,
    TableData,
    TorchData,
)
from noisylabels_pl.data.indexed import IndexedDataset, IndexedLoader, indexed
from noisylabels_pl.data.noise import (
    AnnotatorNoise,
    ConfusionNoise,
    FileNoise,
    InstanceNoise,
    LabelNoise,
    Noise,
    TwinNoise,
)
from noisylabels_pl.data.noisy_labels import NoisyLabels
from noisylabels_pl.data.sampler import Selection, SelectionSampler

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "IMDB",
    "MNIST",
    "Animal10N",
    "AnnotatorNoise",
    "Arrays",
    "Batch",
    "CelebALandmarks",
    "Clothing1M",
    "ConfusionNoise",
    "Diabetes",
    "Digits",
    "FashionMNIST",
    "FeatureData",
    "FileNoise",
    "HfDisk",
    "ImageFolder",
    "IndexedDataset",
    "IndexedLoader",
    "InstanceNoise",
    "LabelNoise",
    "MiniWebVision",
    "Noise",
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
    "TwinNoise",
    "indexed",
]
