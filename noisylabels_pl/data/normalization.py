"""Ways to normalize the samples of a dataset."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch

from noisylabels_pl.data.arrays import Arrays
from noisylabels_pl.data.samples import read_in_chunks

Normalization = Literal["standardize", "unit", "pixel_mean", "imagenet"]

# Of the red, green and blue values in [0, 1] that networks pretrained on ImageNet were trained with.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def set_normalization(arrays: Arrays, normalization: Normalization) -> Arrays:
    """Return a dataset whose ``mean`` and ``std`` are those of a kind of normalization.

    Args:
        arrays: a dataset, with the mean and the standard deviation that standardize it.
        normalization: ``"standardize"`` keeps both; ``"unit"`` divides bytes by 255, so that samples lie in ``[0, 1]``;
            ``"pixel_mean"`` subtracts from each pixel its mean over the training set, without scaling; ``"imagenet"``
            takes the mean and standard deviation of ImageNet, for pretrained networks.

    Raises:
        ValueError: ``"unit"`` or ``"imagenet"`` is asked of samples that are no bytes, or no color images.

    Example:
        >>> from noisylabels_pl.data import Digits
        >>> digits = set_normalization(Digits().load(), "unit")
        >>> digits.mean, digits.std
        (tensor(0.), tensor(255.))
        >>> set_normalization(digits, "pixel_mean").mean.shape
        torch.Size([1, 8, 8])
    """
    if normalization in ("unit", "imagenet") and arrays.x_train.dtype != torch.uint8:
        raise ValueError(
            f"normalization={normalization!r} divides bytes by 255, but the samples are {arrays.x_train.dtype}; use "
            "normalization='standardize'"
        )
    if normalization == "unit":
        return replace(arrays, mean=torch.zeros(()), std=torch.full((), 255.0))
    if normalization == "imagenet":
        sample_shape = tuple(arrays.x_train.shape[1:])
        if len(sample_shape) != 3 or sample_shape[0] != 3:
            raise ValueError(
                f"normalization='imagenet' is for color images (3, H, W), but samples have shape {sample_shape}; use "
                "normalization='standardize'"
            )
        mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        return replace(arrays, mean=mean, std=std)
    if normalization == "pixel_mean":
        # In chunks, because a float64 copy of all images at once would take eight times the memory of their bytes.
        sums = [chunk.double().sum(0) for chunk in read_in_chunks(arrays.x_train)]
        mean = (torch.stack(sums).sum(0) / len(arrays.x_train)).float()
        return replace(arrays, mean=mean, std=torch.ones(()))
    return arrays
