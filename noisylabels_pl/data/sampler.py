"""A sampler whose samples a callback may choose."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, Dataset
from torch.utils.data.distributed import DistributedSampler

from noisylabels_pl.data.class_cap import ClassCap
from noisylabels_pl.functional import check_range


@dataclass(frozen=True)
class Selection:
    """The samples of an epoch.

    Attributes:
        indices: ``(k,)`` int64 positions in the training set.
        weights: ``(k,)`` float32 factors of the samples' losses, with mean 1; ``None`` for no weighting.
        partners: ``(k,)`` int64 positions of the samples to mix with; ``None`` for no mixing.
        partner_targets: ``(k, ...)`` observed targets of the samples to mix with.
        lam: ``(k,)`` float32 mixing coefficients: the weight of a sample in its mixture, ``1 - lam`` is the partner's.

    Example:
        >>> selection = Selection(torch.tensor([4, 7]), partners=torch.tensor([7, 4]), lam=torch.tensor([0.9, 0.6]))
        >>> len(selection.indices)
        2
    """

    indices: Tensor
    weights: Tensor | None = None
    partners: Tensor | None = None
    lam: Tensor | None = None
    partner_targets: Tensor | None = None


class SelectionSampler(DistributedSampler[Any]):
    """Visit the selected samples, or all of them, divided among the ranks.

    It is a ``DistributedSampler`` so that Lightning does not replace it, but it reads rank and world size when it is
    iterated, so one object serves one process and many. The order follows from ``(seed, epoch)`` only. Rank ``r`` of
    ``w`` takes the places ``r, r + w, ...`` of this order. So the batches ``b`` of all ranks together hold the samples
    that batch ``b`` of a single process with ``w`` times the batch size holds.

    Args:
        dataset: the dataset to sample from; only its length is used.
        shuffle: whether to shuffle every epoch.
        seed: the seed of the shuffle.
        pad: whether to repeat the first samples until all ranks have equally many, as training needs. Without padding,
            for evaluation, every sample is visited exactly once.
        class_cap: limits the samples of each class; which of them are visited follows from ``(seed, epoch)``. Without
            effect on a selection. ``None`` for no limit.

    Raises:
        ValueError: ``seed`` is negative or no whole number.

    Attributes:
        selection: the samples of the coming epoch, ``None`` for all. With partners, keys are pairs of positions.

    Example:
        >>> sampler = SelectionSampler(range(4), shuffle=False)
        >>> list(sampler)
        [0, 1, 2, 3]
        >>> sampler.selection = Selection(torch.tensor([1, 3]), partners=torch.tensor([0, 2]))
        >>> list(sampler)
        [(1, 0), (3, 2)]
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        *,
        shuffle: bool = True,
        seed: int = 0,
        pad: bool = True,
        class_cap: ClassCap | None = None,
    ) -> None:
        check_range("seed", seed, "[0, inf)", integer=True)
        super().__init__(dataset, num_replicas=1, rank=0, shuffle=shuffle, seed=seed)
        self.pad = pad
        self.class_cap = class_cap
        self.selection: Selection | None = None

    def __len__(self) -> int:
        rank, world_size = rank_and_world_size()
        size = self._epoch_size()
        if self.pad:
            return math.ceil(size / world_size)
        return len(range(rank, size, world_size))

    def __iter__(self) -> Iterator[Any]:
        order = self._order_of_this_rank()
        if self.selection is None:
            return iter(order.tolist())
        indices = self.selection.indices[order].tolist()
        if self.selection.partners is None:
            return iter(indices)
        partners = self.selection.partners[order].tolist()
        return iter(list(zip(indices, partners, strict=True)))

    def _order_of_this_rank(self) -> Tensor:
        """Return the positions, in the selection or in the dataset, that this rank visits in this epoch."""
        rank, world_size = rank_and_world_size()
        size = self._num_candidates()
        order = torch.arange(size)
        if self.shuffle:
            # Not seed + epoch, which would give runs with neighboring seeds the same orders.
            generator = np.random.default_rng([self.seed, self.epoch])
            order = torch.from_numpy(generator.permutation(size))
        if self.selection is None and self.class_cap is not None:
            order = self.class_cap.first_of_each_class(order)
        if self.pad:
            padded_size = math.ceil(len(order) / world_size) * world_size
            order = order[torch.arange(padded_size) % len(order)]
        return order[rank::world_size]

    def _epoch_size(self) -> int:
        """Return the number of samples that all ranks together visit in this epoch, without padding."""
        if self.selection is None and self.class_cap is not None:
            return self.class_cap.num_samples
        return self._num_candidates()

    def _num_candidates(self) -> int:
        """Return the number of samples of the selection, or of the dataset."""
        if self.selection is None:
            return len(self.dataset)  # type: ignore[arg-type]
        return len(self.selection.indices)


class SelectionBatches(BatchSampler):
    """Batches of a sampler, where one last sample of a selection joins the batch before it.

    Batch normalization has no statistics of a single sample, and a selection of changing size leaves one over sooner or
    later. All ranks get equally many samples, so they join them alike. Without a selection, with ``drop_last``, and of
    another sampler than a :class:`SelectionSampler`, the batches are those of torch.

    Args:
        sampler: of keys.
        batch_size: samples in a batch; of 1, all batches hold one sample.
        drop_last: whether to drop a last batch that is not full.

    Attributes:
        num_skipped: batches that a pass leaves out at its beginning.

    Example:
        >>> sampler = SelectionSampler(range(9), shuffle=False)
        >>> sampler.selection = Selection(torch.arange(5))
        >>> list(SelectionBatches(sampler, batch_size=2, drop_last=False))
        [[0, 1], [2, 3, 4]]
    """

    num_skipped = 0

    def __iter__(self) -> Iterator[list[Any]]:
        return islice(self._all_batches(), self.num_skipped, None)

    def _all_batches(self) -> Iterator[list[Any]]:
        batches = super().__iter__()
        joins_last = self._joins_last()
        for _ in range(len(self) - joins_last):
            yield next(batches)
        if joins_last:
            yield [*next(batches), *next(batches)]

    def __len__(self) -> int:
        return super().__len__() - self._joins_last()

    def _joins_last(self) -> bool:
        """Return True if the last batch would hold one sample."""
        sampler = self.sampler
        if not isinstance(sampler, SelectionSampler) or sampler.selection is None:
            return False
        if self.drop_last or self.batch_size == 1:
            return False
        return len(sampler) > self.batch_size and len(sampler) % self.batch_size == 1


def is_distributed() -> bool:
    """Return whether this process belongs to a process group, even to a group of one.

    Example:
        >>> is_distributed()
        False
    """
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def rank_and_world_size() -> tuple[int, int]:
    """Return the rank of this process and the number of processes.

    Example:
        >>> rank_and_world_size()
        (0, 1)
    """
    if not is_distributed():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()
