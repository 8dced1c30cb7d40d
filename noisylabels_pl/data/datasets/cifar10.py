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
# "Making Deep Neural Networks Robust to Label Noise" (https://arxiv.org/abs/1609.03683), section 5.
ASYMMETRIC_MAP = {"truck": "automobile", "bird": "airplane", "deer": "horse", "cat": "dog", "dog": "cat"}
FILES = [f"cifar-10-batches-py/data_batch_{number}" for number in range(1, 6)] + ["cifar-10-batches-py/test_batch"]


class CIFAR10(NoisyDataModule):
    """Serve CIFAR-10: 50,000 + 10,000 color images of 32x32 pixels in 10 classes.

    Args:
        root: the folder that holds ``cifar-10-batches-py/`` (torchvision's files), or else a ``cifar10.npz`` with
            ``x_train``, ``y_train``, ``x_test`` and ``y_test``. The result row says which of them was read.
        download: whether to download torchvision's files if neither is there.
        **common: see :class:`~noisylabels_pl.data.NoisyDataModule`.

    Raises:
        FileNotFoundError: in ``setup``, if there are no files.
        ValueError: in ``setup``, if the npz file does not hold CIFAR-10's images.

    Example:
        >>> data = CIFAR10("data", download=True, crop_padding=4, flip=True)
        >>> data.setup()  # doctest: +SKIP
    """

    def __init__(self, root: str = "data", *, download: bool = False, **common: Any) -> None:
        super().__init__(**common)
        self.root = Path(root).expanduser()
        self.download = download

    def load(self) -> Arrays:
        npz = self.root / "cifar10.npz"
        needs_npz = npz.is_file() and missing_files(self.root, FILES)  # torchvision's files go first
        arrays = self._read_npz(npz) if needs_npz else self._read_batches()
        y_train_clean = arrays.y_train_clean
        if y_train_clean is None:
            y_train_clean = arrays.y_train
        # These facts are the same for both sources.
        return replace(
            arrays,
            class_names=CLASS_NAMES,
            mean=255 * torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1),
            std=255 * torch.tensor([0.2023, 0.1994, 0.2010]).view(3, 1, 1),
            asymmetric_map=ASYMMETRIC_MAP,
            y_train_clean=y_train_clean,
        )

    def _read_npz(self, npz: Path) -> Arrays:
        """Return the images of an npz file, checked to be like CIFAR-10's."""
        arrays = read_npz(npz, argument="root", num_classes=len(CLASS_NAMES))
        sample_shape = tuple(arrays.x_train.shape[1:])
        if sample_shape != (3, 32, 32) or arrays.x_train.dtype != torch.uint8:
            raise ValueError(
                f"root: {npz}: x_train must be (n, 32, 32, 3) uint8, got samples of shape {sample_shape} and type "
                f"{arrays.x_train.dtype}; NpzData (data=npz) takes other images"
            )
        return arrays

    def _read_batches(self) -> Arrays:
        """Return the images of torchvision's files, with placeholders for mean and standard deviation."""
        alternative = " and no cifar10.npz"
        train, test = read_torchvision("CIFAR10", self.root, FILES, download=self.download, alternative=alternative)
        return Arrays(
            x_train=torch.from_numpy(train.data).permute(0, 3, 1, 2).contiguous(),
            y_train=torch.tensor(train.targets),
            x_test=torch.from_numpy(test.data).permute(0, 3, 1, 2).contiguous(),
            y_test=torch.tensor(test.targets),
            class_names=CLASS_NAMES,
            mean=torch.zeros(()),
            std=torch.ones(()),
            origin=f"torchvision {self.root / 'cifar-10-batches-py'}",
        )
