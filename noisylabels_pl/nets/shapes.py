"""Checks of what a network can take."""

from __future__ import annotations

from collections.abc import Sequence


def image_channels(net: str, input_shape: Sequence[int]) -> int:
    """Channels of a ``(C, H, W)`` sample, or a ``ValueError`` if it is no image."""
    if len(input_shape) != 3:
        raise ValueError(
            f"net={net} needs images (C, H, W), the data has samples of shape {tuple(input_shape)}; net=mlp"
        )
    return input_shape[0]
