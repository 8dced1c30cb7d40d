"""Batches and the positions of their samples in the training set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor


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
        index: ``(B,)`` int64 positions; ``None`` if the loader is not ``indexed``.
        partner: the positions of the samples that these are mixed with, if the sampler asked for pairs.
        partner_data: the batch of those samples, as the loader's ``collate_fn`` made it.
        kept: see :class:`Batch`.
    """

    index: Tensor | None
    partner: Positions | None = None
    partner_data: Any = None
    kept: tuple[Tensor, ...] | None = None

    def to(self, *args: Any, **kwargs: Any) -> Positions:
        """Return a copy on another device; ``partner_data`` stays where it is."""
        index = None if self.index is None else self.index.to(*args, **kwargs)
        partner = None if self.partner is None else self.partner.to(*args, **kwargs)
        return Positions(index, partner, self.partner_data)


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
