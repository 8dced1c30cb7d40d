"""Measures against the true labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from noisylabels_pl.callbacks import History, LabelQuality

Make = Callable[..., Any]


def test_label_quality_against_its_definition(digits: Make, classifier: Make, make_trainer: Make) -> None:
    datamodule, module, kept = digits(), classifier(), History()
    observed, clean = datamodule.labels.observed[datamodule.train_indices], datamodule.clean_targets
    make_trainer(LabelQuality(clean, observed), kept, max_epochs=3).fit(module, datamodule=datamodule)
    x = datamodule.arrays.x_train[datamodule.train_indices].float()
    predicted = module((x - datamodule.arrays.mean) / datamodule.arrays.std).argmax(1)
    wrong = observed != clean
    expected = {
        "train/clean_acc": (predicted == clean)[~wrong].double().mean(),
        "train/memorized": (predicted == observed)[wrong].double().mean(),
        "train/recovered": (predicted == clean)[wrong].double().mean(),
    }
    for name, value in expected.items():
        assert kept.rows[-1][name] == pytest.approx(float(value))
    assert "selection/precision" not in kept.rows[-1]


def test_label_quality_on_a_subset(digits: Make, classifier: Make, make_trainer: Make) -> None:
    datamodule = digits()
    observed = datamodule.labels.observed[datamodule.train_indices]
    quality = LabelQuality(datamodule.clean_targets, observed, max_samples=50)
    assert len(quality.measured_indices.unique()) == 50
    kept = History()
    make_trainer(quality, kept, max_epochs=1).fit(classifier(), datamodule=datamodule)
    right = int(quality.is_clean[quality.measured_indices].sum())
    assert kept.rows[0]["train/clean_acc"] * right == pytest.approx(round(kept.rows[0]["train/clean_acc"] * right))
