"""Datasets held on the training device, so that batches are cut out of them there."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from torch import Tensor

from noisylabels_pl.data.augment import Augmentation, PaddedImages
from noisylabels_pl.data.samples import Samples, read_all
from noisylabels_pl.memory import free_memory

_log = logging.getLogger(__name__)
# "auto" takes at most this fraction of the free memory, because network, gradients and activations come later.
_MAX_FRACTION = 0.25


class ResidentDataset:
    """Hold samples and their targets on one device.

    Args:
        x: ``(n, ...)`` samples, on the CPU or still to be read.
        y: ``(n, ...)`` targets, on the CPU.
        device: the device to hold them on.
        padding: the padding of :class:`~noisylabels_pl.data.augment.PaddedImages`; ``None`` if the samples are never
            cropped or flipped.
        crop_size: as for :class:`~noisylabels_pl.data.augment.PaddedImages`; needs a padding.

    Example:
        >>> dataset = ResidentDataset(torch.arange(6.0).view(3, 2), torch.tensor([0, 1, 2]), torch.device("cpu"), None)
        >>> dataset.gather(torch.tensor([2, 0]))
        (tensor([[4., 5.],
                [0., 1.]]), tensor([2, 0]))
    """

    def __init__(
        self, x: Samples, y: Tensor, device: torch.device, padding: int | None, crop_size: int | None = None
    ) -> None:
        x = read_all(x).to(device)
        self.x: Tensor | PaddedImages = x
        if padding is not None:
            self.x = PaddedImages(x, padding, crop_size)
        self.y = y.to(device)

    @staticmethod
    def num_bytes(x: Samples, y: Tensor, padding: int | None) -> int:
        """Return the number of bytes that a dataset of these samples and targets takes on the device."""
        shape = x.shape if padding is None else PaddedImages.stored_shape(x, padding)
        return math.prod(shape) * x.dtype.itemsize + y.numel() * y.element_size()

    def gather(self, indices: Tensor, augmentation: Augmentation | None = None) -> tuple[Tensor, Tensor]:
        """Return the samples in the rows ``indices`` ``(B,)``, augmented if asked, and their targets."""
        if isinstance(self.x, PaddedImages):
            return self.x.gather(indices, augmentation), self.y[indices]
        return self.x[indices], self.y[indices]


class ResidentRows:
    """Stand in for the samples of a batch: a resident dataset and the batch's rows of it.

    Args:
        dataset: the dataset on the device.
        indices: ``(B,)`` int64 rows of the dataset.
    """

    # Not a dataclass, because Lightning's precision plugins would copy its fields.
    def __init__(self, dataset: ResidentDataset, indices: Tensor) -> None:
        self.dataset = dataset
        self.indices = indices

    def to(self, *args: Any, **kwargs: Any) -> ResidentRows:
        """Return a copy whose indices are on another device; Lightning moves batches by this method."""
        return ResidentRows(self.dataset, self.indices.to(*args, **kwargs))

    def gather(self, augmentation: Augmentation | None = None) -> tuple[Tensor, Tensor]:
        """Return the samples, augmented if asked, and their targets, on the dataset's device."""
        return self.dataset.gather(self.indices, augmentation)


def fits_on_device(num_bytes: int, device: torch.device) -> bool:
    """Return whether ``num_bytes`` are at most a quarter of the free memory of the device.

    Args:
        num_bytes: the size of the dataset.
        device: the device to hold it on.

    Returns:
        False if the free memory is unknown.

    Example:
        >>> fits_on_device(100, torch.device("meta"))
        False
    """
    free = free_memory(device)
    free_text = "unknown" if free is None else f"{free >> 20} MiB"
    _log.debug("%d MiB of data, %s free on %s", num_bytes >> 20, free_text, device)
    return free is not None and num_bytes <= _MAX_FRACTION * free
