"""Batches and the positions of their samples in the training set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from noisylabels_pl.functional import mix


@runtime_checkable
class _Movable(Protocol):
    def to(self, *args: Any, **kwargs: Any) -> Any: ...


@runtime_checkable
class _Pinnable(Protocol):
    def pin_memory(self) -> Any: ...


@dataclass(eq=False)
class Positions:
    """The positions of a batch's samples in the training set, which travel beside the batch.

    Attributes:
        index: ``(B,)`` int64 positions; empty if the loader is not ``indexed``.
        partner: the positions of the samples that these are mixed with, if the sampler asked for pairs.
        partner_data: the batch of those samples, as the loader's ``collate_fn`` made it.
        kept: see :class:`Batch`.
    """

    index: Tensor
    partner: Positions | None = None
    partner_data: Any = None
    kept: tuple[Tensor, ...] | None = None

    def to(self, *args: Any, **kwargs: Any) -> Positions:
        """Return a copy on another device; ``partner_data`` stays where it is."""
        partner = None if self.partner is None else self.partner.to(*args, **kwargs)
        return Positions(self.index.to(*args, **kwargs), partner, self.partner_data)


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
        >>> import torch
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


Replaced = list[tuple[Tensor, Tensor]]
"""Tensors that were given other data for a training step, and their own data."""


def restore(replaced: Replaced) -> None:
    """Give tensors their own data back: a dataset may have handed out the tensors that it keeps."""
    for values, own_data in replaced:
        values.data = own_data
    replaced.clear()


def keep_samples(batch: Any, kept: Tensor, batch_size: int) -> Replaced:
    """Leave only some samples in a batch, whatever its structure.

    Every tensor with one row a sample keeps its identity and gets fewer rows, because the training step holds the batch
    already.

    Args:
        batch: any collection of tensors.
        kept: ``(k,)`` int64, rows to keep.
        batch_size: rows of the batch.

    Returns:
        The tensors that were cut, for :func:`restore`.

    Example:
        >>> import torch
        >>> batch = {"image": torch.rand(3, 2), "label": torch.tensor([4, 5, 6])}
        >>> replaced = keep_samples(batch, torch.tensor([0, 2]), 3)
        >>> batch["label"]
        tensor([4, 6])
        >>> restore(replaced)
        >>> batch["label"]
        tensor([4, 5, 6])
    """
    replaced: Replaced = []

    def cut_rows(values: Tensor) -> Tensor:
        if values.ndim and len(values) == batch_size:
            replaced.append((values, values.data))
            values.data = values.data[kept]
        return values

    apply_to_collection(batch, Tensor, cut_rows)
    return replaced


def is_one_hot(values: Tensor) -> bool:
    """Return whether each row is a one among zeros, as labels ``(B, C)`` are.

    Example:
        >>> import torch
        >>> is_one_hot(torch.eye(3)), is_one_hot(torch.full((2, 2), 0.5)), is_one_hot(torch.zeros(2, 2))
        (True, False, False)
    """
    is_zero_or_one = (values == 0) | (values == 1)
    return bool(values.ndim == 2 and is_zero_or_one.all() and (values.sum(1) == 1).all())


def mixable_tensors(batch: Any) -> list[Tensor]:
    """Return the floating-point tensors of a batch with several numbers a sample, but for one-hot labels."""
    found: list[Tensor] = []

    def add(values: Tensor) -> Tensor:
        has_several = values.is_floating_point() and values.ndim and values.numel() > len(values)
        if has_several and not is_one_hot(values):
            found.append(values)
        return values

    apply_to_collection(batch, Tensor, add)
    return found


def mix_samples(batch: Any, partners: Any, lam: Tensor) -> Replaced:
    """Mix the inputs of a batch with those of another one, whatever their structure.

    Inputs are the floating-point tensors with several numbers in each row, but for one-hot labels. They keep their
    identity and get other values, because the training step holds the batch already.

    Args:
        batch: any collection of tensors.
        partners: a collection of the same structure.
        lam: ``(B,)`` weight of each sample of ``batch``.

    Returns:
        The tensors that were mixed, for :func:`restore`.
    """
    replaced: Replaced = []
    for values, others in zip(mixable_tensors(batch), mixable_tensors(partners), strict=True):
        if len(values) == len(lam):
            replaced.append((values, values.data))
            values.data = mix(values, others, lam)
    return replaced
