"""Samples and their targets as a dataset of torch."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from noisylabels_pl.data.resident import ResidentDataset, ResidentRows
from noisylabels_pl.data.samples import Samples


class LabeledSamples(Dataset[Any]):
    """Read whole batches of samples, restricted to the rows ``indices``.

    If the arrays are resident on a device, a batch holds row numbers instead of samples.
    """

    def __init__(self, x: Samples, y: Tensor, indices: Tensor, resident: ResidentDataset | None = None) -> None:
        self.x = x
        self.y = y
        self.indices = indices
        self.resident = resident

    def __len__(self) -> int:
        return len(self.indices)

    def __getitems__(self, positions: list[int]) -> tuple[Any, Any]:
        indices = self.indices[positions]
        if self.resident is not None:
            return ResidentRows(self.resident, indices), None
        return self.x[indices], self.y[indices]
