"""Batches that carry the position of every sample, without changing what a training step sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler, default_collate
from torch.utils.data.distributed import DistributedSampler

from noisylabels_pl.data.sampler import SelectionSampler


@runtime_checkable
class _Movable(Protocol):
    def to(self, *args: Any, **kwargs: Any) -> Any: ...


@runtime_checkable
class _Pinnable(Protocol):
    def pin_memory(self) -> Any: ...


@dataclass(eq=False)
class Batch:
    """A mutable batch that unpacks as ``(x, y)`` and also knows ``index``.

    ``x, y = batch`` in a training step works unchanged; callbacks read ``batch.index``, the positions of the samples in
    the training set, and may set ``batch.x`` or ``batch.y`` before the step.

    Attributes:
        x: inputs.
        y: observed labels.
        index: ``(B,)`` int64.
        partner: a second batch, aligned with this one, when the sampler asked for pairs.
        kept: ``(B,)`` bool for each network, which samples the step trains it on, where a method chooses them within
            the batch; for whoever measures how clean they are.
    """

    # A dataclass, so that Lightning's precision plugins find the tensors.
    x: Any
    y: Any
    index: Tensor
    partner: Batch | None = None
    kept: tuple[Tensor, ...] | None = None

    def __iter__(self) -> Iterator[Any]:
        yield self.x
        yield self.y

    def __len__(self) -> int:
        return 2

    def __getitem__(self, item: int) -> Any:
        return (self.x, self.y)[item]

    def to(self, *args: Any, **kwargs: Any) -> Batch:
        """A copy on another device; Lightning moves batches by this method."""
        return self._map(_Movable, lambda value: value.to(*args, **kwargs))

    def pin_memory(self, device: str | None = None) -> Batch:
        """A copy in page-locked memory; ``DataLoader(pin_memory=True)`` calls this."""
        return self._map(_Pinnable, lambda value: value.pin_memory())

    def _map(self, kind: type, function: Callable[[Any], Any]) -> Batch:
        x, y, index = (apply_to_collection(value, kind, function) for value in (self.x, self.y, self.index))
        return Batch(x, y, index, None if self.partner is None else self.partner._map(kind, function))


class IndexedDataset(Dataset[Any]):
    """Reads whole batches of a dataset as :class:`Batch`.

    A key is a position, or a pair of positions where the second sample goes to ``Batch.partner``.
    """

    def __init__(self, dataset: Dataset[Any], collate_fn: Callable[[list[Any]], Any] = default_collate) -> None:
        self.dataset = dataset
        self.collate_fn = collate_fn

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitems__(self, keys: Sequence[int] | Sequence[tuple[int, int]]) -> Batch:
        if isinstance(keys[0], tuple):
            own, partners = zip(*keys, strict=True)
            batch = self._batch(own)
            batch.partner = self._batch(partners)
            return batch
        return self._batch(keys)  # type: ignore[arg-type]

    def _batch(self, indices: Sequence[int]) -> Batch:
        if hasattr(self.dataset, "__getitems__"):
            samples = self.dataset.__getitems__(list(indices))
        else:
            samples = [self.dataset[index] for index in indices]
        pair = self.collate_fn(samples)
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(
                f"indexed() needs batches of (x, y), the dataset and its collate_fn give {_describe(pair)}; "
                "return (x, y) and put several inputs into one tuple x"
            )
        return Batch(pair[0], pair[1], torch.tensor(indices))


def indexed(loader: DataLoader[Any], *, seed: int = 0) -> DataLoader[Any]:
    """The same loader with batches that know their samples' positions, as the callbacks of this library need.

    Args:
        loader: a training loader over a map-style dataset of ``(x, y)``. ``shuffle=True`` becomes a shuffle that
            follows from ``seed`` and the epoch; a sampler of your own is kept, and then no callback can choose samples.
        seed: seed of the shuffle.

    Raises:
        TypeError: the loader has an iterable dataset, a batch sampler of your own, or no batches at all.
    """
    if not isinstance(loader, DataLoader):
        raise TypeError(f"indexed() takes a torch DataLoader, got {type(loader).__name__}")
    if isinstance(loader.dataset, IndexedDataset):
        return loader
    if loader.batch_size is None or isinstance(loader.dataset, IterableDataset):
        raise TypeError(
            "indexed() needs a map-style dataset and a loader with batch_size: samples of an iterable dataset, or of a "
            "batch_sampler of your own, have no fixed position"
        )
    sampler: Any = loader.sampler
    if _visits_all_once(sampler):
        shuffle = type(sampler) is RandomSampler or getattr(sampler, "shuffle", False)
        sampler = SelectionSampler(loader.dataset, shuffle=shuffle, seed=seed)
    return like(loader, IndexedDataset(loader.dataset, loader.collate_fn), sampler, drop_last=loader.drop_last)


def _visits_all_once(sampler: Any) -> bool:
    """Whether it is one of torch's samplers that visit every sample once, which need not be kept."""
    if type(sampler) is RandomSampler:
        return not sampler.replacement and sampler.num_samples == len(sampler.data_source)
    return type(sampler) in (SequentialSampler, DistributedSampler)


class _IndexedLoader(DataLoader[Any]):
    """A loader whose worker processes start with its first batch, not with its iterator.

    After a resume Lightning makes the first iterator before it tells the sampler the epoch; workers that start reading
    at once would read the order of epoch 0.
    """

    def __iter__(self) -> Any:
        yield from super().__iter__()


def like(loader: DataLoader[Any], dataset: IndexedDataset, sampler: Any, *, drop_last: bool) -> DataLoader[Any]:
    """A loader of indexed batches with the batch size and the workers of another one."""
    return _IndexedLoader(
        dataset,
        batch_size=loader.batch_size,
        sampler=sampler,
        collate_fn=_identity,
        drop_last=drop_last,
        num_workers=loader.num_workers,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )


def _describe(batch: Any) -> str:
    size = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
    return f"a {type(batch).__name__}{size}"


def _identity(batch: Any) -> Any:
    return batch
