"""The diabetes study that comes with scikit-learn."""

from __future__ import annotations

import numpy as np
import torch

from noisylabels_pl.data.arrays import Arrays, regression_arrays
from noisylabels_pl.data.datamodule import NoisyDataModule


class Diabetes(NoisyDataModule):
    """Serve scikit-learn's diabetes study: 10 measurements of 442 patients and the progression after a year.

    A fixed fifth of the patients is the test set. No download is needed.

    Args:
        **common: see :class:`~noisylabels_pl.data.NoisyDataModule`.

    Example:
        >>> data = Diabetes(batch_size=32)
        >>> data.setup()
        >>> data.arrays.x_train.shape, data.arrays.y_train.shape
        (torch.Size([354, 10]), torch.Size([354, 1]))
    """

    def load(self) -> Arrays:
        from sklearn.datasets import load_diabetes

        features, targets = load_diabetes(return_X_y=True, scaled=False)
        x = torch.from_numpy(features).float()
        y = torch.from_numpy(targets).view(-1, 1)
        order = torch.from_numpy(np.random.default_rng(0).permutation(len(x)))
        test_size = len(x) // 5
        test_indices = order[:test_size].sort().values
        train_indices = order[test_size:].sort().values
        names, origin = ("progression",), "sklearn.datasets.load_diabetes"
        return regression_arrays(x, y, train_indices, test_indices, names=names, origin=origin)
