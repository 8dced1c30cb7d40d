"""The generated problem; see test_regression.py for the promises of all regression datasets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from noisylabels_pl.data import SyntheticRegression
from tests.data.datasets.regression_data import SAMPLES, made


def test_synthetic_data_does_not_depend_on_the_global_generator() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = made("synthetic").arrays.digest()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert made("synthetic").arrays.digest() == one


def ridge_r2(**options: Any) -> float:
    data = SyntheticRegression(num_samples=2000, **options)
    data.setup()
    arrays = data.arrays
    x_train, x_test = ((x - arrays.mean) / arrays.std for x in (arrays.x_train, arrays.x_test))
    ridge = Ridge(alpha=300.0).fit(x_train.numpy(), arrays.y_train.numpy())
    return float(r2_score(arrays.y_test.numpy(), ridge.predict(x_test.numpy())))


def test_features_predict_the_predictable_part_of_the_targets() -> None:
    plain, default, half = ridge_r2(unpredictable=0.0), ridge_r2(), ridge_r2(unpredictable=0.5)
    assert plain > 0.7
    assert plain > default > half
    assert 0.6 < default < 0.92
    assert 0.2 < half < 0.52
    assert plain - half > 0.25


def test_no_target_is_a_copy_of_another() -> None:
    arrays = made("synthetic").arrays
    correlations = torch.corrcoef(arrays.y_train.T).fill_diagonal_(0)
    assert correlations.abs().max() < 0.95


def test_options_change_the_data() -> None:
    digests = {
        SyntheticRegression(num_samples=50, **options).load().digest()
        for options in ({}, {"num_causes": 5}, {"unpredictable": 0.3})
    }
    assert len(digests) == 3


def test_few_causes_leave_little_in_the_features() -> None:
    x = SyntheticRegression(num_samples=SAMPLES, num_causes=2).load().x_train
    spectrum = torch.linalg.svdvals(x - x.mean(0)).square()
    assert spectrum[:10].sum() / spectrum.sum() > 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 3}, r"^num_samples must lie in \[10, inf\), got 3"),
        ({"num_samples": -1}, r"^num_samples must lie in \[10, inf\), got -1"),
        ({"num_causes": 0}, r"^num_causes must lie in \[1, inf\), got 0"),
        ({"unpredictable": 1.0}, r"unpredictable must lie in \[0, 1\), got 1\.0"),
        ({"unpredictable": -0.1}, r"unpredictable must lie in \[0, 1\), got -0\.1"),
        ({"unpredictable": float("nan")}, r"unpredictable must lie in \[0, 1\), got nan"),
        ({"val_fraction": 1.0}, r"val_fraction must lie in \[0, 1\), got 1"),
        ({"train_size": 0}, r"^train_size must lie in \[1, inf\), got 0"),
    ],
)
def test_arguments_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SyntheticRegression(**options)
