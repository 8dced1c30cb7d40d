"""Augmentation of a whole batch, with the draws given."""

from __future__ import annotations

import torch
from torch import Tensor

# The number that holds the bytes of a pixel.
_WIDE = {1: torch.uint8, 2: torch.int16, 4: torch.int32}


class PaddedImages:
    """Images laid out so that cropping and flipping a batch of them is one gather.

    Channels come last, the padding is in place, and up to four channels of bytes are one number.

    Args:
        x: ``(n, C, H, W)`` of any type.
        padding: pixels to be added on every side, as zeros; in images that are not normalized yet, black.
    """

    def __init__(self, x: Tensor, padding: int) -> None:
        self.channels, self.height, self.width = x.shape[1:]
        self.padding = padding
        self.dtype = x.dtype
        self.stored = x.new_zeros(self.shape(x, padding))
        self._inner(self.stored)[..., : self.channels] = x.permute(0, 2, 3, 1)
        if x.dtype == torch.uint8 and self.channels <= 4:
            self.stored = self.stored.view(_WIDE[self.stored.shape[3]])

    @staticmethod
    def shape(x: Tensor, padding: int) -> tuple[int, ...]:
        """Of the numbers of ``x``'s type that are stored."""
        n, channels, height, width = x.shape
        held = 4 if x.dtype == torch.uint8 and channels == 3 else channels
        return n, height + 2 * padding, width + 2 * padding, held

    def take(self, rows: Tensor, offsets: Tensor | None = None, flips: Tensor | None = None) -> Tensor:
        """Some of the images, cropped and flipped if it is said how.

        Args:
            rows: ``(B,)`` int64, which images.
            offsets: ``(B, 2)`` int64 in ``0..2 * padding``: where the crop starts in the padded image, rows then
                columns.
            flips: ``(B,)`` bool, which images to mirror left to right.

        Returns:
            ``(B, C, H, W)``.
        """
        if offsets is None or flips is None:
            chosen = self._inner(self.stored)[rows]
        else:
            columns = torch.arange(self.width, device=rows.device)
            columns = torch.where(flips[:, None], columns.flip(0), columns) + offsets[:, 1:]
            lines = torch.arange(self.height, device=rows.device) + offsets[:, :1]
            chosen = self.stored[rows[:, None, None], lines[:, :, None], columns[:, None, :]]
        return chosen.view(self.dtype)[..., : self.channels].permute(0, 3, 1, 2).contiguous()

    def _inner(self, stored: Tensor) -> Tensor:
        """Without the padding."""
        return stored[:, self.padding : self.padding + self.height, self.padding : self.padding + self.width]


def crop_and_flip(x: Tensor, offsets: Tensor, flips: Tensor, *, padding: int) -> Tensor:
    """Shift each image by its own offset, filling with zeros, and mirror some; all on one device.

    Args:
        x: ``(B, C, H, W)`` of any type, not normalized yet: what is shifted in is black.
        offsets: ``(B, 2)`` int64 in ``0..2 * padding``: where the crop starts in the padded image, rows then columns.
        flips: ``(B,)`` bool, which images to mirror left to right.
        padding: pixels added on every side before cropping.

    Returns:
        ``(B, C, H, W)``.
    """
    return PaddedImages(x, padding).take(torch.arange(len(x), device=x.device), offsets, flips)
