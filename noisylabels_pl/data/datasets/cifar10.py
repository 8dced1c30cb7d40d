"""CIFAR-10."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from noisylabels_pl.data.arrays import Arrays
from noisylabels_pl.data.datamodule import NoisyDataModule
from noisylabels_pl.data.datasets.npz import read_npz
from noisylabels_pl.data.datasets.torchvision_files import missing_files, read_torchvision

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# Patrini et al. 2017, section 5.
ASYMMETRIC_MAP = {"truck": "automobile", "bird": "airplane", "deer": "horse", "cat": "dog", "dog": "cat"}
FILES = [f"cifar-10-batches-py/{name}" for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")]


class CIFAR10(NoisyDataModule):
    """50,000 + 10,000 images of 32x32 pixels in 10 classes.

    Args:
        root: folder that holds ``cifar-10-batches-py/`` (torchvision's), or else a ``cifar10.npz`` with ``x_train``,
            ``y_train``, ``x_test`` and ``y_test``. The result row says which one was read.
        download: fetch torchvision's files if neither is there.
        **common: see :class:`NoisyDataModule`.
    """

    def __init__(self, root: str = "data", *, download: bool = False, **common: Any) -> None:
        super().__init__(**common)
        self.root = Path(root).expanduser()
        self.download = download

    def load(self) -> Arrays:
        npz = self.root / "cifar10.npz"
        if npz.is_file() and missing_files(self.root, FILES):
            arrays = read_npz(npz, option="data.root", num_classes=len(CLASS_NAMES))
            if arrays.x_train.shape[1:] != (3, 32, 32) or arrays.x_train.dtype != torch.uint8:
                raise ValueError(
                    f"data.root: {npz}: x_train must be (n, 32, 32, 3) uint8, got samples of shape "
                    f"{tuple(arrays.x_train.shape[1:])} and type {arrays.x_train.dtype}; data=npz takes other images"
                )
        else:
            arrays = self._read_batches()
        return replace(
            arrays,
            class_names=CLASS_NAMES,
            mean=255 * torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1),
            std=255 * torch.tensor([0.2023, 0.1994, 0.2010]).view(3, 1, 1),
            asymmetric_map=ASYMMETRIC_MAP,
            y_train_clean=arrays.y_train if arrays.y_train_clean is None else arrays.y_train_clean,
        )

    def _read_batches(self) -> Arrays:
        alternative = " and no cifar10.npz"
        parts = read_torchvision("CIFAR10", self.root, FILES, download=self.download, alternative=alternative)
        x_train, x_test = (torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous() for part in parts)
        y_train, y_test = (torch.tensor(part.targets) for part in parts)
        origin = f"torchvision {self.root / 'cifar-10-batches-py'}"
        return Arrays(x_train, y_train, x_test, y_test, CLASS_NAMES, torch.zeros(()), torch.ones(()), origin)
