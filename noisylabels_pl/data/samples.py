"""Samples that are in memory, or read when a batch needs them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


class StoredSamples(ABC):
    """Samples outside of memory, such as image files; indexing reads some of them.

    They behave like the tensor that they stand for, where the data module needs it: ``shape``, ``dtype``, ``ndim``,
    ``len`` and indexing by a vector of positions.

    Args:
        shape: ``(n, ...)`` of all samples.
        dtype: of the samples.

    Attributes:
        is_fixed: whether reading a sample twice gives the same values. Only then can samples be kept in memory.
    """

    is_fixed = True

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self.shape = torch.Size(shape)
        self.dtype = dtype

    @property
    def ndim(self) -> int:
        """Return the number of dimensions, that of the samples included."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    @abstractmethod
    def __getitem__(self, indices: Tensor) -> Tensor:
        """Read the samples at these positions ``(B,)`` int64; return ``(B, ...)``."""

    @abstractmethod
    def update_digest(self, hasher: Any) -> None:
        """Add to a hash what tells these samples from others, without reading all of them."""


Samples = Tensor | StoredSamples
"""All samples of a training or test set, ``(n, ...)``."""


class SomeSamples(StoredSamples):
    """Some rows of other samples, in a given order.

    Args:
        samples: to choose from.
        indices: ``(k,)`` int64 positions.
    """

    def __init__(self, samples: StoredSamples, indices: Tensor) -> None:
        super().__init__((len(indices), *samples.shape[1:]), samples.dtype)
        self.samples = samples
        self.indices = indices
        self.is_fixed = samples.is_fixed

    def __getitem__(self, indices: Tensor) -> Tensor:
        return self.samples[self.indices[indices]]

    def update_digest(self, hasher: Any) -> None:
        self.samples.update_digest(hasher)
        hasher.update(self.indices.numpy().tobytes())


def take(samples: Samples, indices: Tensor) -> Samples:
    """Return some samples, in memory if the others are.

    Example:
        >>> take(torch.tensor([[5], [6], [7]]), torch.tensor([2, 0]))
        tensor([[7],
                [5]])
    """
    return samples[indices] if isinstance(samples, Tensor) else SomeSamples(samples, indices)


def read_in_chunks(samples: Samples, size: int = 4096) -> Iterator[Tensor]:
    """Yield all samples in order, at most ``size`` at once.

    Example:
        >>> [len(chunk) for chunk in read_in_chunks(torch.zeros(5, 2), size=2)]
        [2, 2, 1]
    """
    for start in range(0, len(samples), size):
        yield samples[torch.arange(start, min(start + size, len(samples)))]


def read_all(samples: Samples) -> Tensor:
    """Return all samples in memory.

    Example:
        >>> read_all(torch.zeros(5, 2)).shape
        torch.Size([5, 2])
    """
    if isinstance(samples, Tensor):
        return samples
    values = torch.empty(samples.shape, dtype=samples.dtype)
    start = 0
    for chunk in read_in_chunks(samples, size=256):
        values[start : start + len(chunk)] = chunk
        start += len(chunk)
    return values
