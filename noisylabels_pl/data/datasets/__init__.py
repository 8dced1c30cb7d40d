"""The datasets, each in a file of its name."""

from noisylabels_pl.data.datasets.animal10n import Animal10N
from noisylabels_pl.data.datasets.celeba_landmarks import CelebALandmarks
from noisylabels_pl.data.datasets.cifar10 import CIFAR10
from noisylabels_pl.data.datasets.cifar100 import CIFAR100
from noisylabels_pl.data.datasets.clothing1m import Clothing1M
from noisylabels_pl.data.datasets.diabetes import Diabetes
from noisylabels_pl.data.datasets.digits import Digits
from noisylabels_pl.data.datasets.fashion_mnist import FashionMNIST
from noisylabels_pl.data.datasets.features import FeatureData
from noisylabels_pl.data.datasets.hf_disk import HfDisk
from noisylabels_pl.data.datasets.image_folder import ImageFolder
from noisylabels_pl.data.datasets.imdb import IMDB
from noisylabels_pl.data.datasets.mnist import MNIST
from noisylabels_pl.data.datasets.npz import NpzData, NpzRegression
from noisylabels_pl.data.datasets.synthetic_regression import SyntheticRegression
from noisylabels_pl.data.datasets.table import TableData
from noisylabels_pl.data.datasets.torch_data import TorchData
from noisylabels_pl.data.datasets.webvision import MiniWebVision

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "IMDB",
    "MNIST",
    "Animal10N",
    "CelebALandmarks",
    "Clothing1M",
    "Diabetes",
    "Digits",
    "FashionMNIST",
    "FeatureData",
    "HfDisk",
    "ImageFolder",
    "MiniWebVision",
    "NpzData",
    "NpzRegression",
    "SyntheticRegression",
    "TableData",
    "TorchData",
]
