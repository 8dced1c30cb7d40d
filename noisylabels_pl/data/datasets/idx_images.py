"""Gray images in the files of MNIST, read by torchvision."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from noisylabels_pl.data.arrays import Arrays
from noisylabels_pl.data.datamodule import NoisyDataModule
from noisylabels_pl.data.datasets.torchvision_files import read_torchvision

_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


class IdxImages(NoisyDataModule, ABC):
    """Read a dataset in the files of MNIST; a subclass names it.

    Args:
        root: the folder that holds ``NAME/raw/``.
        download: whether to download the files if they are not there.
        **common: see :class:`~noisylabels_pl.data.NoisyDataModule`.
    """

    torchvision_name: ClassVar[str]  # also of its folder
    class_names: ClassVar[Sequence[str]]
    asymmetric_map: ClassVar[Mapping[str, str]]
    mean_and_std: ClassVar[tuple[float, float]]  # of pixels in [0, 1]

    def __init__(self, root: str = "data", *, download: bool = False, **common: Any) -> None:
        super().__init__(**common)
        self.root = Path(root).expanduser()
        self.download = download

    def load(self) -> Arrays:
        files = [f"{self.torchvision_name}/raw/{file}" for file in _FILES]
        train, test = read_torchvision(self.torchvision_name, self.root, files, download=self.download)
        mean, std = self.mean_and_std
        return Arrays(
            x_train=train.data.unsqueeze(1),
            y_train=train.targets,
            x_test=test.data.unsqueeze(1),
            y_test=test.targets,
            class_names=tuple(self.class_names),
            mean=torch.tensor(255 * mean),
            std=torch.tensor(255 * std),
            origin=f"torchvision {self.root / self.torchvision_name / 'raw'}",
            asymmetric_map=dict(self.asymmetric_map),
            y_train_clean=train.targets,
        )
