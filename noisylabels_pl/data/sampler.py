"""A sampler whose samples a callback may choose."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler


@dataclass(frozen=True)
class Selection:
    """The samples of an epoch.

    Attributes:
        indices: ``(k,)`` int64, positions in the training set.
        weights: ``(k,)`` float32, the factor of each sample's loss, mean 1; ``None`` for ones.
        partners: ``(k,)`` int64, the sample that each one is mixed with; ``None`` for none.
        partner_targets: ``(k, ...)``, the observed targets of the partners.
        lam: ``(k,)`` float32, each sample's own share in its mixture.
    """

    indices: Tensor
    weights: Tensor | None = None
    partners: Tensor | None = None
    lam: Tensor | None = None
    partner_targets: Tensor | None = None


class SelectionSampler(DistributedSampler[Any]):
    """Visits the selected samples, or all of them, each rank its share.

    It is a ``DistributedSampler`` so that Lightning leaves it alone, but reads rank and world size when it is iterated,
    so one object serves one process and many. The order follows from ``(seed, epoch)`` only. Rank ``r`` of ``w`` takes
    positions ``r, r + w, ...`` of it: batch ``b`` on all ranks together is batch ``b`` of one process with ``w`` times
    the batch size.

    Args:
        dataset: gives the number of samples.
        shuffle: whether to shuffle every epoch.
        seed: of the shuffle.
        pad: repeat the first samples until all ranks have equally many, as training needs. Without it, for evaluation,
            every sample is visited exactly once.
    """

    def __init__(self, dataset: Dataset[Any], *, shuffle: bool = True, seed: int = 0, pad: bool = True) -> None:
        super().__init__(dataset, num_replicas=1, rank=0, shuffle=shuffle, seed=seed)
        self.pad = pad
        self.selection: Selection | None = None

    def __len__(self) -> int:
        rank, world = rank_and_world_size()
        size = self._size()
        return math.ceil(size / world) if self.pad else len(range(rank, size, world))

    def __iter__(self) -> Iterator[Any]:
        rank, world = rank_and_world_size()
        size = self._size()
        order = torch.arange(size)
        if self.shuffle:
            # Not seed + epoch, which gives runs with neighboring seeds the same orders.
            order = torch.from_numpy(np.random.default_rng([self.seed, self.epoch]).permutation(size))
        if self.pad:
            order = order[torch.arange(math.ceil(size / world) * world) % size]
        order = order[rank::world]
        if self.selection is None:
            return iter(order.tolist())
        indices = self.selection.indices[order].tolist()
        if self.selection.partners is None:
            return iter(indices)
        return iter(list(zip(indices, self.selection.partners[order].tolist(), strict=True)))

    def _size(self) -> int:
        return len(self.dataset) if self.selection is None else len(self.selection.indices)  # type: ignore[arg-type]


def is_distributed() -> bool:
    """Return whether this process belongs to a group, even a group of one."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def rank_and_world_size() -> tuple[int, int]:
    """Return this process's rank and the number of processes."""
    return (torch.distributed.get_rank(), torch.distributed.get_world_size()) if is_distributed() else (0, 1)
