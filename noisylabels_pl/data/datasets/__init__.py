"""The datasets, each in a file of its name."""

from noisylabels_pl.data.datasets.celeba_landmarks import CelebALandmarks
from noisylabels_pl.data.datasets.cifar10 import CIFAR10
from noisylabels_pl.data.datasets.diabetes import Diabetes
from noisylabels_pl.data.datasets.digits import Digits
from noisylabels_pl.data.datasets.features import FeatureData
from noisylabels_pl.data.datasets.hf_disk import HfDisk
from noisylabels_pl.data.datasets.image_folder import ImageFolder
from noisylabels_pl.data.datasets.mnist import MNIST
from noisylabels_pl.data.datasets.npz import NpzData, NpzRegression
from noisylabels_pl.data.datasets.synthetic_regression import SyntheticRegression
from noisylabels_pl.data.datasets.table import TableData
from noisylabels_pl.data.datasets.torch_data import TorchData

__all__ = [
    "CIFAR10",
    "MNIST",
    "CelebALandmarks",
    "Diabetes",
    "Digits",
    "FeatureData",
    "HfDisk",
    "ImageFolder",
    "NpzData",
    "NpzRegression",
    "SyntheticRegression",
    "TableData",
    "TorchData",
]
