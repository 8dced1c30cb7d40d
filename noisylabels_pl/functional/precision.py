"""Numerical precision of kernels."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """Return the values in float32, or unchanged if they are in float64.

    Half types are too coarse for losses, probabilities and running averages: in bfloat16 ``1 - 1e-3`` is 1.

    Args:
        values: a floating-point tensor of any shape.

    Returns:
        A tensor of the same shape.

    Example:
        >>> import torch
        >>> from noisylabels_pl.functional import at_least_float32
        >>> at_least_float32(torch.ones(2, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))
