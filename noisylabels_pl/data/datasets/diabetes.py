"""The diabetes study that comes with scikit-learn."""

from __future__ import annotations

import numpy as np
import torch

from noisylabels_pl.data.arrays import Arrays, regression_arrays
from noisylabels_pl.data.datamodule import NoisyDataModule


class Diabetes(NoisyDataModule):
    """442 patients, 10 measurements, and how far the disease progressed in a year; a fixed fifth is the test set.

    It needs no download. Arguments: see :class:`NoisyDataModule`.
    """

    def load(self) -> Arrays:
        from sklearn.datasets import load_diabetes

        features, targets = load_diabetes(return_X_y=True, scaled=False)
        x, y = torch.from_numpy(features).float(), torch.from_numpy(targets).view(-1, 1)
        order = torch.from_numpy(np.random.default_rng(0).permutation(len(x)))
        test, train = order[: len(x) // 5].sort().values, order[len(x) // 5 :].sort().values
        return regression_arrays(x, y, train, test, names=("progression",), origin="sklearn.datasets.load_diabetes")
