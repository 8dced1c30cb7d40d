"""Checks of the shape of a network's input."""

from __future__ import annotations

from collections.abc import Sequence


def image_channels(net: str, input_shape: Sequence[int]) -> int:
    """Return the number of channels of the images that a network gets.

    Args:
        net: the network's name, for the message.
        input_shape: ``(C, H, W)`` of one sample.

    Raises:
        ValueError: samples are not images.

    Example:
        >>> image_channels("small_cnn", (3, 32, 32))
        3
    """
    if len(input_shape) != 3:
        raise ValueError(f"{net} needs images (C, H, W), got samples of shape {tuple(input_shape)}; use mlp for them")
    return input_shape[0]


def text_length(net: str, input_shape: Sequence[int]) -> int:
    """Return the number of tokens of the texts that a network gets.

    Args:
        net: the network's name, for the message.
        input_shape: ``(length,)`` of one sample.

    Raises:
        ValueError: samples are not texts.

    Example:
        >>> text_length("embedding_mean", (400,))
        400
    """
    if len(input_shape) != 1:
        raise ValueError(f"{net} needs texts (length,), got samples of shape {tuple(input_shape)}; use small_cnn")
    return input_shape[0]
