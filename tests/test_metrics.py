"""Metrics of learning with wrong labels."""

from __future__ import annotations

import pytest
import torch

from noisylabels_pl.metrics import Memorization


def test_memorization_by_hand() -> None:
    metric = Memorization()
    # predicted, observed, clean: right, wrong and memorized, wrong and recovered, wrong and neither, right but missed
    metric.update(torch.tensor([0, 1, 2]), torch.tensor([0, 1, 1]), torch.tensor([0, 2, 2]))
    metric.update(torch.tensor([3, 1]), torch.tensor([1, 0]), torch.tensor([2, 0]))
    shares = {name: float(value) for name, value in metric.compute().items()}
    assert shares == {"clean_acc": 1 / 2, "memorized": pytest.approx(1 / 3), "recovered": pytest.approx(1 / 3)}
