"""Metrics of learning with wrong labels, by hand."""

from __future__ import annotations

import pytest
import torch

from noisylabels_pl.metrics import Memorization


def test_memorization_by_hand() -> None:
    metric = Memorization()
    # Predicted, observed, clean: fitted, wrong and memorized, wrong and recovered; then wrong and neither, missed.
    metric.update(torch.tensor([0, 1, 2]), torch.tensor([0, 1, 1]), torch.tensor([0, 2, 2]))
    metric.update(torch.tensor([3, 1]), torch.tensor([1, 0]), torch.tensor([2, 0]))
    fractions = {name: float(value) for name, value in metric.compute().items()}
    assert fractions == {"clean_acc": 1 / 2, "memorized": pytest.approx(1 / 3), "recovered": pytest.approx(1 / 3)}


def test_fractions_of_no_samples_are_nan() -> None:
    metric = Memorization()
    metric.update(torch.tensor([0, 1]), torch.tensor([0, 0]), torch.tensor([0, 0]))
    fractions = metric.compute()
    assert fractions["clean_acc"] == 1 / 2
    assert fractions["memorized"].isnan()
    assert fractions["recovered"].isnan()
