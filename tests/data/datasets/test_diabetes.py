"""The diabetes study; see test_regression.py for the promises of all regression datasets."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_diabetes

from tests.data.datasets.regression_data import made


def test_diabetes_is_that_of_scikit_learn() -> None:
    arrays = made("diabetes").arrays
    features, progression = load_diabetes(return_X_y=True, scaled=False)
    truth = {row.astype(np.float32).tobytes(): y for row, y in zip(features, progression, strict=True)}
    train, test = ([truth[row.numpy().tobytes()] for row in x] for x in (arrays.x_train, arrays.x_test))
    assert sorted([*train, *test]) == sorted(progression.tolist())
    for original, y in ((train, arrays.y_train), (test, arrays.y_test)):
        expected = (np.array(original) - np.mean(train)) / np.std(train)
        np.testing.assert_allclose(y[:, 0].numpy(), expected, atol=1e-5)
