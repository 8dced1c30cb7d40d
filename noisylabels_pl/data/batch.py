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
    """A mutable batch that unpacks as ``(x, y)`` and also has the positions of its samples.

    ``x, y = batch`` in a training step works unchanged. Callbacks read ``batch.index`` and may set ``batch.x`` or
    ``batch.y`` before the step.

    Attributes:
        x: inputs ``(B, ...)``, or a tuple, list or dict of inputs.
        y: observed labels or targets ``(B, ...)``.
        index: ``(B,)`` int64 positions of the samples in the training set.
        partner: a second batch, aligned with this one, if the sampler asked for pairs.
        kept: one ``(B,)`` bool mask for each network: the samples of the batch that the step trains it on. A method
            that filters batches sets it, and :class:`~noisylabels_pl.callbacks.LabelQuality` reads it.

    Example:
        >>> batch = Batch(torch.zeros(2, 3), torch.tensor([1, 0]), index=torch.tensor([7, 4]))
        >>> x, y = batch
        >>> y, batch.index
        (tensor([1, 0]), tensor([7, 4]))
    """

    # A dataclass, because Lightning's precision plugins look for tensors in its fields.
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
        """Return a copy on another device; Lightning moves batches by this method."""
        return self._map(_Movable, lambda value: value.to(*args, **kwargs))

    def pin_memory(self, device: str | None = None) -> Batch:
        """Return a copy in page-locked memory; ``DataLoader(pin_memory=True)`` calls this method."""
        return self._map(_Pinnable, lambda value: value.pin_memory())

    def _map(self, kind: type, function: Callable[[Any], Any]) -> Batch:
        """Return a copy in which ``function`` was applied to everything of type ``kind``; ``kept`` is left out."""
        return Batch(
            x=apply_to_collection(self.x, kind, function),
            y=apply_to_collection(self.y, kind, function),
            index=apply_to_collection(self.index, kind, function),
            partner=None if self.partner is None else self.partner._map(kind, function),
        )


class IndexedDataset(Dataset[Any]):
    """Read whole batches of a dataset as :class:`Batch`.

    A key is a position, or a pair of positions; the second sample of a pair goes to ``Batch.partner``.

    Args:
        dataset: a map-style dataset of ``(x, y)``.
        collate_fn: makes a batch ``(x, y)`` of a list of samples.

    Raises:
        TypeError: on reading, if ``collate_fn`` does not return a pair.

    Example:
        >>> dataset = IndexedDataset([(torch.tensor([0.5]), 1), (torch.tensor([0.7]), 0)])
        >>> batch = dataset.__getitems__([(0, 1)])
        >>> batch.y, batch.partner.y
        (tensor([1]), tensor([0]))
    """

    def __init__(self, dataset: Dataset[Any], collate_fn: Callable[[list[Any]], Any] = default_collate) -> None:
        self.dataset = dataset
        self.collate_fn = collate_fn

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitems__(self, keys: Sequence[int] | Sequence[tuple[int, int]]) -> Batch:
        if not isinstance(keys[0], tuple):
            return self._read(keys)  # type: ignore[arg-type]
        indices, partner_indices = zip(*keys, strict=True)
        batch = self._read(indices)
        batch.partner = self._read(partner_indices)
        return batch

    def _read(self, indices: Sequence[int]) -> Batch:
        """Return the batch of the samples at these positions."""
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
    """Return the same loader with batches that have the positions of their samples.

    Callbacks of this library need these positions.

    Args:
        loader: a training loader over a map-style dataset of ``(x, y)``. ``shuffle=True`` becomes a shuffle that
            follows from ``seed`` and the epoch. A custom sampler is kept; callbacks cannot choose samples then.
        seed: the seed of the shuffle.

    Returns:
        A loader of :class:`Batch`; ``loader`` itself if it is indexed already.

    Raises:
        TypeError: ``loader`` is not a ``DataLoader``, or has an iterable dataset, a custom batch sampler, or no
            batch size.

    Example:
        >>> from torch.utils.data import TensorDataset
        >>> dataset = TensorDataset(torch.rand(5, 3), torch.tensor([0, 1, 1, 0, 1]))
        >>> loader = indexed(DataLoader(dataset, batch_size=2))
        >>> [batch.index.tolist() for batch in loader]
        [[0, 1], [2, 3], [4]]
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
    dataset = IndexedDataset(loader.dataset, loader.collate_fn)
    return rebuild_loader(loader, dataset, sampler, drop_last=loader.drop_last)


def _visits_all_once(sampler: Any) -> bool:
    """Return whether this is one of torch's own samplers that visit every sample once; it can be replaced."""
    if type(sampler) is RandomSampler:
        return not sampler.replacement and sampler.num_samples == len(sampler.data_source)
    return type(sampler) in (SequentialSampler, DistributedSampler)


class _IndexedLoader(DataLoader[Any]):
    """A loader whose worker processes start with its first batch, not with its iterator.

    After a resume Lightning makes the first iterator before it tells the sampler the epoch. Workers that start reading
    at once would read the order of epoch 0.
    """

    def __iter__(self) -> Any:
        yield from super().__iter__()


def rebuild_loader(
    loader: DataLoader[Any], dataset: IndexedDataset, sampler: Any, *, drop_last: bool
) -> DataLoader[Any]:
    """Return a loader over another dataset and sampler, with the batch size and the worker options of ``loader``.

    Args:
        loader: the loader whose options are copied.
        dataset: the indexed dataset to read.
        sampler: chooses the keys of the dataset.
        drop_last: whether to drop a last batch that is not full.

    Example:
        >>> loader = indexed(DataLoader([(torch.tensor(0.5), 1)] * 4, batch_size=3))
        >>> in_order = rebuild_loader(loader, loader.dataset, SequentialSampler(loader.dataset), drop_last=True)
        >>> [batch.index.tolist() for batch in in_order]
        [[0, 1, 2]]
    """
    return _IndexedLoader(
        dataset,
        batch_size=loader.batch_size,
        sampler=sampler,
        collate_fn=keep_collated,
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


def keep_collated(batch: Any) -> Any:
    """Return the batch unchanged: the ``collate_fn`` of loaders whose dataset returns whole batches.

    It is a function of this module, because worker processes that are spawned must be able to pickle it.

    Example:
        >>> keep_collated((1, 2))
        (1, 2)
    """
    return batch


def _describe(batch: Any) -> str:
    """Return the type, and for a tuple or list the length, in words."""
    size = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
    return f"a {type(batch).__name__}{size}"
