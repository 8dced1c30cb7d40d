"""Metrics of learning with wrong labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class Memorization(Metric):
    r"""Compute how often a network fits correct labels, memorizes wrong ones, and predicts the true label instead.

    For predicted classes :math:`\hat y`, observed labels :math:`\tilde y` and true labels :math:`y`,

    .. math::
        \text{clean\_acc} = P(\hat y = \tilde y \mid \tilde y = y), \qquad
        \text{memorized} = P(\hat y = \tilde y \mid \tilde y \ne y), \qquad
        \text{recovered} = P(\hat y = y \mid \tilde y \ne y)

    as fractions of the samples seen. These are the quantities of figure 1 of Liu et al., "Early-Learning
    Regularization Prevents Memorization of Noisy Labels", NeurIPS 2020, https://arxiv.org/abs/2007.00151.

    As input to ``forward`` and ``update`` the metric accepts the following input:

    - ``predictions`` (:class:`~torch.Tensor`): an int tensor of shape ``(B,)`` with predicted classes.
    - ``observed`` (:class:`~torch.Tensor`): an int tensor of shape ``(B,)`` with observed labels.
    - ``clean`` (:class:`~torch.Tensor`): an int tensor of shape ``(B,)`` with true labels.

    As output of ``forward`` and ``compute`` the metric returns a dictionary of scalar tensors ``clean_acc``,
    ``memorized`` and ``recovered``. A fraction of no samples is NaN.

    Args:
        **kwargs: additional keyword arguments of ``torchmetrics.Metric``.

    Example:
        >>> metric = Memorization()
        >>> clean = torch.tensor([0, 1, 2, 2])
        >>> observed = torch.tensor([0, 1, 1, 0])
        >>> metric.update(predictions=torch.tensor([0, 0, 1, 2]), observed=observed, clean=clean)
        >>> {name: value.item() for name, value in metric.compute().items()}
        {'clean_acc': 0.5, 'memorized': 0.5, 'recovered': 0.5}
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
        """Update the counts with predicted, observed and true classes, each ``(B,)``."""
        is_correct = observed == clean
        is_wrong = ~is_correct
        self.clean_correct += (is_correct & (predictions == observed)).sum()
        self.clean_total += is_correct.sum()
        self.wrong_memorized += (is_wrong & (predictions == observed)).sum()
        self.wrong_recovered += (is_wrong & (predictions == clean)).sum()
        self.wrong_total += is_wrong.sum()

    def compute(self) -> dict[str, Tensor]:
        """Return the three fractions."""
        return {
            "clean_acc": self.clean_correct / self.clean_total,
            "memorized": self.wrong_memorized / self.wrong_total,
            "recovered": self.wrong_recovered / self.wrong_total,
        }
