"""Loaders that know the positions of their samples."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler, default_collate
from torch.utils.data.distributed import DistributedSampler

from noisylabels_pl.data.batch import Batch, Positions
from noisylabels_pl.data.sampler import SelectionBatches, SelectionSampler

if TYPE_CHECKING:
    import lightning as L


@dataclass(eq=False)
class _Read:
    """What worker processes return: a batch as ``collate_fn`` made it, and its positions."""

    data: Any
    positions: Positions

    def pin_memory(self, device: str | None = None) -> _Read:
        """Return a copy in page-locked memory; ``DataLoader(pin_memory=True)`` calls this method."""
        return _Read(_pinned(self.data), self.positions)


class IndexedDataset(Dataset[Any]):
    """Reads whole batches of a dataset, and their positions.

    A key is a position, or a pair of positions; the second samples of pairs are the partners of the first ones. All
    other attributes are the dataset's.

    Args:
        dataset: a map-style dataset.
        collate_fn: makes a batch of a list of samples.
    """

    def __init__(self, dataset: Dataset[Any], collate_fn: Callable[[list[Any]], Any] = default_collate) -> None:
        self.dataset = dataset
        self.collate_fn = collate_fn

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "dataset":  # while it is being unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __getitems__(self, keys: Sequence[int] | Sequence[tuple[int, int]]) -> _Read:
        if not isinstance(keys[0], tuple):
            return _Read(self._read(keys), Positions(torch.tensor(keys)))  # type: ignore[arg-type]
        indices, partner_indices = zip(*keys, strict=True)
        partner = Positions(torch.tensor(partner_indices))
        positions = Positions(torch.tensor(indices), partner, self._read(partner_indices))
        return _Read(self._read(indices), positions)

    def _read(self, indices: Sequence[int]) -> Any:
        """Return the batch of the samples at these positions."""
        if hasattr(self.dataset, "__getitems__"):
            samples = self.dataset.__getitems__(list(indices))
        else:
            samples = [self.dataset[index] for index in indices]
        return self.collate_fn(samples)


class IndexedLoader(DataLoader[Any]):
    """A loader whose batches are those of another loader, and which knows the positions of their samples.

    Where a :class:`~noisylabels_pl.data.SelectionSampler` leaves one sample of a selection for the last batch, it joins
    the batch before, see ``SelectionBatches``.

    Worker processes start with the first batch, not with the iterator. After a resume Lightning makes the first
    iterator before it tells the sampler the epoch, and workers that start at once would read the order of epoch 0.

    A fit that is resumed in the middle of an epoch gets the rest of the epoch's batches: those that Lightning counts as
    trained are not read again. Lightning's count is asked, see :meth:`start_fit`, instead of counting here what was
    yielded, because a batch whose step was interrupted must come again.

    Args:
        *args: see :class:`torch.utils.data.DataLoader`.
        as_batches: yield a :class:`~noisylabels_pl.data.Batch` of ``(x, y)`` with the positions in it, instead of the
            batch as it is.
        **options: see :class:`torch.utils.data.DataLoader`.
    """

    def __init__(self, *args: Any, as_batches: bool = False, **options: Any) -> None:
        batches = options.get("batch_sampler")
        if isinstance(batches, SelectionBatches):  # Lightning replaces its sampler, as for overfit_batches
            options |= {"batch_sampler": None, "sampler": batches.sampler}
            options |= {"batch_size": batches.batch_size, "drop_last": batches.drop_last}
        super().__init__(*args, **options)
        self._batches: SelectionBatches | None = None
        if self.batch_size is not None:  # Lightning gives a batch sampler of its own to predict
            self._batches = SelectionBatches(self.sampler, self.batch_size, self.drop_last)
            # torch makes its own batch sampler of these arguments, and given one it would hide the batch size.
            object.__setattr__(self, "batch_sampler", self._batches)
        self.as_batches = as_batches
        self._trainer: L.Trainer | None = None  # from the start of a fit until its second epoch
        self._last_batch = -1  # the number of the last batch before that start, counted through all epochs
        self._is_resumed = False  # in the middle of an epoch that has not gone on yet
        # A queue for each iterator, of the batches that were yielded and not asked for.
        self._queues: list[deque[Positions]] = []
        self._taken: tuple[deque[Positions], tuple[int, int], Positions] | None = None

    def __iter__(self) -> Any:
        queue: deque[Positions] = deque()
        self._queues.append(queue)
        num_trained = self._num_trained_batches()
        if self._batches is not None:
            self._batches.num_skipped = num_trained
        try:
            # torch draws a seed for worker processes here, and did so before the epoch was interrupted.
            with torch.random.fork_rng(devices=[]) if num_trained else nullcontext():
                reads = super().__iter__()
            for read in reads:
                if self.as_batches:
                    yield _as_batch(read)
                else:
                    queue.append(read.positions)
                    yield read.data
        finally:
            self._queues = [other for other in self._queues if other is not queue]

    def positions(self, step: tuple[int, int], device: torch.device) -> Positions:
        """Return the positions of the next batch that was yielded; of the same one, if asked again for the same step.

        Args:
            step: epoch and number of the batch.
            device: of the positions.

        Raises:
            RuntimeError: no batch was yielded.
        """
        queue = self._queue_at(step)
        if self._taken is not None:
            taken_from, taken_at, positions = self._taken
            if taken_at == step and taken_from is queue:
                return positions
        if not queue:
            raise RuntimeError("the batch does not come from this loader; pass the indexed loader itself to fit()")
        positions = queue.popleft().to(device)
        self._taken = queue, step, positions
        return positions

    def start_fit(self, trainer: L.Trainer) -> None:
        """Forget the last batch of an earlier fit, and ask this one where it goes on.

        Args:
            trainer: of the fit.
        """
        self._taken = None
        self._trainer = trainer
        self._last_batch = trainer.fit_loop.total_batch_idx

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: Lightning saves its own count of batches. It warns of loaders without this method."""
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Learn that the fit is resumed in the middle of an epoch: Lightning calls this method then only."""
        self._is_resumed = True

    def _num_trained_batches(self) -> int:
        """Return the number of batches of this epoch that were trained before the fit was resumed."""
        if self._trainer is None:
            if self._is_resumed:
                rank_zero_warn(
                    "the fit is resumed in the middle of an epoch, whose batches start from the first one again: only "
                    "callbacks and modules of noisylabels_pl tell an indexed loader where to go on"
                )
            self._is_resumed = False
            return 0
        self._is_resumed = False
        if self._trainer.fit_loop.total_batch_idx != self._last_batch:  # the fit has gone on
            self._trainer = None
            return 0
        num_trained = self._trainer.fit_loop.batch_idx + 1
        # Until an epoch starts, Lightning has the count of the epoch before.
        return num_trained if num_trained < len(self) else 0

    def _queue_at(self, step: tuple[int, int]) -> deque[Positions] | None:
        """Return the queue of the iterator in use.

        It is that of the batch before, also where the user iterates over the loader during an epoch and keeps the
        iterator. In a new epoch it is the newest.
        """
        if self._taken is not None:
            queue, (epoch, batch_idx), _ = self._taken
            is_alive = any(other is queue for other in self._queues)
            if is_alive and step in ((epoch, batch_idx), (epoch, batch_idx + 1)):
                return queue
        return self._queues[-1] if self._queues else None

    def read_all(self, sampler: Any) -> Iterator[tuple[Any, Positions]]:
        """Iterate over the samples of another sampler; yield each batch as in training, and its positions.

        Args:
            sampler: of positions.
        """
        loader = rebuild_loader(self, self.dataset, sampler, drop_last=False, as_batches=False)
        for read in DataLoader.__iter__(loader):
            yield _as_batch(read) if self.as_batches else read.data, read.positions


def indexed(loader: DataLoader[Any], *, seed: int = 0, as_batches: bool = False) -> IndexedLoader:
    """Return the same loader, with positions of its samples for the callbacks of this library.

    The batches are the same; their positions travel beside them.

    Args:
        loader: a training loader over a map-style dataset. ``shuffle=True`` becomes a shuffle that follows from
            ``seed`` and the epoch. A custom sampler is kept; callbacks cannot choose samples then.
        seed: the seed of the shuffle.
        as_batches: yield a :class:`~noisylabels_pl.data.Batch`, which unpacks as ``(x, y)`` and has the positions in
            it.

    Raises:
        TypeError: ``loader`` is not a ``DataLoader``, or has an iterable dataset, a custom batch sampler, or no batch
            size.

    Example:
        >>> loader = indexed(DataLoader([(0.5, 1), (0.7, 0), (0.9, 1)], batch_size=2))
        >>> [targets.tolist() for _, targets in loader]
        [[1, 0], [1]]
    """
    if not isinstance(loader, DataLoader):
        raise TypeError(f"indexed() takes a torch DataLoader, got {type(loader).__name__}")
    if isinstance(loader, IndexedLoader):
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
    return rebuild_loader(loader, dataset, sampler, drop_last=loader.drop_last, as_batches=as_batches)


def rebuild_loader(
    loader: DataLoader[Any], dataset: Dataset[Any], sampler: Any, *, drop_last: bool, as_batches: bool
) -> IndexedLoader:
    """Return a loader over another dataset and sampler, with the batch size and the worker options of ``loader``.

    Args:
        loader: the loader whose options are copied.
        dataset: the indexed dataset to read.
        sampler: chooses the keys of the dataset.
        drop_last: whether to drop a last batch that is not full.
        as_batches: see :class:`IndexedLoader`.
    """
    return IndexedLoader(
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
        as_batches=as_batches,
    )


def keep_collated(batch: Any) -> Any:
    """Return the batch unchanged: the ``collate_fn`` of loaders whose dataset returns whole batches.

    It is a function of this module, because worker processes that are spawned must be able to pickle it.

    Example:
        >>> keep_collated((1, 2))
        (1, 2)
    """
    return batch


def _as_batch(read: _Read) -> Batch:
    pair = read.data
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        size = f" of {len(pair)}" if isinstance(pair, (tuple, list)) else ""
        raise TypeError(
            f"as_batches=True needs batches of (x, y), but collate_fn returns a {type(pair).__name__}{size}; "
            "return (x, y) and put several inputs into one tuple x"
        )
    positions = read.positions
    batch = Batch(pair[0], pair[1], positions.index)
    if positions.partner is not None:
        x, y = positions.partner_data
        batch.partner = Batch(x, y, positions.partner.index)
    return batch


def _visits_all_once(sampler: Any) -> bool:
    """Return whether this is one of torch's own samplers that visit every sample once; it can be replaced."""
    if type(sampler) is RandomSampler:
        return not sampler.replacement and sampler.num_samples == len(sampler.data_source)
    return type(sampler) in (SequentialSampler, DistributedSampler)


def _pinned(data: Any) -> Any:
    """Return the data in page-locked memory, whatever its structure."""
    if hasattr(data, "pin_memory") and not isinstance(data, Tensor):
        return data.pin_memory()
    return apply_to_collection(data, Tensor, lambda value: value.pin_memory())
