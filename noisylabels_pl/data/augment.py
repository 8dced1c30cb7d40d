"""Random crops and flips of a whole batch of images, on any device."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# The type of the one number that stores all channels of a pixel, by the bytes of the pixel.
_PIXEL_TYPES = {1: torch.uint8, 2: torch.int16, 4: torch.int32}


class Augmentation(NamedTuple):
    """The crop and the flip of each image of a batch.

    Attributes:
        offsets: ``(B, 2)`` int64 in ``0..2 * padding``: row and column of the padded image at which the crop starts.
        flips: ``(B,)`` bool: whether the image is mirrored left to right, after cropping.
    """

    offsets: Tensor
    flips: Tensor


class PaddedImages:
    """Store images so that a cropped and flipped batch is gathered in one indexing operation.

    Images are stored with their padding, and channels last. Up to four uint8 channels are stored as one number, so that
    a gather moves one number for each pixel.

    Args:
        x: ``(n, C, H, W)`` images of any type.
        padding: pixels of zeros to add on every side. Zeros are black, because images are not normalized yet.

    Example:
        >>> images = PaddedImages(torch.arange(6).view(1, 1, 2, 3), padding=1)
        >>> images.gather(torch.tensor([0]))
        tensor([[[[0, 1, 2],
                  [3, 4, 5]]]])
        >>> images.gather(torch.tensor([0]), Augmentation(torch.tensor([[2, 1]]), torch.tensor([True])))
        tensor([[[[5, 4, 3],
                  [0, 0, 0]]]])
    """

    def __init__(self, x: Tensor, padding: int) -> None:
        self.channels, self.height, self.width = x.shape[1:]
        self.padding = padding
        self.dtype = x.dtype
        self.stored = x.new_zeros(self.stored_shape(x, padding))
        self._without_padding()[..., : self.channels] = x.permute(0, 2, 3, 1)
        if x.dtype == torch.uint8 and self.channels <= 4:
            bytes_per_pixel = self.stored.shape[3]
            self.stored = self.stored.view(_PIXEL_TYPES[bytes_per_pixel])  # (n, padded height, padded width, 1)

    @staticmethod
    def stored_shape(x: Tensor, padding: int) -> tuple[int, ...]:
        """Return the shape ``(n, padded height, padded width, stored channels)`` in which ``x`` would be stored."""
        num_images, channels, height, width = x.shape
        # Three colors get an unused fourth byte, because there is no integer type of three bytes.
        stored_channels = 4 if x.dtype == torch.uint8 and channels == 3 else channels
        return num_images, height + 2 * padding, width + 2 * padding, stored_channels

    def gather(self, indices: Tensor, augmentation: Augmentation | None = None) -> Tensor:
        """Return some of the images, cropped and flipped if an augmentation is given.

        Args:
            indices: ``(B,)`` int64 rows of ``x``.
            augmentation: one crop and flip for each of the ``B`` images.

        Returns:
            ``(B, C, H, W)`` in the type of ``x``.
        """
        if augmentation is None:
            chosen = self._without_padding()[indices]
        else:
            offsets, flips = augmentation
            # Rows (B, H) and columns (B, W) of the padded images at which the pixels of the result lie.
            columns = torch.arange(self.width, device=indices.device)
            columns = torch.where(flips[:, None], columns.flip(0), columns) + offsets[:, 1:]
            rows = torch.arange(self.height, device=indices.device) + offsets[:, :1]
            chosen = self.stored[indices[:, None, None], rows[:, :, None], columns[:, None, :]]
        return chosen.view(self.dtype)[..., : self.channels].permute(0, 3, 1, 2).contiguous()

    def _without_padding(self) -> Tensor:
        """Return a view of the stored images that leaves their padding out."""
        rows = slice(self.padding, self.padding + self.height)
        columns = slice(self.padding, self.padding + self.width)
        return self.stored[:, rows, columns]


def crop_and_flip(x: Tensor, offsets: Tensor, flips: Tensor, *, padding: int) -> Tensor:
    """Return randomly cropped and mirrored images, given the crop and the flip of each.

    Args:
        x: ``(B, C, H, W)`` images of any type, not normalized yet, so that the zeros are black.
        offsets: ``(B, 2)`` int64 in ``0..2 * padding``: row and column of the padded image at which the crop starts.
        flips: ``(B,)`` bool: whether the image is mirrored left to right.
        padding: pixels added on every side before cropping.

    Returns:
        ``(B, C, H, W)`` in the type of ``x``. All tensors must be on one device.

    Example:
        >>> x = torch.tensor([[[[1, 2, 3]]]])
        >>> crop_and_flip(x, torch.tensor([[1, 0]]), torch.tensor([False]), padding=1)
        tensor([[[[0, 1, 2]]]])
    """
    everything = torch.arange(len(x), device=x.device)
    return PaddedImages(x, padding).gather(everything, Augmentation(offsets, flips))
