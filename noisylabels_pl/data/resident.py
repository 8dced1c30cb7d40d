"""Datasets that lie on the device that trains, so that a batch is cut out of them there."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from torch import Tensor

from noisylabels_pl.data.augment import PaddedImages
from noisylabels_pl.memory import free_memory

_log = logging.getLogger(__name__)
_SHARE = 4  # "auto" takes at most one part in so many of what is free


class Resident:
    """Samples and their targets on one device.

    Args:
        x: ``(n, ...)``, on the CPU.
        y: ``(n, ...)``.
        device: where they are to lie.
        padding: for :class:`PaddedImages`; ``None`` if the samples will not be cropped or flipped.
    """

    def __init__(self, x: Tensor, y: Tensor, device: torch.device, padding: int | None) -> None:
        self.x = x.to(device) if padding is None else PaddedImages(x.to(device), padding)
        self.y = y.to(device)

    @staticmethod
    def size(x: Tensor, y: Tensor, padding: int | None) -> int:
        """Bytes that it takes."""
        numbers = x.numel() if padding is None else math.prod(PaddedImages.shape(x, padding))
        return numbers * x.element_size() + y.numel() * y.element_size()

    def take(self, rows: Tensor, offsets: Tensor | None = None, flips: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The samples of some rows, cropped and flipped as :meth:`PaddedImages.take` does, and their targets."""
        x = self.x.take(rows, offsets, flips) if isinstance(self.x, PaddedImages) else self.x[rows]
        return x, self.y[rows]


class ResidentRows:
    """What a batch has in the place of its samples: which rows of what is on the device they are."""

    # Not a dataclass, whose fields Lightning's precision plugins would copy.
    def __init__(self, of: Resident, rows: Tensor) -> None:
        self.of = of
        self.rows = rows

    def to(self, *args: Any, **kwargs: Any) -> ResidentRows:
        """What Lightning moves to the device is the positions."""
        return ResidentRows(self.of, self.rows.to(*args, **kwargs))


def fits(size: int, device: torch.device) -> bool:
    """Whether ``size`` bytes are little enough of what is free on the device to be taken without asking."""
    free = free_memory(device)
    enough = free is not None and _SHARE * size <= free
    _log.debug("%d MiB of data, %s free on %s", size >> 20, "unknown" if free is None else f"{free >> 20} MiB", device)
    return enough
