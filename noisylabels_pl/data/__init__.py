"""Datasets, label noise, and batches that know their samples' positions."""

from noisylabels_pl.data.arrays import Arrays
from noisylabels_pl.data.batch import Batch, IndexedDataset, indexed
from noisylabels_pl.data.celeba import CelebALandmarks
from noisylabels_pl.data.cifar10 import CIFAR10
from noisylabels_pl.data.datamodule import NoisyDataModule
from noisylabels_pl.data.diabetes import Diabetes
from noisylabels_pl.data.digits import Digits
from noisylabels_pl.data.mnist import MNIST
from noisylabels_pl.data.noise import LabelNoise
from noisylabels_pl.data.noisy_labels import NoisyLabels
from noisylabels_pl.data.npz import NpzData, NpzRegression
from noisylabels_pl.data.sampler import Selection, SelectionSampler
from noisylabels_pl.data.scoring import Scores, score, scoring_pass, training_loader
from noisylabels_pl.data.synthetic import SyntheticRegression

__all__ = [
    "CIFAR10",
    "MNIST",
    "Arrays",
    "Batch",
    "CelebALandmarks",
    "Diabetes",
    "Digits",
    "IndexedDataset",
    "LabelNoise",
    "NoisyDataModule",
    "NoisyLabels",
    "NpzData",
    "NpzRegression",
    "Scores",
    "Selection",
    "SelectionSampler",
    "SyntheticRegression",
    "indexed",
    "score",
    "scoring_pass",
    "training_loader",
]
