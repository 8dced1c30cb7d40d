"""Metrics of learning with wrong labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class Memorization(Metric):
    """What a network says of training samples, by whether their observed label is right.

    ``compute`` returns the shares ``clean_acc`` (of the rightly labeled samples, those predicted as labeled),
    ``memorized`` (of the wrongly labeled ones, those predicted as labeled) and ``recovered`` (of the wrongly labeled
    ones, those predicted as what they truly are). A share of nothing is NaN.

    Args:
        **kwargs: see ``torchmetrics.Metric``.
    """

    full_state_update = False
    clean_correct: Tensor
    clean_total: Tensor
    wrong_memorized: Tensor
    wrong_recovered: Tensor
    wrong_total: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("clean_correct", "clean_total", "wrong_memorized", "wrong_recovered", "wrong_total"):
            self.add_state(name, default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, predictions: Tensor, observed: Tensor, clean: Tensor) -> None:
        """Add predicted, observed and true classes, each ``(B,)``."""
        right = observed == clean
        self.clean_correct += (right & (predictions == observed)).sum()
        self.clean_total += right.sum()
        self.wrong_memorized += (~right & (predictions == observed)).sum()
        self.wrong_recovered += (~right & (predictions == clean)).sum()
        self.wrong_total += (~right).sum()

    def compute(self) -> dict[str, Tensor]:
        return {
            "clean_acc": self.clean_correct / self.clean_total,
            "memorized": self.wrong_memorized / self.wrong_total,
            "recovered": self.wrong_recovered / self.wrong_total,
        }
