"""Epochs that hold at most so many samples of each class."""

from __future__ import annotations

import torch
from torch import Tensor


class ClassCap:
    """A limit to the number of samples of each class in an epoch.

    Args:
        labels: ``(n,)`` int64 observed labels of the training samples.
        max_per_class: the limit.

    Attributes:
        num_samples: the number of samples of an epoch.

    Example:
        >>> cap = ClassCap(torch.tensor([0, 0, 0, 1, 0]), max_per_class=2)
        >>> cap.num_samples, cap.first_of_each_class(torch.tensor([4, 3, 2, 1, 0]))
        (3, tensor([4, 3, 2]))
    """

    def __init__(self, labels: Tensor, max_per_class: int) -> None:
        self._labels = labels
        self._max_per_class = max_per_class
        self.num_samples = int(torch.bincount(labels).clamp(max=max_per_class).sum())

    def first_of_each_class(self, order: Tensor) -> Tensor:
        """Return the samples that come first among those of their class, as many as the limit allows.

        Args:
            order: ``(n,)`` int64, the positions of all samples in any order.

        Returns:
            ``(num_samples,)`` positions, in the same order.
        """
        labels = self._labels[order]
        by_class = labels.argsort(stable=True)  # keeps the order within each class
        class_sizes = torch.bincount(labels)
        class_starts = class_sizes.cumsum(0) - class_sizes
        rank_in_class = torch.arange(len(order)) - class_starts[labels[by_class]]
        chosen = by_class[rank_in_class < self._max_per_class]
        return order[chosen.sort().values]
