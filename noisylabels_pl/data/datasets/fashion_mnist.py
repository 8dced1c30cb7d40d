"""Fashion-MNIST."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from noisylabels_pl.data.arrays import Arrays
from noisylabels_pl.data.datamodule import NoisyDataModule
from noisylabels_pl.data.datasets.torchvision_files import read_torchvision

CLASS_NAMES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
# "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels"
# (https://arxiv.org/abs/1805.07836), section 4.1.
ASYMMETRIC_MAP = {"boot": "sneaker", "sneaker": "sandal", "pullover": "shirt", "coat": "dress", "dress": "coat"}
FILES = [
    "FashionMNIST/raw/train-images-idx3-ubyte",
    "FashionMNIST/raw/train-labels-idx1-ubyte",
    "FashionMNIST/raw/t10k-images-idx3-ubyte",
    "FashionMNIST/raw/t10k-labels-idx1-ubyte",
]


class FashionMNIST(NoisyDataModule):
    """Serve Fashion-MNIST: 60,000 + 10,000 gray images of 28x28 pixels in 10 classes, read by torchvision.

    Args:
        root: the folder that holds ``FashionMNIST/raw/``.
        download: whether to download the files if they are not there.
        **common: see :class:`~noisylabels_pl.data.NoisyDataModule`.

    Raises:
        FileNotFoundError: in ``setup``, if a file is missing or damaged.

    Example:
        >>> data = FashionMNIST("data", download=True, flip=True)
        >>> data.setup()  # doctest: +SKIP
    """

    def __init__(self, root: str = "data", *, download: bool = False, **common: Any) -> None:
        super().__init__(**common)
        self.root = Path(root).expanduser()
        self.download = download

    def load(self) -> Arrays:
        train, test = read_torchvision("FashionMNIST", self.root, FILES, download=self.download)
        return Arrays(
            x_train=train.data.unsqueeze(1),
            y_train=train.targets,
            x_test=test.data.unsqueeze(1),
            y_test=test.targets,
            class_names=CLASS_NAMES,
            mean=torch.tensor(255 * 0.2860),
            std=torch.tensor(255 * 0.3530),
            origin=f"torchvision {self.root / 'FashionMNIST' / 'raw'}",
            asymmetric_map=ASYMMETRIC_MAP,
            y_train_clean=train.targets,
        )
