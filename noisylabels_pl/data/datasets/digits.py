"""The handwritten digits that come with scikit-learn."""

from __future__ import annotations

import numpy as np
import torch

from noisylabels_pl.data.arrays import Arrays
from noisylabels_pl.data.datamodule import NoisyDataModule, stratified_split
from noisylabels_pl.data.datasets.mnist import ASYMMETRIC_MAP


class Digits(NoisyDataModule):
    """1,797 images of 8x8 pixels in 10 classes; a fixed, stratified quarter of them is the test set.

    They need no download. Arguments: see :class:`NoisyDataModule`.
    """

    def load(self) -> Arrays:
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        x = torch.from_numpy(images.reshape(-1, 1, 8, 8)).to(torch.uint8)
        y = torch.from_numpy(labels).to(torch.int64)
        test, train = stratified_split(torch.arange(len(y)), y, len(y) // 4, np.random.default_rng(0))
        return Arrays(
            x_train=x[train],
            y_train=y[train],
            x_test=x[test],
            y_test=y[test],
            class_names=tuple("0123456789"),
            mean=torch.tensor(4.88),
            std=torch.tensor(6.02),
            origin="sklearn.datasets.load_digits",
            asymmetric_map=ASYMMETRIC_MAP,
            y_train_clean=y[train],
        )
