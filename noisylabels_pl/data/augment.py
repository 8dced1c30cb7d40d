"""Random crops and flips of a whole batch of images, on any device."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from noisylabels_pl.data.samples import Samples

# The type of the one number that stores all channels of a pixel, by the bytes of the pixel.
_PIXEL_TYPES = {1: torch.uint8, 2: torch.int16, 4: torch.int32}


class Augmentation(NamedTuple):
    """The crop and the flip of each image of a batch.

    Attributes:
        offsets: ``(B, 2)`` int64: row and column of the padded image at which the crop starts.
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
        crop_size: height and width of the crops; ``None`` for those of the images.

    Example:
        >>> images = PaddedImages(torch.arange(6).view(1, 1, 2, 3), padding=1)
        >>> images.gather(torch.tensor([0]))
        tensor([[[[0, 1, 2],
                  [3, 4, 5]]]])
        >>> images.gather(torch.tensor([0]), Augmentation(torch.tensor([[2, 1]]), torch.tensor([True])))
        tensor([[[[5, 4, 3],
                  [0, 0, 0]]]])
    """

    def __init__(self, x: Tensor, padding: int, crop_size: int | None = None) -> None:
        self.channels, self.height, self.width = x.shape[1:]
        self.padding = padding
        self.crop_size = crop_size
        self.dtype = x.dtype
        self.stored = x.new_zeros(self.stored_shape(x, padding))
        inside = self.stored[:, padding : padding + self.height, padding : padding + self.width]
        inside[..., : self.channels] = x.permute(0, 2, 3, 1)
        if x.dtype == torch.uint8 and self.channels <= 4:
            bytes_per_pixel = self.stored.shape[3]
            self.stored = self.stored.view(_PIXEL_TYPES[bytes_per_pixel])  # (n, padded height, padded width, 1)

    @staticmethod
    def stored_shape(x: Samples, padding: int) -> tuple[int, ...]:
        """Return the shape ``(n, padded height, padded width, stored channels)`` in which ``x`` would be stored."""
        num_images, channels, height, width = x.shape
        # Three colors get an unused fourth byte, because there is no integer type of three bytes.
        stored_channels = 4 if x.dtype == torch.uint8 and channels == 3 else channels
        return num_images, height + 2 * padding, width + 2 * padding, stored_channels

    def gather(self, indices: Tensor, augmentation: Augmentation | None = None) -> Tensor:
        """Return some of the images, cropped and flipped if an augmentation is given, otherwise cut out of the middle.

        Args:
            indices: ``(B,)`` int64 rows of ``x``.
            augmentation: one crop and flip for each of the ``B`` images.

        Returns:
            ``(B, C, H, W)`` in the type of ``x``.
        """
        height = self.crop_size or self.height
        width = self.crop_size or self.width
        if augmentation is None:
            top = self.padding + (self.height - height) // 2
            left = self.padding + (self.width - width) // 2
            chosen = self.stored[:, top : top + height, left : left + width][indices]
        else:
            offsets, flips = augmentation
            # Rows (B, H) and columns (B, W) of the padded images at which the pixels of the result lie.
            columns = torch.arange(width, device=indices.device)
            columns = torch.where(flips[:, None], columns.flip(0), columns) + offsets[:, 1:]
            rows = torch.arange(height, device=indices.device) + offsets[:, :1]
            chosen = self.stored[indices[:, None, None], rows[:, :, None], columns[:, None, :]]
        return chosen.view(self.dtype)[..., : self.channels].permute(0, 3, 1, 2).contiguous()


def crop_and_flip(x: Tensor, offsets: Tensor, flips: Tensor, *, padding: int, crop_size: int | None = None) -> Tensor:
    """Return randomly cropped and mirrored images, given the crop and the flip of each.

    Args:
        x: ``(B, C, H, W)`` images of any type, not normalized yet, so that the zeros are black.
        offsets: ``(B, 2)`` int64: row and column of the padded image at which the crop starts.
        flips: ``(B,)`` bool: whether the image is mirrored left to right.
        padding: pixels added on every side before cropping.
        crop_size: height and width of the crops; ``None`` for those of the images.

    Returns:
        ``(B, C, H, W)`` in the type of ``x``. All tensors must be on one device.

    Example:
        >>> x = torch.tensor([[[[1, 2, 3]]]])
        >>> crop_and_flip(x, torch.tensor([[1, 0]]), torch.tensor([False]), padding=1)
        tensor([[[[0, 1, 2]]]])
    """
    everything = torch.arange(len(x), device=x.device)
    return PaddedImages(x, padding, crop_size).gather(everything, Augmentation(offsets, flips))


def center_crop(x: Tensor, crop_size: int | None) -> Tensor:
    """Return the middle of each image.

    Args:
        x: ``(B, C, H, W)`` images of any type.
        crop_size: height and width of the middle; ``None`` for the whole image.

    Returns:
        ``(B, C, crop_size, crop_size)``, a view.

    Example:
        >>> center_crop(torch.tensor([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]]), 1)
        tensor([[[[5]]]])
    """
    if crop_size is None:
        return x
    top = (x.shape[2] - crop_size) // 2
    left = (x.shape[3] - crop_size) // 2
    return x[:, :, top : top + crop_size, left : left + crop_size]


class EpochAugmentations:
    """The crops and flips of all training samples in an epoch: random, anywhere in the padded images.

    They follow from the seed, the epoch and the position of a sample.

    Args:
        seed: of the crops and flips.
        num_samples: the number of images.
        padded_size: height and width of the images with their padding.
        crop_size: height and width of the crops.
        flip: whether to mirror half of the images.

    Example:
        >>> augmentations = EpochAugmentations(0, 5, padded_size=(10, 10), crop_size=(8, 8), flip=True)
        >>> augmentations.at(torch.tensor([3, 1]), epoch=0).offsets
        tensor([[0, 2],
                [2, 1]])
    """

    def __init__(
        self, seed: int, num_samples: int, *, padded_size: tuple[int, int], crop_size: tuple[int, int], flip: bool
    ) -> None:
        self.seed = seed
        self.num_samples = num_samples
        self.num_places = [padded - crop + 1 for padded, crop in zip(padded_size, crop_size, strict=True)]
        self.flip = flip
        self._drawn: Augmentation | None = None  # in the epoch of the last batch
        self._epoch = -1

    def at(self, index: Tensor, epoch: int) -> Augmentation:
        """Return the crops and flips of the samples at the positions ``index`` ``(B,)``, on its device."""
        drawn = self._drawn
        if drawn is None or self._epoch != epoch or drawn.flips.device != index.device:
            drawn = self._draw(epoch, index.device)
            self._drawn = drawn
            self._epoch = epoch
        return Augmentation(drawn.offsets[index], drawn.flips[index])

    def _draw(self, epoch: int, device: torch.device) -> Augmentation:
        rng = np.random.default_rng([self.seed, 1, epoch])
        offsets = rng.integers(0, self.num_places, size=(self.num_samples, 2))
        flips = rng.random(self.num_samples) < (0.5 if self.flip else 0.0)
        return Augmentation(torch.from_numpy(offsets).to(device), torch.from_numpy(flips).to(device))
