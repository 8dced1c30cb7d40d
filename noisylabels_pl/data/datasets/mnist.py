"""MNIST."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from noisylabels_pl.data.arrays import Arrays
from noisylabels_pl.data.datamodule import NoisyDataModule
from noisylabels_pl.data.datasets.torchvision_files import read_torchvision

# The confusions of handwriting of "Making Deep Neural Networks Robust to Label Noise"
# (https://arxiv.org/abs/1609.03683), section 5.
ASYMMETRIC_MAP = {"7": "1", "2": "7", "3": "8", "5": "6", "6": "5"}
FILES = [
    "MNIST/raw/train-images-idx3-ubyte",
    "MNIST/raw/train-labels-idx1-ubyte",
    "MNIST/raw/t10k-images-idx3-ubyte",
    "MNIST/raw/t10k-labels-idx1-ubyte",
]


class MNIST(NoisyDataModule):
    """Serve MNIST: 60,000 + 10,000 gray images of 28x28 pixels in 10 classes, read by torchvision.

    Args:
        root: the folder that holds ``MNIST/raw/``.
        download: whether to download the files if they are not there.
        **common: see :class:`~noisylabels_pl.data.NoisyDataModule`.

    Raises:
        FileNotFoundError: in ``setup``, if a file is missing or damaged.

    Example:
        >>> data = MNIST("data", download=True, train_size=10_000)
        >>> data.setup()  # doctest: +SKIP
    """

    def __init__(self, root: str = "data", *, download: bool = False, **common: Any) -> None:
        super().__init__(**common)
        self.root = Path(root).expanduser()
        self.download = download

    def load(self) -> Arrays:
        train, test = read_torchvision("MNIST", self.root, FILES, download=self.download)
        return Arrays(
            x_train=train.data.unsqueeze(1),
            y_train=train.targets,
            x_test=test.data.unsqueeze(1),
            y_test=test.targets,
            class_names=tuple("0123456789"),
            mean=torch.tensor(255 * 0.1307),
            std=torch.tensor(255 * 0.3081),
            origin=f"torchvision {self.root / 'MNIST' / 'raw'}",
            asymmetric_map=ASYMMETRIC_MAP,
            y_train_clean=train.targets,
        )
