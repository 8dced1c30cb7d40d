"""CIFAR-10."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noisylabels_pl.data.arrays import Arrays
from noisylabels_pl.data.datamodule import NoisyDataModule
from noisylabels_pl.data.npz import read_npz
from noisylabels_pl.data.vision_files import read_torchvision

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# Patrini et al. 2017, section 5.
ASYMMETRIC_MAP = {"truck": "automobile", "bird": "airplane", "deer": "horse", "cat": "dog", "dog": "cat"}


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
        self.root = Path(root)
        self.download = download

    def load(self) -> Arrays:
        x_train, y_train, x_test, y_test, origin = self._read()
        return Arrays(
            x_train=x_train,
            y_train=y_train,
            x_test=x_test,
            y_test=y_test,
            class_names=CLASS_NAMES,
            mean=255 * torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1),
            std=255 * torch.tensor([0.2023, 0.1994, 0.2010]).view(3, 1, 1),
            origin=origin,
            asymmetric_map=ASYMMETRIC_MAP,
        )

    def _read(self) -> tuple[Tensor, Tensor, Tensor, Tensor, str]:
        npz, batches = self.root / "cifar10.npz", self.root / "cifar-10-batches-py"
        if npz.is_file() and not batches.is_dir():
            arrays = read_npz(npz, num_classes=len(CLASS_NAMES))
            return arrays.x_train, arrays.y_train, arrays.x_test, arrays.y_test, f"npz {npz}"
        wanted = "cifar-10-batches-py/data_batch_1 and no cifar10.npz"
        train, test = read_torchvision("CIFAR10", self.root, wanted, download=self.download)
        images = [torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous() for part in (train, test)]
        labels = [torch.tensor(part.targets) for part in (train, test)]
        return images[0], labels[0], images[1], labels[1], f"torchvision {batches}"
