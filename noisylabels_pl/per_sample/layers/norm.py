"""Per-sample gradients of layer and group normalization."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from noisylabels_pl.functional.precision import at_least_float32
from noisylabels_pl.per_sample.layers.base import ClosedForm, broadcast_weights, chunks


class AffineNorm(ClosedForm):
    """Per-sample gradients of a normalization with a scale (``weight``) and a shift (``bias``).

    These gradients have few values. So the constructor computes them, and keeps neither activations nor backprops.

    Args:
        layer: the layer.
        activations: its input, ``(B, ...)``.
        backprops: the gradients at its output, of the same shape.
    """

    reduces_backprops = True

    def __init__(self, layer: Any, activations: Tensor, backprops: Tensor) -> None:
        self.layer = layer
        self.values_per_sample = 2 * layer.weight.numel()
        scale_gradients = []
        shift_gradients = []
        for chunk in chunks(activations, 4 * activations[:1].numel()):
            chunk_backprops = at_least_float32(backprops[chunk])
            chunk_activations = activations[chunk].to(chunk_backprops.dtype)
            scale_gradient, shift_gradient = self.scale_and_shift_gradients(chunk_activations, chunk_backprops)
            scale_gradients.append(scale_gradient)
            shift_gradients.append(shift_gradient)
        self.gradients = {"weight": torch.cat(scale_gradients), "bias": torch.cat(shift_gradients)}

    @abstractmethod
    def scale_and_shift_gradients(self, activations: Tensor, backprops: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of scale and shift for each sample, both ``(b, *weight.shape)``."""

    def per_sample_gradient(self, name: str, chunk: slice) -> Tensor:
        return self.gradients[name][chunk]

    def weighted_gradient(self, names: Sequence[str], indices: Tensor, weights: Tensor) -> dict[str, Tensor]:
        weighted_gradients = {}
        for name in names:
            gradients = self.gradients[name][indices]
            weighted_gradients[name] = (broadcast_weights(weights, gradients) * gradients).sum(0)
        return weighted_gradients


class LayerNorm(AffineNorm):
    """Per-sample gradients of :class:`torch.nn.LayerNorm`."""

    def scale_and_shift_gradients(self, activations: Tensor, backprops: Tensor) -> tuple[Tensor, Tensor]:
        shape = self.layer.normalized_shape
        products = backprops * F.layer_norm(activations, shape, eps=self.layer.eps)
        scale_gradients = products.reshape(len(activations), -1, *shape).sum(1)
        shift_gradients = backprops.reshape(len(activations), -1, *shape).sum(1)
        return scale_gradients, shift_gradients


class GroupNorm(AffineNorm):
    """Per-sample gradients of :class:`torch.nn.GroupNorm`."""

    def scale_and_shift_gradients(self, activations: Tensor, backprops: Tensor) -> tuple[Tensor, Tensor]:
        # F.group_norm would be slow where channels come last in memory. So each channel is centered on its own mean
        # first. Its offset from the mean of its group then enters the variance and the gradient.
        activations = activations.reshape(*activations.shape[:2], -1)
        backprops = backprops.reshape(*backprops.shape[:2], -1)
        channel_means = activations.mean(2)
        centered = activations - channel_means.unsqueeze(2)
        offsets = channel_means - self._group_means(channel_means)
        group_variances = self._group_means(centered.square().mean(2) + offsets.square())
        inverse_deviations = (group_variances + self.layer.eps).rsqrt()

        shift_gradients = backprops.sum(2)
        products = (centered * backprops).sum(2) + offsets * shift_gradients
        scale_gradients = products * inverse_deviations
        return scale_gradients, shift_gradients

    def _group_means(self, channel_values: Tensor) -> Tensor:
        """Return for each channel ``(b, channels)`` the mean of the values over the channels of its group."""
        groups = channel_values.reshape(len(channel_values), self.layer.num_groups, -1)
        return groups.mean(2, keepdim=True).expand_as(groups).flatten(1)
