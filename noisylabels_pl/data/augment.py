"""Augmentation of a whole batch, with the draws given."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def crop_and_flip(x: Tensor, offsets: Tensor, flips: Tensor, *, padding: int) -> Tensor:
    """Shift each image by its own offset, filling with zeros, and mirror some; all on one device.

    Args:
        x: ``(B, C, H, W)`` of any type, not normalised yet: what is shifted in is black.
        offsets: ``(B, 2)`` int64 in ``0..2 * padding``: where the crop starts in the padded image, rows then columns.
        flips: ``(B,)`` bool, which images to mirror left to right.
        padding: pixels added on every side before cropping.

    Returns:
        ``(B, C, H, W)``.
    """
    height, width = x.shape[2:]
    padded = F.pad(x, (padding,) * 4)
    batch, columns = torch.arange(len(x), device=x.device), torch.arange(width, device=x.device)
    columns = torch.where(flips[:, None], columns.flip(0), columns) + offsets[:, 1:]
    rows = torch.arange(height, device=x.device) + offsets[:, :1]
    # Advanced indices on both sides of a slice put their own dimensions first.
    return padded[batch[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
