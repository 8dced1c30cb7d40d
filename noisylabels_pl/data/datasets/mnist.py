"""MNIST."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from noisylabels_pl.data.arrays import Arrays
from noisylabels_pl.data.datamodule import NoisyDataModule
from noisylabels_pl.data.datasets.torchvision_files import read_torchvision

# Patrini et al. 2017, section 5: the confusions of handwriting.
ASYMMETRIC_MAP = {"7": "1", "2": "7", "3": "8", "5": "6", "6": "5"}
FILES = [f"MNIST/raw/{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]


class MNIST(NoisyDataModule):
    """60,000 + 10,000 images of 28x28 pixels in 10 classes, read by torchvision.

    Args:
        root: folder that holds ``MNIST/raw/``.
        download: fetch the files if they are not there.
        **common: see :class:`NoisyDataModule`.
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
