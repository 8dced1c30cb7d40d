"""The handwritten digits that come with scikit-learn."""

from __future__ import annotations

import numpy as np
import torch

from noisylabels_pl.data.arrays import Arrays
from noisylabels_pl.data.datamodule import NoisyDataModule
from noisylabels_pl.data.datasets.mnist import ASYMMETRIC_MAP
from noisylabels_pl.data.split import stratified_split


class Digits(NoisyDataModule):
    """Serve scikit-learn's handwritten digits: 1,797 images of 8x8 pixels in 10 classes.

    A fixed, stratified quarter of them is the test set. No download is needed.

    Args:
        **common: see :class:`~noisylabels_pl.data.NoisyDataModule`.

    Example:
        >>> data = Digits(train_size=200, batch_size=32)
        >>> data.setup()
        >>> data.input_shape, len(data.train_indices), len(data.arrays.y_test)
        ((1, 8, 8), 180, 449)
    """

    def load(self) -> Arrays:
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        x = torch.from_numpy(images.reshape(-1, 1, 8, 8)).to(torch.uint8)
        y = torch.from_numpy(labels).to(torch.int64)
        rng = np.random.default_rng(0)
        test_indices, train_indices = stratified_split(torch.arange(len(y)), y, len(y) // 4, rng)
        return Arrays(
            x_train=x[train_indices],
            y_train=y[train_indices],
            x_test=x[test_indices],
            y_test=y[test_indices],
            class_names=tuple("0123456789"),
            mean=torch.tensor(4.88),
            std=torch.tensor(6.02),
            origin="sklearn.datasets.load_digits",
            asymmetric_map=ASYMMETRIC_MAP,
            y_train_clean=y[train_indices],
        )
