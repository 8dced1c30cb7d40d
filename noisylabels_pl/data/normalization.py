"""Ways to normalize the samples of a dataset."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch

from noisylabels_pl.data.arrays import Arrays

Normalization = Literal["standardize", "unit", "pixel_mean"]


def set_normalization(arrays: Arrays, normalization: Normalization) -> Arrays:
    """Return a dataset whose ``mean`` and ``std`` are those of a kind of normalization.

    Args:
        arrays: a dataset, with the mean and the standard deviation that standardize it.
        normalization: ``"standardize"`` keeps both; ``"unit"`` divides bytes by 255, so that samples lie in ``[0, 1]``;
            ``"pixel_mean"`` subtracts from each pixel its mean over the training set, without scaling.

    Raises:
        ValueError: ``"unit"`` is asked of samples that are no bytes.

    Example:
        >>> from noisylabels_pl.data import Digits
        >>> digits = set_normalization(Digits().load(), "unit")
        >>> digits.mean, digits.std
        (tensor(0.), tensor(255.))
        >>> set_normalization(digits, "pixel_mean").mean.shape
        torch.Size([1, 8, 8])
    """
    if normalization == "unit":
        if arrays.x_train.dtype != torch.uint8:
            raise ValueError(
                f"normalization='unit' divides bytes by 255, but the samples are {arrays.x_train.dtype}; use "
                "normalization='standardize'"
            )
        return replace(arrays, mean=torch.zeros(()), std=torch.full((), 255.0))
    if normalization == "pixel_mean":
        # In chunks, because a float64 copy of all images at once would take eight times the memory of their bytes.
        sums = [chunk.double().sum(0) for chunk in torch.split(arrays.x_train, 4096)]
        mean = (torch.stack(sums).sum(0) / len(arrays.x_train)).float()
        return replace(arrays, mean=mean, std=torch.ones(()))
    return arrays
