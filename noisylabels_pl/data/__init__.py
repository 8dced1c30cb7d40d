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
    ImageFolder,
    NpzData,
    NpzRegression,
    SyntheticRegression,
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
    "MNIST",
    "AnnotatorNoise",
    "Arrays",
    "Batch",
    "CelebALandmarks",
    "ConfusionNoise",
    "Diabetes",
    "Digits",
    "FileNoise",
    "ImageFolder",
    "IndexedDataset",
    "IndexedLoader",
    "InstanceNoise",
    "LabelNoise",
    "Noise",
    "NoisyDataModule",
    "NoisyLabels",
    "NpzData",
    "NpzRegression",
    "Positions",
    "Selection",
    "SelectionSampler",
    "SyntheticRegression",
    "TwinNoise",
    "indexed",
]
